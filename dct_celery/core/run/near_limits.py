"""What took most of the time that it may take: on a busier day it would have been ended."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dct_celery.core.metrics import FixtureUse
from dct_celery.core.model import Chunk, FixtureRef, Limited, NearLimit, Verdict
from dct_celery.core.plan.limits import FIXTURE_SECONDS, NEAR, TEST_SECONDS, ChunkLimits

#: Most of them that are kept.
MOST = 1000
#: Most of them that are named while the run goes on; the report has all.
_MOST_NAMED = 10


class NearLimits:
    """Those of one run, in the order in which they were found. Each method returns lines to show.

    `test` and `fixture`: limits in seconds by the run's options, as for `ChunkLimits`.
    """

    def __init__(self, test: float | None = None, fixture: float | None = None) -> None:
        self.found: list[NearLimit] = []
        self._test = test
        self._fixture = fixture
        #: Nearly all tests and chunks are far below the least limit that one may have.
        self._least = NEAR * min(
            TEST_SECONDS if test is None else test or math.inf,
            FIXTURE_SECONDS if fixture is None else fixture or math.inf,
        )

    def test(self, verdict: Verdict, chunk: Chunk) -> Iterator[str]:
        """A test has ended."""
        if verdict.seconds < self._least:
            return
        limit = ChunkLimits(chunk, self._test, self._fixture).of_test(verdict.entry.index)
        yield from self._near(Limited.TEST, verdict.entry.id, verdict.seconds, limit)

    def chunk(
        self, chunk: Chunk, seconds: float, fixtures: tuple[FixtureUse, ...]
    ) -> Iterator[str]:
        """A chunk has ended."""
        if seconds < self._least:
            return
        limits = ChunkLimits(chunk, self._test, self._fixture)
        for name, took, _ in fixtures:
            if _has_a_limit(name):
                yield from self._near(Limited.FIXTURE, name, took, limits.fixture)
        yield from self._near(Limited.CHUNK, chunk.id, seconds, limits.of_chunk())

    def run(self, run: str, seconds: float, limit: float) -> Iterator[str]:
        """The run has lasted so long. To be asked again and again; it is named once."""
        if not any(one.kind is Limited.RUN for one in self.found):
            yield from self._near(Limited.RUN, run, seconds, limit)

    def _near(self, kind: Limited, name: str, seconds: float, limit: float) -> Iterator[str]:
        """What went beyond its limit was ended, which its own verdict says."""
        if not limit or not NEAR * limit <= seconds < limit or len(self.found) >= MOST:
            return
        one = NearLimit(kind, name, round(seconds, 3), limit)
        self.found.append(one)
        if len(self.found) <= _MOST_NAMED:
            yield f"near its limit: {one}"


def _has_a_limit(fixture: str) -> bool:
    """Fixtures of pytest are a part of a test, and its limit theirs."""
    try:
        FixtureRef.parse(fixture)
    except ValueError:
        return False
    return True
