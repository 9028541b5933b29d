"""Claims about whole runs: `dct bisect` finds what a verdict depends on, and how to see it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dct_celery.core.model import FLAKY
from tests.support.fleet import Finished, Fleet
from tests.support.projects import make_project

TESTS = """
    import os
    from pathlib import Path
    from django.test import SimpleTestCase, TestCase

    STATE = set()

    class A(TestCase):
        def test_pollutes(self):
            STATE.add("dirt")

    class B(TestCase):
        def test_sets_up(self):
            STATE.add("ready")

    class C(TestCase):
        def test_is_a_victim_of_A(self):
            self.assertNotIn("dirt", STATE)

    class D(TestCase):
        def test_needs_B(self):
            self.assertIn("ready", STATE)

    class E(TestCase):
        def test_is_broken(self):
            self.assertEqual(1, 2)

    class F(TestCase):
        def test_is_flaky(self):
            path = Path(os.environ["COUNTER"])
            count = len(path.read_text()) if path.exists() else 0
            path.write_text("x" * (count + 1))
            self.assertEqual(count % 2, 1)

    class G(TestCase):
        def test_dies_after_A(self):
            if "dirt" in STATE:
                os._exit(3)
"""


@pytest.fixture
def project(place: Path) -> Path:
    return make_project(place, TESTS)


def run(fleet: Fleet, project: Path, *labels: str) -> str:
    """Id of a run of these labels."""
    counter = project.parent / f"{project.name}-counter"
    finished = fleet.run(project, "--env", "COUNTER", *labels, COUNTER=str(counter))
    return str(finished.json["run"])


def bisect(fleet: Fleet, project: Path, *arguments: str) -> Finished:
    counter = project.parent / f"{project.name}-counter"
    return fleet.again("bisect", project, *arguments, COUNTER=str(counter))


def test_the_polluter_is_found_and_the_command_shows_it(busy_fleet: Fleet, project: Path) -> None:
    # Given
    id_ = run(busy_fleet, project)
    # When
    finished = bisect(busy_fleet, project, id_, "C.test_is_a_victim_of_A")
    # Then
    assert finished.code == 0, finished
    found = finished.json["bisection"]
    assert (found["kind"], found["partner"], found["fails"]) == ("victim", "test_it.A", True)
    assert found["shown_after"] == ["test_it.A"]
    assert "victim of test_it.A" in finished.out
    assert found["command"] in finished.out
    # When: as printed, in Django itself
    assert shows(project, found["command"]) != 0
    assert shows(project, found["command"].replace("test_it.A ", "")) == 0


def shows(project: Path, command: str) -> int:
    """Exit code of a printed command."""
    words = shlex.split(command)
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=project,
        env={"PATH": os.environ["PATH"], "COUNTER": ""},
        capture_output=True,
        check=False,
    )
    return done.returncode


def test_the_state_setter_is_found_though_the_test_passed(busy_fleet: Fleet, project: Path) -> None:
    # Given
    id_ = run(busy_fleet, project)
    # When
    finished = bisect(busy_fleet, project, id_, "D.test_needs_B")
    # Then
    assert finished.code == 0, finished
    found = finished.json["bisection"]
    assert (found["kind"], found["partner"], found["fails"]) == ("brittle", "test_it.B", False)
    assert shows(project, found["command"]) == 0


def test_an_ordinary_failure_is_called_one(busy_fleet: Fleet, project: Path) -> None:
    # Given
    id_ = run(busy_fleet, project)
    # When
    finished = bisect(busy_fleet, project, id_, "E.test_is_broken")
    # Then
    assert finished.code == 0, finished
    assert "an ordinary failure: it fails alone and after all that runs before it" in finished.out
    assert "E.test_is_broken" in finished.json["bisection"]["command"]


def test_a_flaky_test_is_called_flaky_once_it_gave_both_verdicts(
    busy_fleet: Fleet, project: Path
) -> None:
    # Given
    id_ = run(busy_fleet, project)
    # When
    finished = bisect(busy_fleet, project, id_, "F.test_is_flaky")
    # Then
    assert finished.code == 0, finished
    assert f"{FLAKY}: it failed and passed after the same tests" in finished.out


def test_a_death_after_a_polluter_is_found(busy_fleet: Fleet, project: Path) -> None:
    # Given: it died in two attempts, the second one alone
    id_ = run(busy_fleet, project, "test_it.A", "test_it.G")
    # When
    finished = bisect(busy_fleet, project, id_, "G.test_dies_after_A")
    # Then
    assert finished.code == 0, finished
    assert finished.json["bisection"]["partner"] == "test_it.A"


def test_slots_search_at_once(fleet: Fleet, project: Path) -> None:
    # Given
    fleet.worker(slots=3)
    id_ = run(fleet, project, "--chunk-seconds", "1000")
    # When
    finished = bisect(fleet, project, id_, "E.test_is_broken")
    # Then
    assert finished.code == 0, finished
    assert len(finished.json["slots"]) > 1


def test_what_is_learned_shapes_the_next_run(busy_fleet: Fleet, project: Path) -> None:
    # Given
    id_ = run(busy_fleet, project, "test_it.A", "test_it.C")
    bisect(busy_fleet, project, id_, "C.test_is_a_victim_of_A")
    # When
    finished = busy_fleet.run(project, "test_it.A", "test_it.C", DCT_SETTLE="0.01")
    # Then: it is known what it fails after
    (order,) = [test["order"] for test in finished.json["tests"] if test["order"]]
    assert (order["kind"], order["of"]) == ("victim", "test_it.A")


def test_bad_input_is_one_line(busy_fleet: Fleet, project: Path) -> None:
    # Given
    id_ = run(busy_fleet, project, "test_it.A", "test_it.C")
    # When / Then
    for arguments, says in {
        (id_, "Q.test_x"): "'Q.test_x' is no test of run",
        ("20000101-000000-abcdef", "A.test_pollutes"): "is not known",
        (id_, "A.test_pollutes", "--settle", "0"): "--settle 0 leaves nothing to find out with",
    }.items():
        finished = bisect(busy_fleet, project, *arguments)
        assert finished.code == 4, finished
        assert says in finished.error


def test_a_failure_that_is_gone_with_the_code_is_not_called_flaky(
    busy_fleet: Fleet, project: Path
) -> None:
    # Given
    id_ = run(busy_fleet, project)
    tests = project / "test_it.py"
    tests.write_text(tests.read_text().replace("self.assertEqual(1, 2)", "pass"))
    # When
    finished = bisect(busy_fleet, project, id_, "E.test_is_broken")
    # Then
    assert "the code has changed since run" in finished.err
    assert "not the same any more" in finished.out, finished
