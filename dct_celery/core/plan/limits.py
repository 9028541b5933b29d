"""How long a test or fixture may take: the exceptions to the defaults that every slot knows.

A limit is for tests that hang, not for slow ones: it must never end a test that would have passed
on a busy machine. So it is a multiple of what the test took before.
"""

from __future__ import annotations

from collections.abc import Iterable

from dct_celery.core.model import Chunk, Manifest
from dct_celery.core.plan.timings import Estimates

#: Seconds that any test may take without --test-timeout.
TEST_SECONDS = 60.0
#: The same for a test that was never timed: whether it is slow is unknown.
UNTIMED_SECONDS = 600.0
#: Seconds that a class or module fixture, or importing the project, may take without
#: --fixture-timeout.
FIXTURE_SECONDS = 300.0
#: How many times its previous duration a test or fixture may take.
PATIENCE = 10.0
#: Share of a limit from which what took so long is named: next time it may be ended.
NEAR = 0.8


class Limits:
    """Tests and classes of a manifest that get more time than the default.

    Without arguments there are none.
    """

    def __init__(
        self, manifest: Manifest | None = None, estimates: Estimates | None = None
    ) -> None:
        self._tests: dict[int, float] = {}
        self._fixtures: dict[int, float] = {}
        if manifest is None or estimates is None:
            return
        for entry in manifest:
            seconds = estimates.test(entry)
            limit = UNTIMED_SECONDS if seconds is None else PATIENCE * seconds
            if limit > TEST_SECONDS:
                self._tests[entry.index] = round(limit, 1)
            limit = PATIENCE * estimates.class_cost(entry.cls)
            if limit > FIXTURE_SECONDS:
                self._fixtures[entry.index] = round(limit, 1)

    def base(self, indices: Iterable[int]) -> float:
        """Seconds for those of these tests that `tests` does not list."""
        return min(
            (self._tests.get(index, TEST_SECONDS) for index in indices), default=TEST_SECONDS
        )

    def tests(self, indices: Iterable[int]) -> tuple[tuple[int, float], ...]:
        """(index, seconds) of those that may take longer than `base`."""
        indices = tuple(indices)
        base = self.base(indices)
        found = ((index, self._tests.get(index, TEST_SECONDS)) for index in indices)
        return tuple((index, seconds) for index, seconds in found if seconds > base)

    def fixture(self, indices: Iterable[int]) -> float:
        """Seconds for the fixtures of these entries' classes; 0 if FIXTURE_SECONDS is enough."""
        return max((self._fixtures.get(index, 0.0) for index in indices), default=0.0)


class ChunkLimits:
    """The limits in one chunk, in seconds; 0 for none.

    `test` and `fixture`: those of the run's options; None for the usual ones, 0 for none.
    """

    def __init__(self, chunk: Chunk, test: float | None, fixture: float | None) -> None:
        self._chunk = chunk
        self._test = test
        self._base, self._slow = chunk.test_limit, dict(chunk.limits)
        #: Of each fixture.
        self.fixture = max(FIXTURE_SECONDS, chunk.fixture_limit) if fixture is None else fixture

    def of_test(self, index: int) -> float:
        return self._slow.get(index, self._base) if self._test is None else self._test

    def of_chunk(self) -> float:
        """The limit of the whole chunk, with fixtures around each test; 0 if any limit is off."""
        limits = [self.of_test(index) for index in (*self._chunk.preamble, *self._chunk.indices)]
        if not self.fixture or not all(limits):
            return 0.0
        return sum(limits) + self.fixture * 3 * (len(limits) + 1)
