"""Claims about `testproc.isolation.tree_watch`: who changed a shared tree, and where."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dct_celery.core.run.leaks import LeakKind
from dct_celery.testproc.isolation.tree_watch import TreeWatch


class Watched:
    """A tree with a package and a folder for uploads, and a watch on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("app/code.py", "media/old.txt"):
            (root / name).parent.mkdir(parents=True)
            (root / name).write_text("x")
        for path in (root, *root.rglob("*")):
            os.utime(path, (1, 1))
        self.watch = TreeWatch(str(root))
        self.now = time.time()
        self.watch.begin()

    def write(self, name: str, seconds: float = 0.0) -> None:
        """A file that was written `seconds` after the start; changes its folder if it is new."""
        path = self.root / name
        new = [one for one in (path, *path.parents) if not one.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("new")
        for one in {path, *new, *(one.parent for one in new)}:
            os.utime(one, (self.now + seconds,) * 2)

    def ends(self, cls: str, seconds: float) -> None:
        self.watch._ended.append((self.now + seconds, cls))

    def found(self) -> dict[str, str]:
        records = self.watch.end()
        assert {one.kind for one in records} <= {LeakKind.FILE}
        return {one.by: one.what for one in records}


@pytest.fixture
def tree(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "tree")


def test_a_tree_that_is_left_alone_has_nothing_to_say(tree: Watched) -> None:
    # Given
    (tree.root / "app" / "__pycache__").mkdir()
    (tree.root / "app" / "__pycache__" / "code.pyc").touch()
    os.utime(tree.root / "app", (1, 1))
    # Then
    assert tree.found() == {}


def test_a_file_is_attributed_to_the_class_that_ran_when_it_was_written(tree: Watched) -> None:
    # Given
    tree.write("media/a.txt", 1)
    tree.ends("app.A", 2)
    tree.write("media/b.txt", 3)
    tree.ends("app.B", 4)
    # Then
    assert tree.found() == {"app.A": "media/a.txt", "app.B": "media/b.txt"}


def test_a_file_that_changed_is_named(tree: Watched) -> None:
    # Given
    tree.write("app/code.py", 1)
    tree.ends("app.A", 2)
    # Then
    assert tree.found() == {"app.A": "app/code.py"}


def test_a_file_that_is_gone_is_named(tree: Watched) -> None:
    # Given
    (tree.root / "media" / "old.txt").unlink()
    os.utime(tree.root / "media", (tree.now + 1,) * 2)
    tree.ends("app.A", 2)
    # Then
    assert tree.found() == {"app.A": "media/old.txt (removed)"}


def test_a_folder_in_which_files_came_and_went_is_named(tree: Watched) -> None:
    # Given
    os.utime(tree.root, (tree.now + 1,) * 2)
    os.utime(tree.root / "media", (tree.now + 3,) * 2)
    tree.ends("app.A", 2)
    tree.ends("app.B", 4)
    # Then
    assert tree.found() == {
        "app.A": "./ (files came and went)",
        "app.B": "media/ (files came and went)",
    }


def test_a_new_folder_is_named_by_what_is_in_it(tree: Watched) -> None:
    # Given
    tree.write("uploads/2026/a.txt", 1)
    (tree.root / "spare").mkdir()
    for path in (tree.root, tree.root / "spare"):
        os.utime(path, (tree.now + 1,) * 2)
    tree.ends("app.A", 2)
    # Then
    assert tree.found() == {"app.A": "spare/, uploads/2026/a.txt"}


def test_of_many_files_the_first_are_named(tree: Watched) -> None:
    # Given
    for number in range(9):
        tree.write(f"media/{number}.txt", 1)
    tree.ends("app.A", 2)
    # Then
    assert tree.found() == {"app.A": "media/0.txt, media/1.txt, media/2.txt and 6 more"}


def test_each_chunk_begins_anew(tree: Watched) -> None:
    # Given
    tree.write("media/a.txt", 1)
    tree.ends("app.A", 2)
    assert tree.found()
    # When
    tree.watch.begin()
    # Then
    assert tree.found() == {}


def test_the_clock_of_files_is_that_of_the_classes(tree: Watched) -> None:
    # Given
    (tree.root / "media" / "now.txt").touch()
    tree.watch.class_over("app.A")
    # Then
    assert "media/now.txt" in tree.found().get("app.A", "")


def test_a_tree_that_is_gone_is_no_error(tree: Watched) -> None:
    # Given
    TreeWatch(str(tree.root / "nowhere")).begin()
    # Then
    assert TreeWatch(str(tree.root / "nowhere")).end() == []
