"""Claims about the tear-down of pytest's session in a slot: it is done, and its errors arrive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dct_celery.core.model import END_OF_SESSION, Chunk, Failure, Need, Outcome, Phase
from dct_celery.core.run.events import Recorded
from dct_celery.core.run.records import FixtureRecord, TestRecord
from dct_celery.errors import ProcessDied, StoreUnavailable
from dct_celery.wire.messages import ChunkFinished, TearDown, TornDown
from dct_celery.worker.slot.chunk_run import ChunkRun
from tests.unit.worker.slot.scene import CHUNK
from tests.unit.worker.slot.test_chunk_life import Scene, passed

DONE = ChunkFinished("c1", 2, {}, session=True)
ERROR = Failure("error", "OSError", "still up", "Traceback")
NEXT = Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, monkeypatch)
    yield scene
    scene.run.close()


def play(scene: Scene, answer: Any, *, ending: bool, chunk: Chunk = CHUNK) -> str:
    """What becomes of a chunk after which the process has a session to tear down."""
    lease = scene.claim(chunk)
    scene.ledger.commit(exhausted=ending)
    answers = {TearDown: answer}
    done = replace(DONE, chunk=chunk.id)
    tests = [message for index in chunk.indices for message in passed(index)]

    def prepare(process: Any) -> None:
        process.script, process.answers = [*tests, done], answers

    scene.forks.prepare = prepare
    return ChunkRun(scene.run, lease, chunk, scene.services, 15_000).execute()


def sessions(scene: Scene) -> list[FixtureRecord]:
    return [record for record in scene.records if isinstance(record, FixtureRecord)]


def test_at_the_end_of_the_run_the_session_is_torn_down_under_the_lease(scene: Scene) -> None:
    # When
    assert play(scene, TornDown((ERROR,), "printed"), ending=True) == "completed"
    # Then its error is behind the last test, and in front of the end of the chunk
    *tests, error = scene.records
    assert [isinstance(record, TestRecord) for record in tests] == [True, True]
    assert error == FixtureRecord(END_OF_SESSION, Outcome.ERROR, (ERROR,), output="printed")
    assert scene.end.session is False
    assert scene.process.ends == ["finish"]
    assert not scene.folder.has_sessions


def test_what_the_tear_down_has_no_error_of_is_no_record(scene: Scene) -> None:
    # When / Then
    assert play(scene, TornDown(), ending=True) == "completed"
    assert sessions(scene) == []


def test_as_long_as_there_is_something_to_run_the_session_lives_on(scene: Scene) -> None:
    # When
    assert play(scene, TornDown((ERROR,)), ending=False) == "completed"
    # Then
    assert scene.process.ends == []
    assert scene.end.session is True
    assert scene.folder.has_sessions
    # When the run is over
    scene.run.close()
    # Then it is torn down all the same
    assert TearDown() in scene.process.sent
    assert scene.process.ends == ["finish"]
    assert not scene.folder.has_sessions


def test_the_error_of_a_process_that_is_replaced_is_a_record_of_the_next_chunk(
    scene: Scene,
) -> None:
    # Given
    play(scene, TornDown((ERROR,)), ending=False)
    # When a chunk does not suit it
    play(scene, TornDown(), ending=False, chunk=replace(NEXT, fresh_process=True))
    # Then
    assert len(scene.forks.made) == 2
    (record,) = sessions(scene)
    assert record.failures == (ERROR,)


def test_a_process_that_dies_or_hangs_in_the_tear_down_is_an_error(scene: Scene) -> None:
    # When
    died = ProcessDied("signal 9")
    assert play(scene, died, ending=True) == "completed"
    # Then
    (record,) = sessions(scene)
    assert record.failures[0].message == "in the tear-down of the session: signal 9"


def test_a_store_that_is_away_does_not_end_the_chunk(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def away() -> bool:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(scene.run.ledger, "ending", away)
    # When / Then
    assert play(scene, TornDown(), ending=True) == "completed"
    assert scene.end.session is True


def test_the_last_record_goes_with_the_error_of_the_session(scene: Scene) -> None:
    # Given a slot that sends each record at once
    chunk = replace(CHUNK, batch_seconds=0.0)
    # When
    play(scene, TornDown((ERROR,)), ending=True, chunk=chunk)
    # Then: when the last test has its verdict, the run may be over
    batches = [fact.records for fact in scene.facts() if isinstance(fact, Recorded)]
    assert [len(batch) for batch in batches] == [1, 2]
