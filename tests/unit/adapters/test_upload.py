"""The dispatcher's side.

Sent once, again in part when a worker asks, and only what belongs to the run.
"""

from __future__ import annotations

from pathlib import Path

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


class Desk:
    """An upload with its store, clock and warnings."""

    def __init__(self, selection: Selection | None = None, *, prove_only: bool = False) -> None:
        self.store = MemoryStore()
        self.blobs = MemoryBlobs(self.store)
        self.clock = Clock()
        self.said: list[str] = []
        self.upload = Upload(
            selection or Selection(), self.clock, self.said.append, prove_only=prove_only
        )

    def supply(self) -> None:
        self.clock.now += PAUSE
        self.upload.supply(self.blobs)


def test_only_what_is_missing_is_sent(project: Path) -> None:
    # Given
    desk = Desk()
    desk.blobs.put([(_CODE, b"x = 1\n")])
    # When
    taken, files, sent = desk.upload.send(project, desk.blobs)
    # Then
    assert (files, sent) == (3, len("#!/bin/sh\n"))
    assert digest_of(desk.store.blobs[taken.digest]) == taken.digest
    assert desk.upload.send(project, desk.blobs)[2] == 0


def test_what_a_worker_asks_for_is_sent_again(project: Path) -> None:
    # Given a store that has lost the index and a file
    desk = Desk()
    tree = desk.upload.send(project, desk.blobs)[0].digest
    del desk.store.blobs[tree], desk.store.blobs[_CODE]
    # When
    desk.blobs.want(tree, [tree, _CODE])
    desk.supply()
    # Then
    assert {tree, _CODE} <= desk.store.blobs.keys()


def test_no_request_brings_files_of_another_run(project: Path) -> None:
    # Given
    desk = Desk()
    tree = desk.upload.send(project, desk.blobs)[0].digest
    before = dict(desk.store.blobs)
    # When
    desk.blobs.want(tree, [digest_of(b"other"), "../../etc/passwd", ""])
    desk.blobs.want(digest_of(b"other tree"), [_CODE])
    desk.supply()
    # Then
    assert desk.store.blobs == before
    assert desk.said == []


def test_the_store_is_asked_only_now_and_then(project: Path) -> None:
    # Given
    desk = Desk()
    tree = desk.upload.send(project, desk.blobs)[0].digest
    desk.supply()
    del desk.store.blobs[_CODE]
    desk.blobs.want(tree, [_CODE])
    # When
    desk.upload.supply(desk.blobs)
    # Then
    assert _CODE not in desk.store.blobs


def test_before_anything_is_sent_there_is_nothing_to_supply() -> None:
    Desk().supply()


def test_a_file_that_has_changed_since_is_reported_once_and_ends_no_run(project: Path) -> None:
    # Given
    desk = Desk()
    tree = desk.upload.send(project, desk.blobs)[0].digest
    del desk.store.blobs[_CODE]
    (project / "app" / "code.py").write_text("x = 2\n")
    # When
    for _ in range(2):
        desk.blobs.want(tree, [_CODE])
        desk.supply()
    # Then
    assert desk.said == [
        "a worker lacks a file that cannot be sent again: app/code.py changed while it was read; "
        "run again when nothing writes there"
    ]


def test_a_file_that_changes_while_the_run_begins_stops_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    desk = Desk()
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"x = 2\n")
    # When / Then
    with pytest.raises(ConfigError, match="changed while it was read"):
        desk.upload.send(project, desk.blobs)


def test_secrets_are_named_before_they_are_sent_and_once(project: Path) -> None:
    # Given
    (project / ".env").touch()
    desk = Desk()
    # When
    desk.upload.send(project, desk.blobs)
    desk.upload.send(project, desk.blobs)
    # Then
    (line,) = desk.said
    assert line.startswith(".env looks like")


def test_with_a_checkout_nothing_is_sent_and_selections_do_not_count(project: Path) -> None:
    # Given
    selection = Selection(exclude=Globs(["app"]), written=frozenset({"junit.xml"}))
    (project / "junit.xml").touch()
    desk, plain = Desk(selection, prove_only=True), Desk(prove_only=True)
    # When
    digest = desk.upload.send(project, desk.blobs)[0].digest
    desk.supply()
    # Then
    assert desk.store.blobs == {}
    (project / "junit.xml").unlink()
    assert plain.upload.send(project, plain.blobs)[0].digest == digest
