"""Claims about `worker.slot.slot`: the way of a message, the pauses on it, and when a slot leaves a
run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dct_celery.core.model import Outcome
from dct_celery.core.run.leases import LeaseRef
from dct_celery.protocol.runs import ChunkHint
from dct_celery.wire.messages import ChunkFinished, TestFinished, TestStarted
from dct_celery.worker.slot.slot import AVOID_PAUSE, HAND_ON_PAUSE, WATCH_SECONDS, Slot
from tests.support.factories import fences, run_door
from tests.support.fake_process import FakeProcess
from tests.unit.worker.slot.scene import CHUNK, RUN, WORKER, SlotScene

#: Of the first attempt.
KEY = LeaseRef("c1", 1, 1, WORKER, 3).key
MESSAGE = str(run_door().seal(ChunkHint(RUN, "c1", 1)))


class Scene(SlotScene):
    """The slot that the scene's run is in, with its chunk on offer."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch)
        self.handed_on: list[tuple[str, str]] = []
        self.slot = Slot(
            self.services, 3, lambda run, message: self.handed_on.append((run, message))
        )
        self.slot._runs[RUN] = self.run
        self.ledger.commit([CHUNK])
        self.forks.prepare = self._obedient

    @staticmethod
    def _obedient(process: FakeProcess) -> None:
        finished = [TestFinished(index, Outcome.PASSED, 0.1) for index in CHUNK.indices]
        process.script = [TestStarted(0), *finished, ChunkFinished("c1", 2, {})]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, monkeypatch)
    yield scene
    scene.slot.close()


def test_nothing_runs_in_the_background_before_the_start(scene: Scene) -> None:
    assert not scene.slot._warden.is_alive()


def test_a_message_becomes_a_chunk_that_is_completed(scene: Scene) -> None:
    assert scene.slot.run(MESSAGE) == "completed"
    assert scene.folder.done(KEY) == 1


def test_a_slot_that_backs_off_hands_the_message_on_after_a_pause(scene: Scene) -> None:
    # Given
    scene.run.back_off("no room")
    # When / Then
    assert scene.slot.run(MESSAGE) == "backing-off"
    assert scene.handed_on == [(RUN, MESSAGE)]
    assert scene.clock.waits == [HAND_ON_PAUSE]
    assert fences(scene.ledger, ["c1"]) == [0]


def test_a_chunk_that_another_worker_should_have_is_left_to_it_for_a_moment(scene: Scene) -> None:
    # Given
    scene.ledger.commit([replace(CHUNK, attempt=2, avoid_worker=WORKER)])
    # When / Then
    assert scene.slot.run(str(run_door().seal(ChunkHint(RUN, "c1", 2)))) == "avoid"
    assert scene.clock.waits == [AVOID_PAUSE]


def test_a_claim_that_is_not_granted_costs_no_time(scene: Scene) -> None:
    # Given
    scene.claim()
    # When / Then
    assert scene.slot.run(MESSAGE) == "held"
    assert scene.clock.waits == []


def test_a_chunk_that_ran_here_in_this_epoch_does_not_run_again(scene: Scene) -> None:
    # Given a store that was tampered with
    scene.folder.note_done(KEY, 1)
    # When / Then
    assert scene.slot.run(MESSAGE) == "done"
    assert scene.forks.made == []
    assert scene.clock.waits == [AVOID_PAUSE]


def test_one_that_ran_in_an_earlier_epoch_does(scene: Scene) -> None:
    # Given
    scene.folder.note_done(KEY, 0)
    # When / Then
    assert scene.slot.run(MESSAGE) == "completed"


def test_a_run_that_the_worker_has_restarted_is_entered_again(scene: Scene) -> None:
    # Given
    scene.run.process_for(CHUNK, lambda: False)
    # When
    scene.folder.publish(replace(scene.state, owner="another"))
    scene.slot.run(MESSAGE)
    # Then
    assert scene.forks.made[0].ends == ["kill"]
    assert scene.slot._runs[RUN].owner == "another"


def test_a_run_that_is_not_offered_any_more_is_left_at_the_next_message(scene: Scene) -> None:
    # Given
    scene.folder.unpublish()
    # When / Then
    assert scene.slot.run(MESSAGE) == "no-run"
    assert scene.slot._runs == {}


def test_a_run_that_has_ended_is_left_within_a_moment(scene: Scene) -> None:
    # Given
    scene.run.process_for(CHUNK, lambda: False)
    scene.clock.at(1.0, scene.folder.end)
    scene.clock.at(2.0, scene.slot._end.set)
    left: list[float] = []
    close = scene.run.close
    scene.run.close = lambda: (left.append(scene.clock.now - 1000.0), close())  # type: ignore[method-assign, assignment]
    # When
    scene.slot._watch()
    # Then
    assert left == [pytest.approx(1.0, abs=WATCH_SECONDS)]
    assert scene.process.ends == ["kill"]


def test_a_run_whose_chunk_is_under_way_is_not_left(scene: Scene) -> None:
    # Given
    scene.folder.end()
    with scene.slot._busy:
        # When
        scene.slot._leave_ended()
    # Then
    assert RUN in scene.slot._runs


def test_a_run_that_cannot_be_left_cleanly_is_left_all_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    scene.folder.end()
    monkeypatch.setattr(scene.run, "retire", lambda **_: 1 // 0)
    # When
    scene.slot._leave_ended()
    # Then
    assert scene.slot._runs == {}
    assert not scene.slot._busy.locked()
