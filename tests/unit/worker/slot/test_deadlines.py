"""Claims about `worker.slot.deadlines`: who is overdue, and that a worker that was stopped blames
nobody.
"""

from __future__ import annotations

from typing import Any

from dct_celery.core.model import Chunk, FixtureRef, Need, Outcome, Phase
from dct_celery.core.plan.limits import FIXTURE_SECONDS
from dct_celery.wire.messages import (
    ChunkFinished,
    FixtureFinished,
    FixtureStarted,
    Message,
    TestFinished,
    TestStarted,
)
from dct_celery.worker.slot.deadlines import ChunkDeadlines, Overdue

SET_UP = FixtureRef.parse("setUpClass (a.T)")
CHUNK: dict[str, Any] = {
    "id": "c1",
    "indices": (0, 1),
    "phase": Phase.ISOLATED,
    "need": Need.PRISTINE,
}


class Scene:
    def __init__(self, test: float | None = 2.0, fixture: float | None = 5.0, **chunk: Any) -> None:
        self.now = 100.0
        self.deadlines = ChunkDeadlines(Chunk(**{**CHUNK, **chunk}), test, fixture, self.now)

    def hear(self, *messages: Message) -> None:
        for message in messages:
            self.deadlines.hear(message)

    def after(self, seconds: float, *, silent: bool = True) -> Overdue | None:
        """What is overdue once so much time has passed, checked as often as a slot does."""
        found = None
        for _ in range(round(seconds * 20)):
            self.now += 0.05
            found = found or self.deadlines.check(self.now, silent=silent)
        return found


def test_a_test_is_overdue_after_its_limit_and_not_before() -> None:
    scene = Scene()
    scene.hear(TestStarted(1))
    assert scene.after(1.9) is None
    assert scene.after(0.2) == Overdue(2.0, index=1)


def test_each_step_restarts_the_clock() -> None:
    scene = Scene()
    for index in range(5):
        scene.hear(TestStarted(index))
        assert scene.after(1.5) is None
        scene.hear(TestFinished(index, Outcome.PASSED, 1.5))


def test_a_fixture_has_a_limit_of_its_own_and_is_blamed_instead_of_the_test_after_it() -> None:
    scene = Scene()
    scene.hear(TestStarted(0), FixtureStarted(SET_UP))
    assert scene.after(4.9) is None
    assert scene.after(0.2) == Overdue(5.0, fixture=SET_UP)


def test_a_long_set_up_takes_nothing_from_its_test() -> None:
    scene = Scene()
    scene.hear(TestStarted(0), FixtureStarted(SET_UP))
    scene.after(4.0)
    scene.hear(FixtureStarted())
    assert scene.after(1.9) is None
    assert scene.after(0.2) == Overdue(2.0, index=0)


def test_silence_before_and_after_all_tests_blames_none_and_is_bounded() -> None:
    scene = Scene()
    scene.hear(TestStarted(0), TestFinished(0, Outcome.PASSED, 0.0))
    assert scene.after(5.1) == Overdue(5.0)


def test_what_waits_to_be_read_is_no_silence() -> None:
    scene = Scene()
    scene.hear(TestStarted(0))
    assert scene.after(3.0, silent=False) is None


def test_time_in_which_the_worker_was_stopped_blames_no_test() -> None:
    # Given
    scene = Scene()
    scene.hear(TestStarted(0))
    # When
    scene.now += 3600
    # Then
    assert scene.deadlines.check(scene.now, silent=True) is None


def test_limits_come_from_the_chunk_unless_the_run_says_otherwise() -> None:
    for test, limit in ((None, 9.0), (3.0, 3.0)):
        scene = Scene(test=test, limits=((1, 9.0),))
        scene.hear(TestStarted(1))
        assert scene.after(limit - 0.1) is None
        assert scene.after(0.2) == Overdue(limit, index=1)


def test_a_class_known_to_be_slow_gets_its_time() -> None:
    for chunk_limit, limit in (
        (0.0, FIXTURE_SECONDS),
        (FIXTURE_SECONDS + 50, FIXTURE_SECONDS + 50),
    ):
        scene = Scene(fixture=None, fixture_limit=chunk_limit)
        scene.hear(TestStarted(0), FixtureStarted(SET_UP))
        assert scene.after(limit - 0.1) is None
        assert scene.after(0.2) == Overdue(limit, fixture=SET_UP)


def test_0_switches_a_limit_off() -> None:
    scene = Scene(test=0)
    scene.hear(TestStarted(0))
    assert scene.after(10_000) is None
    scene = Scene(fixture=0)
    scene.hear(TestStarted(0), FixtureStarted(SET_UP))
    assert scene.after(10_000) is None


def test_a_chunk_that_sends_messages_for_ever_ends_all_the_same() -> None:
    # Given: 2 × 2 s for its tests and 3 × 3 × 5 s for what is around them
    scene = Scene()
    found = None
    # When
    while found is None and scene.now < 400:
        scene.hear(TestStarted(0), FixtureFinished(SET_UP, Outcome.ERROR))
        found = scene.after(1.0, silent=False)
    # Then
    assert found == Overdue(49.0)
    assert 148 < scene.now < 151


def test_an_end_is_no_step() -> None:
    scene = Scene()
    scene.hear(ChunkFinished("c1", 0, {}))
    assert scene.after(5.1) == Overdue(5.0)


def test_the_message_names_the_limit() -> None:
    assert Overdue(1.5).message == "timed out after 1.5 s"
