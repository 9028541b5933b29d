"""Watches one chunk for what does not come to an end: a test, a fixture, the silence around them,
the chunk as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from dct_celery.core.model import Chunk, FixtureRef
from dct_celery.core.plan.limits import FIXTURE_SECONDS
from dct_celery.wire import messages

#: Seconds between two looks that are believed to be the test's: a worker that was stopped or cut
#: off for longer blames nobody.
GAP = 1.0


@dataclass(frozen=True, slots=True)
class Overdue:
    """What took too long: a fixture or else a test (neither: the process said nothing), after how
    many seconds.
    """

    limit: float
    index: int | None = None
    fixture: FixtureRef | None = None

    @property
    def message(self) -> str:
        return f"timed out after {self.limit:g} s"


class ChunkDeadlines:
    """`test` and `fixture`: seconds by the run's options; None for the usual limits, 0 for none.
    `now` is monotonic seconds.
    """

    def __init__(self, chunk: Chunk, test: float | None, fixture: float | None, now: float) -> None:
        self._test = test
        self._base, self._slow = chunk.test_limit, dict(chunk.limits)
        self._fixture = max(FIXTURE_SECONDS, chunk.fixture_limit) if fixture is None else fixture
        #: What is running, as far as the process has said.
        self.index: int | None = None
        self.fixture: FixtureRef | None = None
        #: Seconds since it said something.
        self.spent = 0.0
        self._whole = 0.0
        self._looked = now
        self._most = self._of_chunk(chunk)

    def _of_chunk(self, chunk: Chunk) -> float:
        """The net under all other limits: each test may have fixtures around it; 0 where any of
        them is off.
        """
        limits = [self._of_test(index) for index in chunk.indices]
        if not self._fixture or not all(limits):
            return 0.0
        return sum(limits) + self._fixture * 3 * (len(limits) + 1)

    def _of_test(self, index: int) -> float:
        return self._slow.get(index, self._base) if self._test is None else self._test

    def begin(self, now: float) -> None:
        """The process has its order."""
        self._looked = now

    def hear(self, message: messages.Message) -> None:
        """The process has come one step further."""
        if isinstance(message, messages.TestStarted):
            self.index, self.fixture = message.index, None
        elif isinstance(message, messages.FixtureStarted):
            self.fixture = message.fixture
        elif isinstance(message, messages.TestFinished):
            self.index = None
        elif not isinstance(message, messages.FixtureFinished):
            return
        self.spent = 0.0

    def look(self, now: float, *, silent: bool) -> Overdue | None:
        """To be called several times a second. `silent`: nothing is left of what the process has
        said.
        """
        step = min(now - self._looked, GAP)
        self._looked = now
        self.spent += step
        self._whole += step
        if self._most and self._whole > self._most:
            return Overdue(self._most)
        limit = (
            self._of_test(self.index)
            if self.index is not None and not self.fixture
            else self._fixture
        )
        if not limit or not silent or self.spent <= limit:
            return None
        return Overdue(limit, None if self.fixture else self.index, self.fixture)
