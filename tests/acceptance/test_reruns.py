"""Claims about whole runs with `--reruns`.

A flaky test is green and reported, a broken one stays red.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.fleet import Finished, Fleet
from tests.support.projects import make_project

#: Fails until its marker is there; the marker outlives the process and the clone.
TESTS = """
    import os
    from pathlib import Path
    from django.test import SimpleTestCase, TestCase
    from shelf.models import Book

    MARKER = Path(os.environ["MARKER_FOLDER"], "seen")

    class Flaky(TestCase):
        seen = []

        def setUp(self):
            self.seen.append(self.id())

        def test_first(self):
            Book.objects.create(title="one")

        def test_second(self):
            again = MARKER.exists()
            MARKER.touch()
            self.assertTrue(again, "the first time")
            self.assertEqual(self.seen, [self.id()], "not in a fresh fork")
            self.assertEqual(Book.objects.count(), 0)

    class Broken(SimpleTestCase):
        def test_third(self):
            self.assertTrue({broken})
"""


def project_of(place: Path, *, broken: bool) -> Path:
    return make_project(place, TESTS.replace("{broken}", str(not broken)))


def run(
    fleet: Fleet, project: Path, folder: Path, *flags: str
) -> tuple[Finished, ElementTree.Element]:
    folder.mkdir()
    report = folder / "junit.xml"
    finished = fleet.run(
        project,
        "--env",
        "MARKER_FOLDER",
        "--junit-xml",
        str(report),
        *flags,
        MARKER_FOLDER=str(folder),
    )
    return finished, ElementTree.parse(report).getroot()


@pytest.mark.parametrize("flags", [(), ("--failfast",)], ids=["as it is", "failing fast"])
def test_a_test_that_passes_when_run_again_is_green_and_flaky(
    busy_fleet: Fleet, place: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    # When
    finished, junit = run(
        busy_fleet, project_of(place, broken=False), tmp_path / "marker", "--reruns", "1", *flags
    )
    # Then
    assert finished.code == 0, finished
    assert finished.out.rstrip().endswith("OK, 1 flaky"), finished
    assert "AssertionError: False is not true : the first time" in finished.out
    flaky = [test for test in finished.json["tests"] if test["flaky"]]
    assert [(test["id"], test["outcome"], test["attempt"]) for test in flaky] == [
        ("test_it.Flaky.test_second", "passed", 1)
    ]
    assert [attempt["outcome"] for attempt in flaky[0]["attempts"]] == ["failed"]
    assert [element.get("type") for element in junit.iter("flakyFailure")] == ["AssertionError"]
    assert junit.get("failures") == "0"
    busy_fleet.assert_tidy()


def test_a_test_that_fails_again_is_red_beside_a_flaky_one(
    busy_fleet: Fleet, place: Path, tmp_path: Path
) -> None:
    # When
    project = project_of(place, broken=True)
    finished, junit = run(
        busy_fleet, project, tmp_path / "marker", "--reruns", "2", "--reruns-budget", "100"
    )
    # Then
    assert finished.code == 1, finished
    assert finished.out.rstrip().endswith("FAILED, 1 flaky (failures=1)"), finished
    assert finished.json["totals"]["flaky"] == 1
    assert len(list(junit.iter("rerunFailure"))) == 2
    assert (junit.get("tests"), junit.get("failures")) == ("3", "1")


def test_without_the_option_nothing_runs_again(
    busy_fleet: Fleet, place: Path, tmp_path: Path
) -> None:
    # When
    finished, _ = run(busy_fleet, project_of(place, broken=False), tmp_path / "marker")
    # Then
    assert finished.code == 1, finished
    assert [test["attempts"] for test in finished.json["tests"]] == [[], [], []]
