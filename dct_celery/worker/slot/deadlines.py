"""Time limits in one chunk: for a test, a fixture, silence outside both, and the whole chunk."""

from __future__ import annotations

from dataclasses import dataclass

from dct_celery.core.model import Chunk, FixtureRef
from dct_celery.core.plan.limits import ChunkLimits
from dct_celery.wire import messages

#: Longest gap between polls that is charged to the test, in seconds: a suspended worker is not the
#: test's fault.
GAP = 1.0


@dataclass(frozen=True, slots=True)
class Overdue:
    """What took longer than `limit` seconds: a fixture, or a test, or neither, if the process was
    silent outside both.
    """

    limit: float
    index: int | None = None
    fixture: FixtureRef | None = None

    @property
    def message(self) -> str:
        return f"timed out after {self.limit:g} s"


class ChunkDeadlines:
    """Measures one chunk. `now` is always monotonic seconds.

    `test` and `fixture`: limits in seconds by the run's options; None for the usual ones, 0 for
    none.
    """

    def __init__(self, chunk: Chunk, test: float | None, fixture: float | None, now: float) -> None:
        self._limits = ChunkLimits(chunk, test, fixture)
        #: What is running, by the last message.
        self.index: int | None = None
        self.fixture: FixtureRef | None = None
        #: Seconds since the last message.
        self.spent = 0.0
        self._whole = 0.0
        self._polled_at = now
        self._most = self._limits.of_chunk()

    def begin(self, now: float) -> None:
        """The process has received its chunk."""
        self._polled_at = now

    def hear(self, message: messages.Message) -> None:
        """The process has made progress."""
        if isinstance(message, messages.TestStarted):
            self.index, self.fixture = message.index, None
        elif isinstance(message, messages.FixtureStarted):
            self.fixture = message.fixture
        elif isinstance(message, messages.TestFinished):
            self.index = None
        elif not isinstance(message, messages.FixtureFinished):
            return
        self.spent = 0.0

    def check(self, now: float, *, silent: bool) -> Overdue | None:
        """What is overdue now. To be called several times a second. `silent`: no message of the
        process is left unread.
        """
        step = min(now - self._polled_at, GAP)
        self._polled_at = now
        self.spent += step
        self._whole += step
        if self._most and self._whole > self._most:
            return Overdue(self._most)
        limit = (
            self._limits.of_test(self.index)
            if self.index is not None and not self.fixture
            else self._limits.fixture
        )
        if not limit or not silent or self.spent <= limit:
            return None
        return Overdue(limit, None if self.fixture else self.index, self.fixture)
