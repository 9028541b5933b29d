"""Claims about `worker.slot.chunk_run`: how a chunk ends, for each way in which it can."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dct_celery.core.ids import digest_of
from dct_celery.core.model import Artifact, Chunk, FixtureRef, Outcome
from dct_celery.core.run.events import ChunkCompleted, Ended, Recorded, ReleaseReason
from dct_celery.core.run.leaks import LeakKind, LeakRecord
from dct_celery.core.run.records import TestRecord
from dct_celery.errors import DatabaseError, ProcessDied, ProtocolError, StoreUnavailable
from dct_celery.protocol.leases import WriteAnswer
from dct_celery.wire.messages import (
    ChunkFinished,
    Fatal,
    FixtureStarted,
    Message,
    RunChunk,
    TestFinished,
    TestStarted,
)
from dct_celery.worker.health.circuit_breaker import FailureLog
from dct_celery.worker.slot.chunk_run import STORE_PATIENCE, ChunkRun
from tests.support.fake_process import FakeProcess, Step
from tests.unit.worker.slot.scene import CHUNK, SlotScene

DONE = ChunkFinished("c1", 2, {})
SET_UP = FixtureRef.parse("setUpClass (app.tests.A)")


def passed(index: int) -> list[Message]:
    return [TestStarted(index), TestFinished(index, Outcome.PASSED, 0.1)]


class Scene(SlotScene):
    """A chunk of two tests that the slot has claimed."""

    def play(self, *script: Step, chunk: Chunk = CHUNK, **more: Any) -> str:
        """What becomes of it when its process says this."""

        def prepare(process: FakeProcess) -> None:
            process.script = list(script)
            for name, value in more.items():
                setattr(process, name, value)

        self.forks.prepare = prepare
        self.chunk: ChunkRun = self.chunk_run(chunk)
        return self.chunk.execute()

    @property
    def end(self) -> Any:
        (end,) = [fact.end for fact in self.facts() if isinstance(fact, Ended)]
        return end

    @property
    def records(self) -> list[Any]:
        return [
            record for fact in self.facts() if isinstance(fact, Recorded) for record in fact.records
        ]

    def after(self, seconds: float, act: Callable[[], object]) -> Callable[[], object]:
        """A step of the script: so long the process says nothing, then `act` happens."""

        def wait() -> None:
            self.clock.now += seconds
            act()

        return wait


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, monkeypatch)
    yield scene
    scene.run.close()


# -- to its end --------------------------------------------------------------------------


def test_a_new_process_has_the_number_of_its_lease(scene: Scene) -> None:
    # When
    scene.play(*passed(0), *passed(1), DONE)
    # Then
    assert scene.forks.environments[-1]["DCT_PROCESS"] == "1"
    assert scene.chunk._lease.fence == 1


def test_a_chunk_that_runs_to_its_end_is_completed_with_all_its_records(scene: Scene) -> None:
    # When
    result = scene.play(*passed(0), *passed(1), DONE)
    # Then
    assert result == "completed"
    assert [record.index for record in scene.records] == [0, 1]
    assert isinstance(scene.end, ChunkCompleted)
    assert scene.process.sent[-1] == RunChunk("c1", [0, 1])
    assert scene.process.ends == []  # it serves the next chunk


def test_the_records_are_in_the_stream_before_the_end(scene: Scene) -> None:
    # When
    scene.play(*passed(0), *passed(1), DONE)
    # Then
    assert isinstance(scene.facts()[-1], Ended)


def test_a_record_is_sent_soon_though_the_chunk_goes_on(scene: Scene) -> None:
    # Given
    seen: list[int] = []

    def look() -> None:
        seen.append(len(scene.records))

    # When
    scene.play(*passed(0), look, look, look, *passed(1), DONE)
    # Then
    assert (seen[0], seen[-1]) == (0, 1)


@pytest.mark.parametrize(
    "finished",
    [
        replace(DONE, left=(1,)),
        replace(DONE, stopped="failfast"),
        replace(DONE, leaks=(LeakRecord(LeakKind.THREAD, "worker"),)),
    ],
    ids=["left", "stopped", "leaks"],
)
def test_a_process_that_may_not_go_on_is_retired_after_its_chunk(
    scene: Scene, finished: ChunkFinished
) -> None:
    # When / Then
    assert scene.play(*passed(0), finished) == "completed"
    assert scene.process.ends == ["finish"]


def test_a_success_clears_the_failures_of_the_worker(scene: Scene) -> None:
    # Given
    failures = FailureLog(scene.services.folder.failures, scene.clock)
    failures.note("the loader died")
    # When
    scene.play(*passed(0), *passed(1), DONE)
    # Then
    assert failures.reasons() == []


# -- ended by the process ----------------------------------------------------------------


def test_a_death_in_a_test_is_a_crash_with_the_test_and_its_last_state(scene: Scene) -> None:
    # When
    result = scene.play(
        *passed(0), TestStarted(1), ProcessDied("signal 11"), dump="Fatal Python error", kib=2048
    )
    # Then
    assert result == "released"
    assert (scene.end.why, scene.end.index) == (ReleaseReason.CRASH, 1)
    assert "Fatal Python error" in scene.end.detail
    assert [record.index for record in scene.records] == [0]
    assert scene.process.ends == ["kill"]


def test_a_death_with_the_loader_is_a_loss_by_the_machine(scene: Scene) -> None:
    # When
    scene.play(TestStarted(0), ProcessDied("signal 9"), loader_is_gone=True)
    # Then
    assert (scene.end.why, scene.end.index) == (ReleaseReason.LOADER, None)
    assert FailureLog(scene.services.folder.failures, scene.clock).reasons() == ["signal 9"]


def test_what_comes_before_a_chunk_is_run_and_not_recorded(scene: Scene) -> None:
    # Given
    chunk = replace(CHUNK, id="c8", indices=(5,), preamble=(2, 3), fresh_process=True)
    # When
    scene.play(*passed(2), *passed(3), DONE, *passed(5), DONE, chunk=chunk)
    # Then
    assert [record.index for record in scene.records] == [5]
    sent = [message for message in scene.process.sent if isinstance(message, RunChunk)]
    assert [message.indices for message in sent] == [[2, 3], [5]]
    assert scene.process.ends == ["finish"]


@pytest.mark.parametrize(
    "last", [ProcessDied("signal 9"), replace(DONE, stopped="aborted", left=(3,))]
)
def test_a_preamble_that_does_not_end_gives_the_chunk_back(scene: Scene, last: Any) -> None:
    # Given
    chunk = replace(CHUNK, id="c8", indices=(5,), preamble=(2, 3), fresh_process=True)
    # When
    scene.play(*passed(2), TestStarted(3), last, chunk=chunk)
    # Then
    assert scene.end.why is ReleaseReason.PREAMBLE
    assert scene.records == []


def test_the_end_names_the_process_that_ran_the_chunk(scene: Scene) -> None:
    # When
    scene.play(*passed(0), *passed(1), DONE)
    # Then
    assert (scene.end.process, scene.process.pid) == (4711, 4711)


def test_a_process_that_ended_between_two_chunks_costs_nothing(scene: Scene) -> None:
    # Given
    scene.play(*passed(0), *passed(1), DONE)
    scene.process.deaf = True

    def prepare(process: FakeProcess) -> None:
        process.script = [*passed(0), DONE]

    scene.forks.prepare = prepare
    # When
    result = scene.chunk_run(replace(CHUNK, id="c7", indices=(9,))).execute()
    # Then
    assert result == "completed"
    assert [process.ends for process in scene.forks.made] == [["kill"], []]


def test_garbage_in_the_channel_is_a_crash_of_the_test_that_ran(scene: Scene) -> None:
    # When
    scene.play(TestStarted(1), ProtocolError("a frame of 4 GB"))
    # Then
    assert (scene.end.why, scene.end.index) == (ReleaseReason.CRASH, 1)
    assert "garbage in the runner's channel" in scene.end.cause


def test_a_process_that_gives_up_is_a_crash_with_its_own_message(scene: Scene) -> None:
    # When
    scene.play(Fatal("internal", "no such index", "its traceback"))
    # Then
    assert (scene.end.why, scene.end.cause, scene.end.detail) == (
        ReleaseReason.CRASH,
        "no such index",
        "its traceback",
    )


# -- ended by time -----------------------------------------------------------------------


def test_a_test_that_hangs_is_an_error_of_its_own_and_its_process_ends(scene: Scene) -> None:
    # When: 60 s are the usual limit
    result = scene.play(TestStarted(1), dump="in test_b", output="printed")
    # Then
    assert result == "released"
    assert (scene.end.why, scene.end.index) == (ReleaseReason.TIMEOUT, 1)
    (record,) = scene.records
    assert isinstance(record, TestRecord)
    assert (record.index, record.outcome, record.output) == (1, Outcome.ERROR, "printed")
    assert "in test_b" in record.failures[0].text
    assert scene.process.ends == ["terminate", "kill"]


def test_silence_around_tests_blames_none_of_them(scene: Scene) -> None:
    # When
    scene.play()
    # Then
    assert (scene.end.why, scene.end.index) == (ReleaseReason.SILENCE, None)
    assert scene.records == []


# -- ended from outside ------------------------------------------------------------------


def test_a_lease_that_is_lost_ends_the_process_and_nothing_more_is_written(scene: Scene) -> None:
    # Given
    lose = scene.after(0.1, lambda: scene.chunk._keeper.note(WriteAnswer.LOST))
    # When
    result = scene.play(*passed(0), lose, *passed(1), DONE)
    # Then
    assert result == "lost"
    assert scene.process.ends == ["kill"]
    assert not any(isinstance(fact, Ended) for fact in scene.facts())


def test_a_run_that_is_cancelled_gives_its_chunk_back(scene: Scene) -> None:
    # Given
    cancel = scene.after(0.1, lambda: (scene.ledger.cancel("enough"), scene.chunk._keeper.renew()))
    # When / Then
    assert scene.play(TestStarted(0), cancel) == "released"
    assert scene.end.why is ReleaseReason.CANCELLED


def test_a_worker_that_stops_gives_its_chunk_back_after_the_time_it_has(scene: Scene) -> None:
    # Given
    seconds = scene.services.settings.drain_seconds
    draining = scene.services.folder.draining

    def drain() -> None:
        draining.touch()
        os.utime(draining, (scene.clock.wall(), scene.clock.wall()))

    # When
    scene.play(TestStarted(0), scene.after(0.1, drain))
    # Then
    assert scene.end.why is ReleaseReason.DRAIN
    assert scene.end.busy_seconds == pytest.approx(seconds + 0.1, abs=0.2)


# -- ended by databases and store --------------------------------------------------------


def test_a_slot_without_databases_gives_the_chunk_back_and_backs_off(scene: Scene) -> None:
    # When
    result = scene.play(answer=DatabaseError("no right to create databases"))
    # Then
    assert result == "released"
    assert scene.end.why is ReleaseReason.UNREADY
    assert not scene.run.may_claim()


def test_a_failure_while_the_server_was_restarted_is_no_verdict(scene: Scene) -> None:
    # Given
    restart = scene.after(0.1, lambda: setattr(scene.world, "life", 2))
    # When
    scene.play(*passed(0), TestStarted(1), restart, TestFinished(1, Outcome.ERROR, 0.1))
    # Then
    assert scene.end.why is ReleaseReason.DATABASE
    assert [record.index for record in scene.records] == [0]


def test_a_pass_counts_though_the_server_was_restarted(scene: Scene) -> None:
    # Given
    restart = scene.after(0.1, lambda: setattr(scene.world, "life", 2))
    # When / Then
    assert (
        scene.play(TestStarted(0), restart, TestFinished(0, Outcome.PASSED, 0.1), *passed(1), DONE)
        == "completed"
    )


def test_a_server_that_vanishes_silently_is_noticed(scene: Scene) -> None:
    # Given
    vanish = scene.after(0.1, lambda: setattr(scene.world, "down", True))
    # When
    scene.play(TestStarted(0), vanish)
    # Then
    assert scene.end.why is ReleaseReason.DATABASE
    assert scene.end.busy_seconds < 15


def test_a_fault_of_our_own_gives_the_chunk_back(scene: Scene) -> None:
    # When
    scene.play(ZeroDivisionError("oops"))
    # Then
    assert scene.end.why is ReleaseReason.LOADER
    assert scene.end.cause == "internal error of the worker: ZeroDivisionError: oops"


def test_the_end_waits_for_a_store_that_is_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    end, away = scene.run.ledger.end, [True]
    scene.clock.at(20.0, lambda: away.clear())

    def flaky(*arguments: Any) -> WriteAnswer:
        if away:
            raise StoreUnavailable("gone")
        return end(*arguments)

    monkeypatch.setattr(scene.run.ledger, "end", flaky)
    # When / Then
    assert scene.play(*passed(0), *passed(1), DONE) == "completed"
    assert isinstance(scene.end, ChunkCompleted)


def test_a_store_that_stays_away_leaves_the_chunk_to_its_lease(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def gone(*_: Any) -> WriteAnswer:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(scene.run.ledger, "append", gone)
    began = scene.clock.now
    # When / Then
    assert scene.play(*passed(0), *passed(1), DONE) == "lost"
    assert STORE_PATIENCE <= scene.clock.now - began <= STORE_PATIENCE + 2


def test_a_death_in_a_fixture_names_the_fixture(scene: Scene) -> None:
    # When
    scene.play(TestStarted(0), FixtureStarted(SET_UP), ProcessDied("signal 9"))
    # Then
    assert (scene.end.why, scene.end.fixture) == (ReleaseReason.CRASH, SET_UP)


def test_files_of_a_test_are_in_the_store_before_its_record_and_gone_from_here_after_it(
    scene: Scene,
) -> None:
    # Given
    scene.run.artifacts = True
    content = b"printed"
    artifact = Artifact("output.txt", len(content), digest_of(content))
    folder = scene.folder.artifacts(3)
    failed = TestFinished(0, Outcome.FAILED, 0.1, artifacts=(artifact,))

    def put() -> None:
        (folder / artifact.digest).write_bytes(content)

    # When
    end = scene.play(
        put,
        TestStarted(0),
        failed,
        *passed(1),
        DONE,
    )
    # Then
    assert end == "completed"
    assert scene.process.sent[-1] == RunChunk("c1", [0, 1], str(folder))
    assert scene.sent_files == [(artifact.digest, content)]
    assert scene.records[0].artifacts == (artifact,)
    assert list(folder.iterdir()) == []


# -- coverage ----------------------------------------------------------------------------


def measuring(scene: Scene) -> Path:
    """The file for the data of a chunk, in a run that is measured."""
    scene.run.measured = True
    return scene.folder.artifacts(3) / "coverage"


def test_the_end_of_a_chunk_names_what_was_measured(scene: Scene) -> None:
    # Given
    file = measuring(scene)
    # When
    scene.play(lambda: file.write_bytes(b"data"), *passed(0), *passed(1), DONE)
    # Then
    assert scene.end.coverage == Artifact("coverage", 4, digest_of(b"data"))
    assert scene.sent_files == [(digest_of(b"data"), b"data")]
    (order,) = [one for one in scene.process.sent if isinstance(one, RunChunk)]
    assert order.coverage == str(file)


def test_a_process_that_dies_leaves_what_it_had_written_of_its_classes(scene: Scene) -> None:
    # Given
    file = measuring(scene)
    # When
    scene.play(*passed(0), lambda: file.write_bytes(b"some"), ProcessDied("signal 9"))
    # Then
    assert scene.end.coverage == Artifact("coverage", 4, digest_of(b"some"))


def test_data_of_the_chunk_before_are_never_those_of_the_next(scene: Scene) -> None:
    # Given a file that an attempt that was lost has left
    file = measuring(scene)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"old")
    # When
    scene.play(*passed(0), *passed(1), DONE)
    # Then
    assert scene.end.coverage is None
    assert scene.sent_files == []


def test_nothing_is_measured_before_the_chunk(scene: Scene) -> None:
    # Given
    measuring(scene)
    chunk = replace(CHUNK, preamble=(7,))
    # When
    scene.play(ChunkFinished("c1", 1, {}), *passed(0), *passed(1), DONE, chunk=chunk)
    # Then
    orders = [one for one in scene.process.sent if isinstance(one, RunChunk)]
    assert [bool(order.coverage) for order in orders] == [False, True]
