"""Claims about `testproc.kept_files`: what tests write where it is wanted is taken once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dct_celery.core.ids import digest_of
from dct_celery.core.model import KeptFile
from dct_celery.testproc import kept_files as module
from dct_celery.testproc.kept_files import KeptFiles


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "shots").mkdir(parents=True)
    (tree / "shots" / "old.png").write_bytes(b"old")
    return tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    return folder


def kept(path: str, content: bytes) -> KeptFile:
    return KeptFile(path, len(content), digest_of(content))


def test_what_is_new_or_has_changed_is_copied_once(tree: Path, folder: Path) -> None:
    # Given
    files = KeptFiles(str(tree), ["shots/"])
    (tree / "shots" / "deep").mkdir()
    (tree / "shots" / "deep" / "new.png").write_bytes(b"new")
    (tree / "shots" / "empty.png").touch()
    (tree / "elsewhere.png").write_bytes(b"not wanted")
    # When
    first = files.take(str(folder))
    (tree / "shots" / "old.png").write_bytes(b"changed")
    second = files.take(str(folder))
    # Then
    assert first == ((kept("shots/deep/new.png", b"new"), kept("shots/empty.png", b"")), 0)
    assert second == ((kept("shots/old.png", b"changed"),), 0)
    assert {path.read_bytes() for path in folder.iterdir()} == {b"new", b"", b"changed"}
    assert files.take(str(folder)) == ((), 0)


def test_what_is_written_where_nothing_counts_is_not_the_next_chunks(
    tree: Path, folder: Path
) -> None:
    # Given
    files = KeptFiles(str(tree), ["/shots/", "*.log"])
    (tree / "shots" / "before.png").write_bytes(b"a class before the chunk")
    # When
    files.take("")
    (tree / "of.log").write_bytes(b"log")
    # Then
    assert files.take(str(folder)) == ((kept("of.log", b"log"),), 0)


def test_no_link_is_followed(tree: Path, folder: Path, tmp_path: Path) -> None:
    # Given
    files = KeptFiles(str(tree), ["shots/"])
    (tmp_path / "secret").write_bytes(b"secret")
    (tree / "shots" / "link.png").symlink_to(tmp_path / "secret")
    os.mkfifo(tree / "shots" / "pipe")
    # When / Then
    assert files.take(str(folder)) == ((), 0)


@pytest.mark.parametrize(("name", "most"), [("MAX_ARTIFACT", 2), ("MAX_KEPT", 1)])
def test_what_is_too_large_or_too_much_is_counted(
    tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    # Given
    files = KeptFiles(str(tree), ["shots/"])
    (tree / "shots" / "a.png").write_bytes(b"a")
    (tree / "shots" / "b.png").write_bytes(b"bbb")
    monkeypatch.setattr(module, name, most)
    # When / Then
    assert files.take(str(folder)) == ((kept("shots/a.png", b"a"),), 1)


def test_a_name_that_no_report_could_show_stays_behind(tree: Path, folder: Path) -> None:
    # Given
    files = KeptFiles(str(tree), ["shots/"])
    (tree / "shots" / "a\nb.png").write_bytes(b"a")
    # When / Then
    assert files.take(str(folder)) == ((), 1)


def test_one_that_cannot_be_copied_is_counted_and_costs_no_verdict(
    tree: Path, folder: Path
) -> None:
    # Given a folder that a test has removed
    files = KeptFiles(str(tree), ["shots/"])
    (tree / "shots" / "a.png").write_bytes(b"a")
    folder.rmdir()
    # When / Then
    assert files.take(str(folder)) == ((), 1)
