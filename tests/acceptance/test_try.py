"""Claims about `dct try`: a suite in one process and on all slots, compared on one screen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.fleet import Finished, Fleet
from tests.support.projects import PASSING, make_project

#: Four classes that each sleep for a while, so that slots have something to share.
SLEEPY = """
    import time
    from django.test import SimpleTestCase
""" + "".join(
    f"""
    class S{number}(SimpleTestCase):
        def test_sleeps(self):
            time.sleep(3)
"""
    for number in range(4)
)
#: B differs between one process and several: A marks its process, and the second slot's is clean.
DIFFERENT = """
    import time
    from django.test import SimpleTestCase

    STATE = set()

    class A(SimpleTestCase):
        def test_marks(self):
            STATE.add("dirt")

    class B(SimpleTestCase):
        def test_fails_after_A(self):
            self.assertNotIn("dirt", STATE)

    class C(SimpleTestCase):
        def test_is_broken(self):
            time.sleep(1)
            self.assertEqual(1, 2)
"""


def dct_try(fleet: Fleet, project: Path, *arguments: str, **environment: str) -> Finished:
    return fleet.again("try", project, *arguments, **environment)


def test_a_suite_with_the_same_verdicts_is_parity(wide_fleet: Fleet, place: Path) -> None:
    # Given
    project = make_project(place, DIFFERENT)
    # When
    finished = dct_try(wide_fleet, project, "test_it.A", "test_it.C")
    # Then
    assert finished.code == 0, finished
    assert "parity:  the same verdict for all 2 tests, 1 of them failing in both" in finished.out
    assert "advice:  not" in finished.out
    found = finished.json
    assert (found["parity"], found["tests"], found["switch"]) == (True, 2, False)
    assert found["sequential"]["totals"] == found["distributed"]["totals"]
    assert found["distributed"]["seconds"]["settle"] > 0.5
    assert len(finished.out.splitlines()) < 40


def test_where_slots_help_it_says_to_switch_and_how(fleet: Fleet, place: Path) -> None:
    # Given
    fleet.worker(slots=4)
    project = make_project(place, SLEEPY)
    # When
    finished = dct_try(fleet, project, "test_it")
    # Then
    assert finished.code == 0, finished
    assert "advice:  switch: dct run test_it" in finished.out
    assert finished.json["sequential_seconds"] > 12
    assert finished.json["factor"] > 1.2
    assert finished.json["slots"] == 4


def test_the_first_run_is_one_process(wide_fleet: Fleet, place: Path) -> None:
    # Given
    finished = dct_try(wide_fleet, make_project(place, DIFFERENT))
    # When: it is asked for again
    run = finished.json["sequential"]["run"]
    again = wide_fleet.again("replay", place, run, "C.test_is_broken")
    # Then
    assert "replaying 3 tests in 3 classes that ran in one process" in again.out, again


def test_a_difference_is_bisected_and_named(pair: Fleet, place: Path) -> None:
    # Given: no failure is settled in the run itself, so B passes where A did not run before it
    slow = DIFFERENT.replace('STATE.add("dirt")', 'STATE.add("dirt"); time.sleep(4)')
    project = make_project(place, slow)
    # When
    finished = dct_try(pair, project, "--chunk-seconds", "0.1", "--settle", "0")
    # Then
    assert finished.code == 1, finished
    assert "parity:  no, 1 difference in 3 tests" in finished.out
    (found,) = finished.json["differences"]
    assert (found["sequential"], found["distributed"]) == ("failed", "passed")
    assert found["cause"] == "polluted by test_it.A: it passes alone and fails after it"
    assert "test_it.A test_it.B.test_fails_after_A" in found["command"]
    assert found["cause"] in finished.out
    assert "advice:  switch when the 1 difference is fixed" in finished.out


def test_without_a_server_and_without_a_trace_of_the_run_in_the_tree(
    fleet: Fleet, place: Path
) -> None:
    # Given
    project = make_project(place, PASSING)
    # When
    finished = dct_try(fleet, project, "--local", "2", DCT_SIGNING_KEY="", DCT_STORE="")
    # Then
    assert finished.code == 0, finished
    assert "parity:  the same verdict for all 3 tests" in finished.out
    assert not [path for path in project.iterdir() if path.suffix in (".xml", ".json")]
    # And what it took in one process is what a run of the same tests is measured by
    measured = fleet.run(project, "--local", "2", "--benchmark", DCT_SIGNING_KEY="", DCT_STORE="")
    # (how many times as fast, a busy machine decides)
    known = re.search(r"Speed-up, measured: \d+\.\d\d times as fast as one process", measured.out)
    assert known, measured


def test_local_runs_remember_what_they_learn(fleet: Fleet, place: Path) -> None:
    # Given
    project = make_project(place, SLEEPY)
    dct_try(fleet, project, "--local", "2", "test_it.S0")
    # When
    kept = list((fleet.folder / "state" / "dct_celery" / "timings").glob("*.json"))
    # Then
    (file,) = kept
    assert any("S0" in name for name in json.loads(file.read_text()))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("-k", "nothing"), 5, "no test was selected"),
        (("--json", "/proc/none/x.json"), 4, "cannot write /proc/none/x.json"),
    ],
)
def test_bad_input_is_one_line(
    busy_fleet: Fleet, place: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    # When
    finished = busy_fleet._dispatch(
        ["try", *arguments], make_project(place), place / "none.json", "none", {}
    ).finish()
    # Then
    assert finished.code == code, finished
    assert says in finished.out + finished.err
    assert not finished.inner_traceback


def test_a_process_that_dies_is_said_to_be_more_than_one(busy_fleet: Fleet, place: Path) -> None:
    # Given
    dying = DIFFERENT.replace("self.assertEqual(1, 2)", "__import__('os')._exit(3)")
    # When
    finished = dct_try(busy_fleet, make_project(place, dying))
    # Then
    assert "not all of it ran in one process" in finished.err, finished
    assert finished.json["tests"] == 3


def test_a_suite_that_cannot_be_collected_replaces_an_earlier_comparison(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    project = make_project(place, PASSING, settings="import nowhere_to_be_found")
    (busy_fleet.folder / f"{busy_fleet.name}-{len(busy_fleet.runs)}.json").write_text(
        '{"parity": true}'
    )
    # When
    finished = dct_try(busy_fleet, project)
    # Then
    assert finished.code == 4, finished
    assert (finished.json["parity"], finished.json["exit_code"]) == (False, 4)
    assert "nowhere_to_be_found" in finished.json["error"]
