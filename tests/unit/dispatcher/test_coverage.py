"""Claims about `dispatcher.coverage`: data that count come home, what is missing is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.core.ids import digest_of
from dct_celery.core.model import Artifact, Chunk, Need, Outcome, Phase, Verdict
from dct_celery.core.run.events import ChunkCompleted
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.left_behind import LeftBehind
from dct_celery.dispatcher import coverage as module
from dct_celery.dispatcher.coverage import brought_home
from dct_celery.errors import StoreUnavailable
from tests.support.factories import group, make_manifest
from tests.support.memory_ledger import MemoryBlobs, MemoryStore
from tests.support.reporters import Listener

MANIFEST = make_manifest(group("app.tests.A", count=2))
LEASE = LeaseRef("c1", 1, 7, "build-a", 0, 1)


class Scene:
    def __init__(self) -> None:
        self.blobs: Any = MemoryBlobs(MemoryStore())
        self.listener = Listener()
        self.machine: Any = Mock(left_behind=LeftBehind(), verdicts={})
        self.workers: Any = Mock(measured=[self.sent(b"migrations")], unmeasured=0)

    def sent(self, content: bytes) -> Artifact:
        artifact = Artifact("coverage", len(content), digest_of(content))
        self.blobs.put([(artifact.digest, content)])
        return artifact

    def attempt(self, data: Artifact | None) -> None:
        chunk = Chunk("c1", (0, 1), Phase.ISOLATED, Need.PRISTINE)
        self.machine.left_behind.add(LEASE, chunk, ChunkCompleted(coverage=data))
        for index in (0, 1):
            self.machine.verdicts[index] = Verdict(
                MANIFEST[index], Outcome.PASSED, worker="build-a", slot=0
            )

    def bring(self) -> list[bytes]:
        services: Any = Mock(files=self.blobs, report=self.listener.take)
        with brought_home(services, self.machine, self.workers, Path("/project")) as arrived:
            found = [path.read_bytes() for path in arrived.folder.iterdir()]
        assert not arrived.folder.exists()
        return sorted(found)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_all_data_are_there_once_and_leave_the_store(scene: Scene) -> None:
    # Given
    data = scene.sent(b"tests")
    scene.attempt(data)
    # When
    found = scene.bring()
    # Then
    assert found == [b"migrations", b"tests"]
    assert scene.listener.warnings == []
    assert scene.blobs.missing([data.digest]) == {data.digest}


def test_the_same_data_of_two_processes_are_one_file_and_none_is_missing(scene: Scene) -> None:
    # Given
    scene.attempt(scene.sent(b"migrations"))
    # When
    found = scene.bring()
    # Then
    assert found == [b"migrations"]
    assert scene.listener.warnings == []


def test_tests_without_data_are_counted(scene: Scene) -> None:
    # Given
    scene.attempt(None)
    # When
    scene.bring()
    # Then
    (line,) = scene.listener.warnings
    assert line.startswith("coverage is incomplete: 2 tests ran in processes that died, or that")


def test_what_the_store_does_not_have_is_missed(scene: Scene) -> None:
    # Given
    scene.attempt(Artifact("coverage", 5, "a" * 40))
    # When
    found = scene.bring()
    # Then
    assert found == [b"migrations"]
    assert scene.listener.warnings == ["coverage is incomplete: 1 data file has not arrived"]


def test_what_ran_before_the_tests_is_missed(scene: Scene) -> None:
    # Given
    scene.workers.measured = []
    scene.attempt(scene.sent(b"tests"))
    # When
    scene.bring()
    # Then
    (line,) = scene.listener.warnings
    assert "nothing has arrived of what ran before the first test" in line


def test_more_than_a_run_may_send_is_left_out_and_said(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(module, "MAX_ARTIFACTS", 12)
    scene.attempt(scene.sent(b"tests"))
    # When
    found = scene.bring()
    # Then
    assert found == [b"migrations"]
    assert scene.listener.warnings == ["coverage is incomplete: 1 data file has not arrived"]


def test_a_store_that_is_away_costs_data_and_not_the_report(scene: Scene) -> None:
    # Given
    def get(sizes: object) -> dict[str, bytes]:
        raise StoreUnavailable("away")

    scene.blobs.get = get
    # When
    scene.bring()
    # Then
    assert scene.listener.warnings == [
        "coverage data cannot be fetched: away",
        "coverage is incomplete: 1 data file has not arrived",
    ]
