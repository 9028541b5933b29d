"""Claims about whole runs with `--artifacts`: files that a test left arrive beside the reports."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.projects import make_project

#: Longer than what a record carries.
LINES = 40_000
TESTS = f"""
    import os
    from django.test import SimpleTestCase

    class Loud(SimpleTestCase):
        def test_fails(self):
            for number in range({LINES}):
                print(f"line {{number:06}} {{os.environ['TOKEN']}}")
            self.fail("after much output")

        test_fails_alike = test_fails

        def test_passes(self):
            print("x" * 100_000)

        def test_says_little(self):
            self.fail("at once")
"""


def test_the_whole_output_of_a_failing_test_is_a_file_beside_the_reports(
    fleet: Fleet, place: Path
) -> None:
    # Given
    fleet.worker(slots=2)
    folder, report = place.parent / "artifacts", place.parent / "report.json"
    # When
    finished = fleet.run(
        make_project(place, TESTS),
        "--env=TOKEN",
        f"--artifacts={folder}",
        f"--json={report}",
        TOKEN="swordfish-and-chips",
    )
    # Then
    assert finished.code == 1, finished
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) == 2
    for path in written:
        assert path.read_text().splitlines() == [f"line {number:06} **" for number in range(LINES)]
    tests = {
        test["id"].rpartition(".")[2]: test for test in json.loads(report.read_text())["tests"]
    }
    named = [tests[name]["artifacts"] for name in ("test_fails", "test_fails_alike")]
    assert [[folder / one["path"] for one in artifacts] for artifacts in named] == [
        [path] for path in sorted(written)
    ]
    assert tests["test_passes"]["artifacts"] == tests["test_says_little"]["artifacts"] == []
    fleet.assert_tidy()
