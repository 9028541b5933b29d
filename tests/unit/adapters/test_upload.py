"""The dispatcher's side.

Sent once, again in part when a worker asks, and only what belongs to the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dct_celery.adapters.source.snapshot import Selection
from dct_celery.adapters.source.upload import PAUSE, Upload
from dct_celery.core.globs import Globs
from dct_celery.core.ids import digest_of
from dct_celery.errors import ConfigError
from tests.support.memory_ledger import MemoryBlobs, MemoryStore
from tests.support.trees import Clock, make_tree

_CODE = digest_of(b"x = 1\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "project")


class Scene:
    """An upload with its store, clock and warnings."""

    def __init__(self, selection: Selection | None = None, **options: Any) -> None:
        self.store = MemoryStore()
        self.blobs = MemoryBlobs(self.store)
        self.clock = Clock()
        self.said: list[str] = []
        self.upload = Upload(selection or Selection(), self.clock, self.said.append, **options)

    def supply(self) -> None:
        self.clock.now += PAUSE
        self.upload.supply(self.blobs)


def test_only_what_is_missing_is_sent(project: Path) -> None:
    # Given
    scene = Scene()
    scene.blobs.put([(_CODE, b"x = 1\n")])
    # When
    taken, files, sent = scene.upload.send(project, scene.blobs)
    # Then
    assert (files, sent) == (3, len("#!/bin/sh\n"))
    assert digest_of(scene.store.blobs[taken.digest]) == taken.digest
    assert scene.upload.send(project, scene.blobs)[2] == 0


def test_what_a_worker_asks_for_is_sent_again(project: Path) -> None:
    # Given a store that has lost the index and a file
    scene = Scene()
    tree = scene.upload.send(project, scene.blobs)[0].digest
    del scene.store.blobs[tree], scene.store.blobs[_CODE]
    # When
    scene.blobs.want(tree, [tree, _CODE])
    scene.supply()
    # Then
    assert {tree, _CODE} <= scene.store.blobs.keys()


def test_no_request_brings_files_of_another_run(project: Path) -> None:
    # Given
    scene = Scene()
    tree = scene.upload.send(project, scene.blobs)[0].digest
    before = dict(scene.store.blobs)
    # When
    scene.blobs.want(tree, [digest_of(b"other"), "../../etc/passwd", ""])
    scene.blobs.want(digest_of(b"other tree"), [_CODE])
    scene.supply()
    # Then
    assert scene.store.blobs == before
    assert scene.said == []


def test_the_store_is_asked_only_now_and_then(project: Path) -> None:
    # Given
    scene = Scene()
    tree = scene.upload.send(project, scene.blobs)[0].digest
    scene.supply()
    del scene.store.blobs[_CODE]
    scene.blobs.want(tree, [_CODE])
    # When
    scene.upload.supply(scene.blobs)
    # Then
    assert _CODE not in scene.store.blobs


def test_before_anything_is_sent_there_is_nothing_to_supply() -> None:
    Scene().supply()


def test_a_file_that_has_changed_since_is_reported_once_and_ends_no_run(project: Path) -> None:
    # Given
    scene = Scene()
    tree = scene.upload.send(project, scene.blobs)[0].digest
    del scene.store.blobs[_CODE]
    (project / "app" / "code.py").write_text("x = 2\n")
    # When
    for _ in range(2):
        scene.blobs.want(tree, [_CODE])
        scene.supply()
    # Then
    assert scene.said == [
        "a worker lacks a file that cannot be sent again: app/code.py changed while it was read; "
        "run again when nothing writes there"
    ]


def test_a_file_that_changes_while_the_run_begins_stops_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    scene = Scene()
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"x = 2\n")
    # When / Then
    with pytest.raises(ConfigError, match="changed while it was read"):
        scene.upload.send(project, scene.blobs)


def test_secrets_are_named_before_they_are_sent_and_once(project: Path) -> None:
    # Given
    (project / ".env").touch()
    scene = Scene()
    # When
    scene.upload.send(project, scene.blobs)
    scene.upload.send(project, scene.blobs)
    # Then
    (line,) = scene.said
    assert line.startswith(".env looks like")


def test_what_stays_on_this_machine_is_no_secret_of_it(project: Path) -> None:
    # Given
    (project / "db.sqlite3").touch()
    scene = Scene(Selection(Globs(("*.mo",))), stays_here=True)
    # When
    scene.upload.send(project, scene.blobs)
    # Then
    (line,) = scene.said
    assert line.startswith("include *.mo matches no file")


def test_with_a_checkout_nothing_is_sent_and_selections_do_not_count(project: Path) -> None:
    # Given
    selection = Selection(exclude=Globs(["app"]), written=frozenset({"junit.xml"}))
    (project / "junit.xml").touch()
    scene, plain = Scene(selection, prove_only=True), Scene(prove_only=True)
    # When
    digest = scene.upload.send(project, scene.blobs)[0].digest
    scene.supply()
    # Then
    assert scene.store.blobs == {}
    (project / "junit.xml").unlink()
    assert plain.upload.send(project, plain.blobs)[0].digest == digest
