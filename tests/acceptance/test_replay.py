"""Claims about whole runs: `dct replay` runs again what ran in one test process of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.projects import make_project

#: C fails after A; E and F share a database that E has flushed.
TESTS = """
    from django.test import SimpleTestCase, TestCase, TransactionTestCase
    from shelf.models import Book

    STATE = set()

    class A(TestCase):
        def test_pollutes(self):
            STATE.add("dirt")

    class B(TestCase):
        def test_plain(self):
            Book.objects.create(title="one")

    class C(TestCase):
        def test_is_a_victim_of_A(self):
            self.assertNotIn("dirt", STATE)

        def test_is_sound(self):
            pass

    class D(SimpleTestCase):
        def test_is_not_run_again(self):
            pass

    class E(TransactionTestCase):
        def test_flushes(self):
            self.assertEqual(Book.objects.count(), 0)
            Book.objects.create(title="x")

    class F(TransactionTestCase):
        def test_is_flushed(self):
            self.assertEqual(Book.objects.count(), 0)
"""


@pytest.fixture
def project(place: Path) -> Path:
    return make_project(place, TESTS)


def ran(json: dict[str, list[dict[str, str]]]) -> list[str]:
    """Classes and tests of a report."""
    return [".".join(test["id"].rsplit(".", 2)[-2:]) for test in json["tests"]]


def test_what_ran_in_one_process_runs_in_one_again(busy_fleet: Fleet, project: Path) -> None:
    # Given: one slot
    first = busy_fleet.run(project)
    assert first.code == 1, first
    # When
    finished = busy_fleet.again("replay", project, first.json["run"])
    # Then
    assert finished.code == 1, finished
    assert ran(finished.json) == [
        "A.test_pollutes",
        "B.test_plain",
        "C.test_is_a_victim_of_A",
        "C.test_is_sound",
    ]
    assert "replaying 4 tests in 3 classes that ran in one process of build-a" in finished.out
    assert finished.json["slots"][0]["chunks"] == 1
    assert f"C.test_is_a_victim_of_A failed as in run {first.json['run']}" in finished.out


def test_classes_of_all_kinds_run_in_one_process_on_one_clone(
    busy_fleet: Fleet, project: Path
) -> None:
    # Given
    first = busy_fleet.run(project)
    # When
    finished = busy_fleet.again("replay", project, first.json["run"], "F.test_is_flushed")
    # Then
    assert len(finished.json["tests"]) == 7, finished
    assert finished.json["slots"][0]["chunks"] == 1
    assert f"F.test_is_flushed passed as in run {first.json['run']}" in finished.out


def test_on_this_machine_without_the_fleet(busy_fleet: Fleet, project: Path) -> None:
    # Given
    first = busy_fleet.run(project)
    # When
    finished = busy_fleet.again("replay", project, first.json["run"], "--local", "1")
    # Then
    assert finished.code == 1, finished
    assert len(finished.json["tests"]) == 4


def test_a_local_run_is_replayed_locally(busy_fleet: Fleet, project: Path) -> None:
    # Given
    first = busy_fleet.run(project, "--local", "1")
    assert first.code == 1, first
    # When: neither a pool nor a key is named
    finished = busy_fleet.again(
        "replay", project, first.json["run"], DCT_SIGNING_KEY="", DCT_STORE="redis://127.0.0.1:1/0"
    )
    # Then
    assert finished.code == 1, finished
    assert "failed as in run" in finished.out


def test_a_machine_without_the_journal_has_it_from_the_store(
    busy_fleet: Fleet, project: Path, tmp_path: Path
) -> None:
    # Given
    first = busy_fleet.run(project)
    # When
    finished = busy_fleet.again(
        "replay", project, first.json["run"], XDG_STATE_HOME=str(tmp_path / "other")
    )
    # Then
    assert finished.code == 1, finished
    assert "failed as in run" in finished.out


def test_code_that_has_changed_is_run_as_it_is_now(busy_fleet: Fleet, project: Path) -> None:
    # Given
    first = busy_fleet.run(project)
    tests = project / "test_it.py"
    tests.write_text(tests.read_text().replace('STATE.add("dirt")', "pass"))
    # When
    finished = busy_fleet.again("replay", project, first.json["run"])
    # Then
    assert finished.code == 0, finished
    assert f"the code has changed since run {first.json['run']}" in finished.err
    assert f"passed: it failed in run {first.json['run']}" in finished.out


def test_code_that_has_not_changed_is_not_said_to_have(busy_fleet: Fleet, project: Path) -> None:
    # Given: the report of the first run lies in the tree
    first = busy_fleet.run(project, "--junit-xml", "junit.xml")
    # When
    finished = busy_fleet.again("replay", project, first.json["run"])
    # Then
    assert "the code has changed" not in finished.err, finished


def test_a_test_that_is_no_more_is_one_line(busy_fleet: Fleet, project: Path) -> None:
    # Given
    first = busy_fleet.run(project)
    tests = project / "test_it.py"
    tests.write_text(tests.read_text().replace("test_is_a_victim_of_A", "test_has_a_new_name"))
    # When
    finished = busy_fleet.again("replay", project, first.json["run"])
    # Then
    assert finished.code == 4, finished
    assert "test_is_a_victim_of_A is not in the suite any more" in finished.error


def test_what_is_not_known_is_one_line(busy_fleet: Fleet, project: Path) -> None:
    # Given
    first = busy_fleet.run(project)
    run = first.json["run"]
    # When / Then
    for arguments, says in {
        ("20000101-000000-abcdef",): "run 20000101-000000-abcdef is not known",
        ("../x",): "'../x' is no id of a run",
        (run, "C.test_is_a_victim"): "did you mean",
        (run, "nothing.like.it"): "is no test of run",
    }.items():
        finished = busy_fleet.again("replay", project, *arguments)
        assert finished.code == 4, finished
        assert says in finished.error


def test_a_run_of_another_project_is_refused(
    busy_fleet: Fleet, project: Path, tmp_path: Path
) -> None:
    # Given
    first = busy_fleet.run(project)
    other = tmp_path / "other"
    other.mkdir()
    # When
    finished = busy_fleet.again("replay", make_project(other), first.json["run"])
    # Then
    assert finished.code == 4, finished
    assert "is of the project in" in finished.error
