"""Claims about whole runs: order, replay, bisect and try are for pytest's tests, too.

The projects have functions, which no plan keeps together, and a class. `dct` recognises them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.fleet import Finished, Fleet

#: TestB waits until another slot has run test_plain, and runs on while that runs the others.
SPREAD = """
import os
import time
from pathlib import Path

import pytest

MARKER = Path(os.environ["MARKER_FOLDER"], "seen")
STATE = set()

def test_pollutes():
    STATE.add("dirt")

class TestB:
    def test_cleans_and_sets_up(self):
        until = time.monotonic() + 4
        while not MARKER.exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.8)
        STATE.discard("dirt")
        STATE.add("ready")

def test_plain():
    MARKER.touch()

@pytest.mark.parametrize("case", ["a::b", "c"])
def test_is_a_victim(case):
    assert "dirt" not in STATE

def test_needs_b():
    assert "ready" in STATE

def test_needs_nothing():
    pass
"""
#: All run on one slot, and in two processes at most.
ALONE = """
import pytest

STATE = set()

def test_pollutes():
    STATE.add("dirt")

class TestB:
    def test_sets_up(self):
        STATE.add("ready")

@pytest.mark.parametrize("case", ["a::b", "c"])
def test_is_a_victim(case):
    assert "dirt" not in STATE

def test_needs_b():
    assert "ready" in STATE

def test_is_broken():
    assert 1 == 2
"""


def make_project(place: Path, tests: str) -> Path:
    (place / "checks").mkdir(parents=True)
    (place / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    (place / "checks" / "test_it.py").write_text(tests)
    return place


def run(fleet: Fleet, project: Path) -> Finished:
    folder = project.parent / f"{project.name}-marker"
    folder.mkdir(exist_ok=True)
    (folder / "seen").unlink(missing_ok=True)
    return fleet.run(project, "--env", "MARKER_FOLDER", MARKER_FOLDER=str(folder), DCT_SETTLE="60")


def orders(finished: Finished) -> dict[str, dict[str, Any]]:
    """Node id without its file -> what is said of the order of the test."""
    return {
        test["id"].partition("::")[2]: test["order"]
        for test in finished.json["tests"]
        if test["order"] is not None
    }


def test_a_suite_that_is_green_in_order_is_green_and_is_remembered(
    pair: Fleet, place: Path
) -> None:
    # Given: durations are known from a first run
    project = make_project(place, SPREAD)
    first = run(pair, project)
    assert "backend: pytest, recognised by pytest.ini; --backend django takes" in first.out
    # When
    second = run(pair, project)
    # Then
    assert (first.code, second.code) == (0, 0), second
    found = orders(second)["test_needs_b"]
    assert (found["kind"], found["needs"]) == ("brittle", "checks.test_it.TestB")
    # When: it is known by now
    third = run(pair, project)
    # Then: it runs behind what it needs at once, and the others as they always do
    assert third.code == 0, third
    (test,) = (one for one in third.json["tests"] if one["id"].endswith("::test_needs_b"))
    assert (test["attempt"], test["order"]["needs"]) == (1, "checks.test_it.TestB")
    assert "test_needs_nothing" not in orders(third)


def test_what_a_process_ran_is_replayed_and_the_cause_is_found(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    project = make_project(place, ALONE)
    first = busy_fleet.run(project)
    failed = {test["id"] for test in first.json["tests"] if test["outcome"] == "failed"}
    assert {id_.partition("::")[2] for id_ in failed} == {
        "test_is_a_victim[a::b]",
        "test_is_a_victim[c]",
        "test_is_broken",
    }
    run_id = str(first.json["run"])
    # When
    replayed = busy_fleet.again("replay", project, run_id, "test_is_a_victim[a::b]")
    # Then
    assert replayed.code == 1, replayed
    assert "test_is_a_victim[a::b] failed as in run" in replayed.out
    assert [test["id"].partition("::")[2] for test in replayed.json["tests"]] == [
        "test_pollutes",
        "TestB::test_sets_up",
        "test_is_a_victim[a::b]",
    ]
    # When
    victim = busy_fleet.again("bisect", project, run_id, "test_it.py::test_is_a_victim[c]")
    # Then
    found = victim.json["bisection"]
    assert victim.code == 0, victim
    assert (found["kind"], found["partner"]) == ("victim", "checks/test_it.py::test_pollutes")
    assert found["command"] in victim.out
    assert shows(project, found["command"]) == 1
    assert shows(project, found["command"].replace("checks/test_it.py::test_pollutes ", "")) == 0
    # When
    brittle = busy_fleet.again("bisect", project, run_id, "test_needs_b")
    # Then
    found = brittle.json["bisection"]
    assert (found["kind"], found["partner"]) == ("brittle", "checks.test_it.TestB")
    assert found["command"].endswith("checks/test_it.py::TestB checks/test_it.py::test_needs_b")
    assert shows(project, found["command"]) == 0
    # When
    unknown = busy_fleet.again("replay", project, run_id, "test_is_a_victim")
    # Then
    assert unknown.code == 4
    assert "did you mean checks/test_it.py::test_is_a_victim[a::b], checks/" in unknown.error


def shows(project: Path, command: str) -> int:
    """Exit code of a printed command."""
    words = shlex.split(command)
    assert words[0] == "python"
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=project,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    ).returncode


def test_a_trial_compares_pytest_in_one_process_with_all_slots(pair: Fleet, place: Path) -> None:
    # Given
    project = make_project(place, ALONE)
    names = [f"checks/test_it.py::{name}" for name in ("test_pollutes", "TestB", "test_is_broken")]
    # When
    finished = pair.again("try", project, *names)
    # Then
    assert finished.code == 0, finished
    assert finished.out.startswith("backend: pytest, recognised by pytest.ini; ")
    assert finished.out.count("backend: ") == 1
    assert "parity:  the same verdict for all 3 tests, 1 of them failing in both" in finished.out
    assert finished.json["sequential"]["totals"] == finished.json["distributed"]["totals"]
