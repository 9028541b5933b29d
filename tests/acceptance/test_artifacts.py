"""Claims about whole runs with `--artifacts`: files that a test left arrive beside the reports."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.support.fleet import Fleet, until
from tests.support.projects import make_project
from tests.support.redis_server import RedisServer

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

#: One class that fails at once, and some that take their time.
SLOW = """
    import time
    from django.test import SimpleTestCase

    class First(SimpleTestCase):
        def test_fails(self):
            print("x" * 100_000)
            self.fail("after much output")
""" + "".join(
    f"""
    class Later{number}(SimpleTestCase):
        def test_passes(self):
            time.sleep(0.2)
"""
    for number in range(20)
)


def test_the_whole_output_of_a_failing_test_is_a_file_beside_the_reports(
    wide_fleet: Fleet, place: Path
) -> None:
    # Given
    folder, report = place.parent / "artifacts", place.parent / "report.json"
    junit = place.parent / "junit.xml"
    # When
    finished = wide_fleet.run(
        make_project(place, TESTS),
        "--env=TOKEN",
        f"--artifacts={folder}",
        f"--json={report}",
        f"--junit-xml={junit}",
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
    named_by_junit = [
        junit.parent / element.attrib["value"]
        for element in ET.parse(junit).iterfind(".//property[@name='dct.artifact']")
    ]
    assert sorted(named_by_junit) == sorted(written)
    for path in written:
        assert f"\n[[ATTACHMENT|{path}]]\n" in junit.read_text()
    assert tests["test_passes"]["artifacts"] == tests["test_says_little"]["artifacts"] == []
    wide_fleet.assert_tidy()


def test_a_file_that_was_kept_before_the_store_lost_it_is_not_missed(tmp_path: Path) -> None:
    # Given a dispatcher that has fetched the output of the first class, and dies
    folder = tmp_path / "artifacts"
    with RedisServer(tmp_path / "store") as store, Fleet(tmp_path / "fleet", store.url) as fleet:
        fleet.worker(DCT_LEASE_SECONDS="4")
        running = fleet.start(make_project(tmp_path / "project", SLOW), f"--artifacts={folder}")
        until(lambda: bool(list(folder.rglob("output.txt"))), what="the first file")
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        # When
        store.client().flushall()
        finished = fleet.attach(running.run).finish()
    # Then
    assert finished.code == 1, finished
    assert "the run goes on in it from the journal" in finished.err
    assert "did not arrive" not in finished.err
    assert len(list(folder.rglob("output.txt"))) == 1
