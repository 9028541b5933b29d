"""The poison ladder: whom the death of a test process is blamed on, and when that becomes a verdict
(I7, I8).

The suspect is the test that was running, or the class (or module) whose fixture was. It runs again
alone, in a fresh fork and on another worker where there is one; the second death is the verdict. Of
a tear-down all tests have had their verdicts and will not run again, so its first death is its
verdict. Whatever the dead process had recorded stands. Deaths are counted over the whole run:
beyond the budget the run ends with what it has, because then it is not one test that is sick.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dct_celery.core.model import (
    Entry,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Manifest,
    Outcome,
    Verdict,
)
from dct_celery.core.run.events import ChunkReleased
from dct_celery.core.run.leases import LeaseRef

#: A test (or a fixture) during which a process died this often gets the verdict `error`.
MAX_CRASHES = 2
#: The crash budget: so many deaths, or this part of the chunks, whichever is more.
LEAST_BUDGET, BUDGET_SHARE = 5, 0.02


@dataclass(slots=True)
class Deaths:
    """Counts deaths of test processes. `budget`: how many one run may have; None for the rule, 0
    for no limit.
    """

    budget: int | None = None
    total: int = 0
    _blamed: dict[int | FixtureRef, int] = field(default_factory=lambda: defaultdict(int))

    def blame(self, suspect: int | FixtureRef) -> bool:
        """One more death of this test (index) or fixture; True when that is its verdict."""
        self._blamed[suspect] += 1
        last = isinstance(suspect, FixtureRef) and not suspect.sets_up
        return last or self._blamed[suspect] >= MAX_CRASHES

    def exceeded(self, chunks: int) -> str:
        """Why the run has to end, `chunks` having been claimed so far; empty while it may go on."""
        most = (
            max(LEAST_BUDGET, math.ceil(chunks * BUDGET_SHARE))
            if self.budget is None
            else self.budget
        )
        if self.total <= most or self.budget == 0:
            return ""
        return (
            f"{self.total} test processes died, which is more than the run may have (--crash-budget"
            f" {most})"
        )


def covered_by(fixture: FixtureRef, manifest: Manifest, indices: Iterable[int]) -> tuple[int, ...]:
    """Those of the entries that cannot run when this fixture does not end; none for a tear-down."""
    return tuple(index for index in indices if fixture.keeps(manifest[index]))


def death_of_test(entry: Entry, lease: LeaseRef, end: ChunkReleased) -> Verdict:
    return Verdict(
        entry,
        Outcome.ERROR,
        worker=lease.worker,
        slot=lease.slot,
        attempt=lease.attempt,
        failures=(_failure(end, "this test, twice"),),
    )


def death_of_fixture(fixture: FixtureRef, lease: LeaseRef, end: ChunkReleased) -> FixtureVerdict:
    times = ", twice" if fixture.sets_up else ""
    return FixtureVerdict(
        fixture,
        Outcome.ERROR,
        worker=lease.worker,
        slot=lease.slot,
        failures=(_failure(end, f"{fixture}{times}", suffix=f" during {fixture}"),),
    )


def how(cause: str) -> str:
    """ "died (signal 11)" or "killed (signal 9), memory peak 312 MB", as the slot says it."""
    return cause if cause.startswith("killed") else f"died ({cause})"


def _failure(end: ChunkReleased, what: str, suffix: str = "") -> Failure:
    text = f"The test process {_was(end.cause)} during {what}.\n\n{end.detail}".rstrip()
    return Failure("error", "dct.ProcessDied", f"process {how(end.cause)}{suffix}", text)


def _was(cause: str) -> str:
    return f"was {how(cause)}" if cause.startswith("killed") else how(cause)
