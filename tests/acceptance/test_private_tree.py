"""Slots of one worker do not meet in the tree; where they do, it is said who was there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.projects import make_project

#: Classes that all write the same file below the project's folder, and remove it again.
_UPLOADS = """
    import shutil, time
    from pathlib import Path
    from django.test import SimpleTestCase

    class Up0(SimpleTestCase):
        def tearDown(self):
            shutil.rmtree("media", ignore_errors=True)
        def upload(self):
            Path("media/a").mkdir(parents=True)
            Path("media/a/photo.txt").write_text("x")
            time.sleep(0.05)
            self.assertEqual([path.name for path in Path("media/a").iterdir()], ["photo.txt"])
        def test_0(self): self.upload()
        def test_1(self): self.upload()
        def test_2(self): self.upload()
        def test_3(self): self.upload()
        def test_4(self): self.upload()
        def test_5(self): self.upload()

    for number in range(1, 8):
        globals()[f"Up{number}"] = type(f"Up{number}", (Up0,), {"__module__": __name__})
"""
#: Classes that share folders in the temporary one: which an import made, and which it only named.
_IMPORTED = """
    import os, shutil, tempfile, time
    from django.test import SimpleTestCase

    MADE, NAMED = tempfile.mkdtemp(), os.path.join(tempfile.gettempdir(), "named")

    class Search0(SimpleTestCase):
        def setUp(self):
            os.makedirs(NAMED)
        def tearDown(self):
            shutil.rmtree(NAMED)
            os.remove(os.path.join(MADE, "index"))
        def write(self):
            self.assertEqual(os.path.dirname(NAMED), tempfile.gettempdir())
            for folder in (MADE, NAMED):
                with open(os.path.join(folder, "index"), "x") as file:
                    file.write("x")
            time.sleep(0.05)
            self.assertEqual((os.listdir(MADE), os.listdir(NAMED)), (["index"], ["index"]))
        def test_0(self): self.write()
        def test_1(self): self.write()
        def test_2(self): self.write()
        def test_3(self): self.write()

    for number in range(1, 8):
        globals()[f"Search{number}"] = type(f"Search{number}", (Search0,), {"__module__": __name__})
"""
#: What a sequential run finds: the first class leaves a file for the second.
_LEFT = """
    from pathlib import Path
    from django.test import SimpleTestCase

    class A(SimpleTestCase):
        def test_writes(self):
            Path("left.txt").write_text("x")

    class B(SimpleTestCase):
        def test_finds(self):
            self.assertTrue(Path("left.txt").exists())
"""


def private(worker_log: str) -> bool:
    return "slots share the tree" not in worker_log


def test_slots_of_one_worker_do_not_meet_in_the_tree(wide_fleet: Fleet, place: Path) -> None:
    # Given
    (worker,) = wide_fleet.workers
    project = make_project(place, _UPLOADS)
    # When
    finished = wide_fleet.run(project)
    # Then
    if not private(worker.log.read_text()):
        pytest.skip("this kernel allows no view of one's own")
    assert finished.code == 0, finished
    assert len(finished.outcomes()) == 48
    wide_fleet.assert_tidy()
    assert not list(worker.folder.glob("trees/*/tree/media"))


def test_slots_of_one_worker_do_not_meet_in_temporary_folders_and_know_them_by_the_imports_path(
    wide_fleet: Fleet, place: Path
) -> None:
    # Given
    (worker,) = wide_fleet.workers
    project = make_project(place, _IMPORTED)
    # When
    finished = wide_fleet.run(project)
    # Then
    if not private(worker.log.read_text()):
        pytest.skip("this kernel allows no view of one's own")
    assert finished.code == 0, finished
    assert len(finished.outcomes()) == 32
    wide_fleet.assert_tidy()


def test_where_they_share_it_the_classes_that_change_it_are_named(
    fleet: Fleet, place: Path
) -> None:
    # Given
    fleet.worker(slots=2, DCT_PRIVATE_TREE="0")
    project = make_project(place, _UPLOADS)
    # When
    finished = fleet.run(project)
    # Then
    leaks = [leak for leak in finished.json["leaks"] if leak["kind"] == "file"]
    assert {leak["by"] for leak in leaks} <= {f"test_it.Up{number}" for number in range(8)}
    assert len({leak["by"] for leak in leaks}) > 1
    assert "the project's folder, which slots of one worker share, was changed by test_it.Up" in (
        finished.err
    )


def test_a_class_finds_what_an_earlier_one_of_its_process_has_left(
    fleet: Fleet, place: Path
) -> None:
    # Given
    worker = fleet.worker()
    project = make_project(place, _LEFT)
    # When
    first, second = fleet.run(project), fleet.run(project)
    # Then: and the next run begins with the tree as it was sent
    assert (first.code, second.code) == (0, 0), first
    if private(worker.log.read_text()):
        (tree,) = worker.folder.glob("trees/*/tree")
        assert not (tree / "left.txt").exists()


def test_a_single_slot_that_shares_its_tree_with_nobody_is_not_blamed_for_passing_files(
    fleet: Fleet, place: Path
) -> None:
    # Given
    fleet.worker(DCT_PRIVATE_TREE="0")
    project = make_project(place, _UPLOADS)
    # When
    finished = fleet.run(project)
    # Then
    assert finished.code == 0, finished
    assert "came and went" not in finished.err
