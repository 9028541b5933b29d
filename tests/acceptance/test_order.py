"""Claims about whole runs: tests that depend on order get the verdict of the sequential run.

The report names them and what they depend on; the next run knows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Finished, Fleet
from tests.support.projects import make_project

#: Class B waits until another slot has run class C, and runs on while that slot runs the others.
TESTS = """
    import os
    import time
    from pathlib import Path
    from django.test import SimpleTestCase, TestCase
    from shelf.models import Book

    MARKER = Path(os.environ["MARKER_FOLDER"], "seen")
    STATE = set()

    class A(TestCase):
        def test_pollutes(self):
            STATE.add("dirt")

    class B(TestCase):
        def test_cleans_and_sets_up(self):
            until = time.monotonic() + 6
            while not MARKER.exists() and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(1.5)
            STATE.discard("dirt")
            STATE.add("ready")

    class C(TestCase):
        def test_plain(self):
            Book.objects.create(title="one")
            MARKER.touch()

    class D(TestCase):
        def test_is_a_victim_of_A(self):
            self.assertNotIn("dirt", STATE)

    class E(TestCase):
        def test_needs_B(self):
            self.assertIn("ready", STATE)

        def test_needs_nothing(self):
            pass

    class F(TestCase):
        def test_is_broken(self):
            self.assertTrue({sound}, "for good")
"""


def run(fleet: Fleet, project: Path, *flags: str) -> Finished:
    folder = project.parent / f"{project.name}-marker"
    folder.mkdir(exist_ok=True)
    (folder / "seen").unlink(missing_ok=True)
    return fleet.run(
        project,
        "--env",
        "MARKER_FOLDER",
        *flags,
        MARKER_FOLDER=str(folder),
        DCT_SETTLE="60",
    )


def orders(finished: Finished) -> dict[str, dict[str, Any]]:
    """Class of each test that is said to depend on order -> what is said of it."""
    return {
        test["id"].rsplit(".", 2)[-2]: test["order"]
        for test in finished.json["tests"]
        if test["order"] is not None
    }


@pytest.fixture
def project(place: Path) -> Path:
    return make_project(place, TESTS.replace("{sound}", "True"))


def test_a_suite_that_is_green_in_order_is_green_and_names_what_depends_on_order(
    pair: Fleet, project: Path
) -> None:
    # Given: durations are known from a first run
    run(pair, project)
    # When
    finished = run(pair, project)
    # Then
    assert finished.code == 0, finished
    found = orders(finished)
    assert (found["E"]["kind"], found["E"]["needs"].rsplit(".", 1)[-1]) == ("brittle", "B")
    assert "Order-dependent: " in finished.out


def test_what_was_found_out_shapes_the_next_run(pair: Fleet, project: Path) -> None:
    # Given
    for _ in range(2):
        run(pair, project)
    # When: nothing may be settled any more
    finished = run(pair, project, "--settle", "0.01")
    # Then
    assert finished.code == 0, finished
    assert orders(finished)["E"]["kind"] == "brittle"
    # When: the code changes, so that what was found out counts no longer
    (tests,) = (path for path in project.rglob("*.py") if "test_needs_B" in path.read_text())
    tests.write_text(tests.read_text() + "\n# changed\n")
    finished = run(pair, project, "--settle", "0.01")
    # Then
    assert finished.code == 1, finished


def test_a_failure_that_has_nothing_to_do_with_order_stays_one(pair: Fleet, place: Path) -> None:
    # When
    finished = run(pair, make_project(place, TESTS.replace("{sound}", "False")))
    # Then
    assert finished.code == 1, finished
    failed = {test["id"] for test in finished.json["tests"] if test["outcome"] == "failed"}
    assert {id_.rsplit(".", 1)[-1] for id_ in failed} == {"test_is_broken"}
    assert "F" not in orders(finished)


def test_without_a_budget_failures_are_taken_as_they_come(pair: Fleet, project: Path) -> None:
    # Given
    run(pair, project)
    # When
    finished = run(pair, project, "--settle", "0")
    # Then
    assert finished.code == 1, finished
    assert orders(finished) == {}
