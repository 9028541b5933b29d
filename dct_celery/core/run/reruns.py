"""Retries on purpose (--reruns): which failures are held back, and what several attempts amount to.

A test that failed runs again, alone and in a fresh fork, until it passes or its reruns are used up.
Only a pass clears it (it is flaky then, which every report says); otherwise its last failure
stands. Losses by infrastructure and crashes of processes are not reruns: they have limits of their
own. A class fixture that failed is not run again: its tests have never run, so none of them failed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace

from dct_celery.core.model import BAD_OUTCOMES, Chunk, Outcome, Verdict

#: An unexpected success is not a flake: the mark is wrong, however often the test runs.
_DOUBTFUL = frozenset({Outcome.FAILED, Outcome.ERROR})


@dataclass(slots=True)
class Reruns:
    """The attempts of tests that failed. Without arguments it holds nothing back."""

    #: How often one test may run again.
    most: int = 0
    #: How many tests may fail; beyond that, nothing is held back any longer.
    allowed: int = 0
    #: Index -> chunk id -> verdict of the attempt in that chunk, in the order of arrival.
    _attempts: dict[int, dict[str, Verdict]] = field(default_factory=lambda: defaultdict(dict))
    _failed: set[int] = field(default_factory=set)
    _budget_reported: bool = False

    @classmethod
    def of(cls, most: int, percent: float, tests: int) -> Reruns:
        """Budget: `percent` of `tests`, rounded up, so that a small suite may have a flaky test."""
        # Rounded first: in binary, 32.2 percent of 500 is a little more than 161.
        return cls(most, math.ceil(round(tests * percent / 100, 6)))

    @property
    def exhausted(self) -> bool:
        """More tests failed than the budget allows: the build is broken, not flaky."""
        return len(self._failed) > self.allowed

    def has_result(self, index: int, chunk: str) -> bool:
        """This attempt was counted before: another record of it is a duplicate."""
        return chunk in self._attempts.get(index, ())

    def hold(self, chunk: str, verdict: Verdict) -> bool:
        """Whether the test is to run again; then the verdict is kept here, else it is final."""
        index = verdict.entry.index
        if not self.most or verdict.outcome not in _DOUBTFUL:
            return False
        self._failed.add(index)
        before = len(self._attempts.get(index, ()))
        if self.exhausted or before >= self.most:
            return False
        self._attempts[index][chunk] = _without_reruns(verdict, before)
        return True

    def budget_warning(self) -> str:
        """One line when the budget is first exceeded; otherwise empty."""
        if self._budget_reported or not self.exhausted:
            return ""
        self._budget_reported = True
        return (
            f"more than {self.allowed} tests failed, which is what --reruns-budget allows; no"
            " further test runs again"
        )

    def held(self, chunk: Chunk) -> tuple[int, ...]:
        """Indices of the chunk whose result in it was held back.

        Some may have their final verdict by now; the caller knows.
        """
        return tuple(index for index in chunk.indices if self.has_result(index, chunk.id))

    def repeats(self, chunk: Chunk) -> bool:
        """Whether the chunk runs a test that failed in another chunk."""
        return any(set(self._attempts.get(index, ())) - {chunk.id} for index in chunk.indices)

    def last(self, index: int) -> Verdict | None:
        """The final verdict of a test whose last failure stands; None if it never failed."""
        attempts = tuple(self._attempts.get(index, {}).values())
        return replace(attempts[-1], earlier=attempts[:-1]) if attempts else None

    def settle(self, verdict: Verdict) -> Verdict:
        """The final verdict, with the attempts before it.

        Anything but a pass or a failure leaves the last failure standing.
        """
        earlier = tuple(self._attempts.get(verdict.entry.index, {}).values())
        if not earlier:
            return verdict
        if verdict.outcome is Outcome.PASSED or verdict.outcome in BAD_OUTCOMES:
            return replace(_without_reruns(verdict, len(earlier)), earlier=earlier)
        return self.last(verdict.entry.index) or verdict


def _without_reruns(verdict: Verdict, reruns: int) -> Verdict:
    """The verdict with its attempt counted without reruns.

    Repetitions because of infrastructure are counted apart from reruns.
    """
    return replace(verdict, attempt=max(verdict.attempt - reruns, 1))
