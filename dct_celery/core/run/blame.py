"""Which test a crash of a test process is blamed on, and when that becomes a verdict (I7, I8).

The suspect is the test that was running, or the class (or module) whose fixture was. It runs again
alone, in a fresh fork, on another worker if there is one; the second crash is its verdict. Behind a
tear-down all tests have verdicts: the last of them runs again for its sake. What the process had
recorded stands. Crashes are counted over the whole run: beyond the budget the run ends with what it
has, because then no single test is to blame.
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

#: A test or fixture during which a process crashed this often gets the verdict `error`.
MAX_CRASHES = 2
#: Crashes that every run may have.
LEAST_BUDGET = 5
#: Crashes that a run may have, as a share of its chunks, if that is more.
BUDGET_SHARE = 0.02


@dataclass(slots=True)
class Deaths:
    """Counts crashes of test processes.

    `budget`: how many a run may have; None for the default, 0 for no limit.
    """

    budget: int | None = None
    total: int = 0
    _blamed: dict[int | FixtureRef, int] = field(default_factory=lambda: defaultdict(int))

    def blame(self, suspect: int | FixtureRef) -> bool:
        """Counts a crash during this test (index) or fixture; True if that is its verdict."""
        self._blamed[suspect] += 1
        return self._blamed[suspect] >= MAX_CRASHES

    def suspected(self, suspect: int | FixtureRef) -> bool:
        """Whether a process crashed during it before."""
        return suspect in self._blamed

    def exceeded(self, chunks: int) -> str:
        """Why the run must end after `chunks` claims; empty while it may go on."""
        most = self.budget
        if most is None:
            most = max(LEAST_BUDGET, math.ceil(chunks * BUDGET_SHARE))
        if self.total <= most or self.budget == 0:
            return ""
        return (
            f"{self.total} test processes died, which is more than the run may have"
            f" (--crash-budget {most})"
        )


def covered_by(fixture: FixtureRef, manifest: Manifest, indices: Iterable[int]) -> tuple[int, ...]:
    """Those of the entries that cannot run if this fixture does not end; none for a tear-down."""
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
    return FixtureVerdict(
        fixture,
        Outcome.ERROR,
        worker=lease.worker,
        slot=lease.slot,
        failures=(_failure(end, f"{fixture}, twice", suffix=f" during {fixture}"),),
    )


def how(cause: str) -> str:
    """ "died (signal 11)" or "killed (signal 9), memory peak 312 MB", as the slot reports it."""
    return cause if cause.startswith("killed") else f"died ({cause})"


def _failure(end: ChunkReleased, what: str, suffix: str = "") -> Failure:
    text = f"The test process {_was(end.cause)} during {what}.\n\n{end.detail}".rstrip()
    return Failure("error", "dct.ProcessDied", f"process {how(end.cause)}{suffix}", text)


def _was(cause: str) -> str:
    return f"was {how(cause)}" if cause.startswith("killed") else how(cause)
