"""Claims about `dispatcher.kept_files`: files of tests come home, and what does not is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.core.ids import digest_of
from dct_celery.core.model import Chunk, KeptFile, Need, Outcome, Phase, Verdict
from dct_celery.core.run.events import ChunkCompleted
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.left_behind import LeftBehind
from dct_celery.dispatcher import kept_files as module
from dct_celery.dispatcher.kept_files import bring_home
from dct_celery.errors import StoreUnavailable, UsageError
from dct_celery.ports.reporting import FileArrived
from tests.support.factories import group, make_manifest
from tests.support.memory_ledger import MemoryBlobs, MemoryStore
from tests.support.reporters import Listener

MANIFEST = make_manifest(group("app.tests.A", count=3))


class Scene:
    def __init__(self) -> None:
        self.blobs: Any = MemoryBlobs(MemoryStore())
        self.listener = Listener()
        self.machine: Any = Mock(left_behind=LeftBehind(), verdicts={})

    def wrote(self, index: int, left: int = 0, **files: bytes) -> None:
        """The test, in an attempt of its own, wrote these files into shots/."""
        kept = []
        for name, content in files.items():
            path = f"shots/{name}" if "." in name else f"shots/{name}.png"
            file = KeptFile(path, len(content), digest_of(content))
            self.blobs.put([(file.digest, content)])
            kept.append(file)
        lease = LeaseRef(f"c{index}", 1, 7, "build-a", index, 1)
        chunk = Chunk(lease.chunk, (index,), Phase.ISOLATED, Need.PRISTINE)
        end = ChunkCompleted(files=tuple(kept), files_left=left)
        self.machine.left_behind.add(lease, chunk, end)
        self.machine.verdicts[index] = Verdict(
            MANIFEST[index], Outcome.PASSED, worker="build-a", slot=index
        )

    def bring(self, *patterns: str) -> dict[str, bytes]:
        services: Any = Mock(files=self.blobs, report=self.listener.take)
        bring_home(services, self.machine, patterns or ("shots/",), Path("/project"))
        return {event.place: event.content for event in self.listener.all(FileArrived)}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_files_of_all_tests_come_home_and_leave_the_store(scene: Scene) -> None:
    # Given two files of one content
    scene.wrote(1, a=b"one", b=b"same")
    scene.wrote(0, c=b"same", empty=b"")
    # When
    found = scene.bring()
    # Then
    assert found == {
        "shots/a.png": b"one", "shots/b.png": b"same", "shots/c.png": b"same",
        "shots/empty.png": b"",
    }  # fmt: skip
    assert scene.listener.warnings == []
    assert scene.blobs.missing([digest_of(b"same")]) == {digest_of(b"same")}


def test_a_file_that_several_wrote_is_the_last_ones_and_the_others_are_named(scene: Scene) -> None:
    # Given tests that ended in another order than the suite's
    scene.wrote(2, a=b"third")
    scene.wrote(0, a=b"first")
    scene.wrote(1, a=b"second", b=b"alone")
    # When
    found = scene.bring()
    # Then
    assert found == {
        "shots/a.png": b"third", "shots/a.png.1": b"first", "shots/a.png.2": b"second",
        "shots/b.png": b"alone",
    }  # fmt: skip
    (line,) = scene.listener.warnings
    assert line.startswith("1 file written by several chunks of tests with different contents")
    assert "shots/a.png" in line


def test_the_same_content_twice_is_no_collision(scene: Scene) -> None:
    # Given
    scene.wrote(0, a=b"same")
    scene.wrote(1, a=b"other")
    scene.wrote(2, a=b"same")
    # When / Then
    assert scene.bring() == {"shots/a.png": b"same", "shots/a.png.1": b"other"}


def test_no_file_that_nobody_has_asked_for_is_taken(scene: Scene) -> None:
    # Given a slot that names a file elsewhere
    scene.wrote(0, a=b"one")
    # When / Then
    assert scene.bring("other/") == {}


def test_what_is_left_out_lost_or_too_much_is_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(module, "MAX_ARTIFACTS", 7)
    scene.wrote(0, left=3, a=b"one", lost=b"two")
    scene.wrote(1, b=b"large")
    scene.blobs.drop([digest_of(b"two")])
    # When
    found = scene.bring()
    # Then
    assert found == {"shots/a.png": b"one"}
    (line,) = scene.listener.warnings
    assert line.startswith("5 files of tests (--artifact-path) did not come home")


def test_one_that_cannot_be_written_costs_neither_the_others_nor_the_run(scene: Scene) -> None:
    # Given
    scene.wrote(0, a=b"one", b=b"two", c=b"three")
    take = scene.listener.take

    def refuse(event: Any) -> None:
        if isinstance(event, FileArrived) and event.content != b"two":
            raise UsageError(f"{event.place} cannot be written")
        take(event)

    scene.listener.take = refuse  # type: ignore[method-assign]
    # When / Then
    assert scene.bring() == {"shots/b.png": b"two"}
    assert scene.listener.warnings == [
        "shots/a.png cannot be written, shots/c.png cannot be written"
    ]


def test_a_number_never_takes_the_name_of_another_file(scene: Scene) -> None:
    # Given
    files: dict[str, Any] = {"a": b"first", "a.png.1": b"own"}
    scene.wrote(0, **files)
    scene.wrote(1, a=b"second")
    # When / Then
    assert scene.bring() == {
        "shots/a.png": b"second", "shots/a.png.1": b"own", "shots/a.png.2": b"first",
    }  # fmt: skip


def test_a_store_that_is_away_costs_the_files_and_not_the_run(scene: Scene) -> None:
    # Given
    scene.wrote(0, a=b"one", b=b"two")

    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    scene.blobs.get = scene.blobs.drop = away
    # When / Then
    assert scene.bring() == {}
    assert scene.listener.warnings[0].startswith("2 files of tests")
