"""What the harness takes for a failure of a round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.chaos.checks import Debts, junit_problems, read_report, report_problems, reruns

ORACLE: dict[str, Any] = {
    "tests": [{"id": "t.A.test_x", "outcome": "passed"}, {"id": "t.A.test_y", "outcome": "failed"}],
    "fixtures": [],
    "exit_code": 1,
}


def report(*tests: tuple[str, str], **fields: Any) -> dict[str, Any]:
    listed = [{"id": id_, "outcome": outcome, "attempt": 1} for id_, outcome in tests]
    return {"tests": listed, "fixtures": [], "exit_code": 1, "complete": True, "note": "", **fields}


GOOD = report(("t.A.test_x", "passed"), ("t.A.test_y", "failed"))


def test_an_equal_report_has_no_problem() -> None:
    assert report_problems(ORACLE, 1, GOOD) == []


def test_a_lost_test_is_a_problem() -> None:
    assert report_problems(ORACLE, 1, report(("t.A.test_x", "passed"))) == [
        "test 't.A.test_y': sequential failed, ours absent",
    ]


def test_a_test_that_is_there_twice_is_a_problem() -> None:
    # Given
    doubled = report(*[("t.A.test_x", "passed")] * 2, ("t.A.test_y", "failed"))
    # When
    problems = report_problems(ORACLE, 1, doubled)
    # Then
    assert "t.A.test_x: 2 times in the JSON report" in problems


def test_another_verdict_or_exit_code_is_a_problem() -> None:
    assert (
        report_problems(ORACLE, 1, report(("t.A.test_x", "error"), ("t.A.test_y", "failed"))) != []
    )
    assert report_problems(ORACLE, 0, GOOD) == ["the command ended with 0, its report says 1"]
    assert report_problems(ORACLE, 7, {**GOOD, "exit_code": 7}) == [
        "exit code: sequential 1, ours 7"
    ]


def test_an_incomplete_report_and_none_at_all_are_problems() -> None:
    assert report_problems(ORACLE, 1, {**GOOD, "complete": False, "note": "stopped"}) == [
        "the report is incomplete: stopped"
    ]
    assert report_problems(ORACLE, 3, {}) == ["exit 3, and no JSON report"]


def test_many_differences_are_cut_short() -> None:
    # Given
    oracle = {
        **ORACLE,
        "tests": [{"id": f"t.{number:02}", "outcome": "passed"} for number in range(50)],
    }
    # When
    problems = report_problems(oracle, 1, report())
    # Then
    assert len(problems) == 9
    assert problems[-1] == "and 42 more"


def junit(folder: Path, *cases: str) -> Path:
    path = folder / "junit.xml"
    path.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    return path


X = '<testcase classname="t.A" name="test_x"/>'
Y = '<testcase classname="t.A" name="test_y"><failure/></testcase>'


def test_junit_has_each_test_once_and_its_failures(tmp_path: Path) -> None:
    assert junit_problems(ORACLE, junit(tmp_path, X, Y)) == []
    assert junit_problems(ORACLE, junit(tmp_path, X)) == [
        "t.A.test_y: 0 times in JUnit",
        "JUnit has 0 failures, the oracle 1",
    ]
    assert junit_problems(ORACLE, junit(tmp_path, X, X, Y)) == ["t.A.test_x: 2 times in JUnit"]
    assert junit_problems(ORACLE, tmp_path / "none.xml")[0].startswith("JUnit cannot be read")


def test_junit_names_tests_of_pytest_as_those_of_django(tmp_path: Path) -> None:
    # Given
    oracle = {"tests": [{"id": "t.py::A::test_x", "outcome": "passed"}]}
    # Then
    assert junit_problems(oracle, junit(tmp_path, X)) == []
    assert junit_problems(oracle, junit(tmp_path, Y)) == ["t.A.test_x: 0 times in JUnit"]


def test_a_later_attempt_is_a_rerun() -> None:
    # Given
    again = {**GOOD, "tests": [{**GOOD["tests"][0], "attempt": 2}, GOOD["tests"][1]]}
    # Then
    assert (reruns(again), reruns(GOOD), reruns({})) == (1, 0, 0)


def test_a_report_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"tests": [')
    assert read_report(tmp_path / "half.json") == read_report(tmp_path / "none.json") == {}


def test_what_is_gone_in_time_is_no_failure_and_what_stays_is_one() -> None:
    # Given
    debts = Debts(seconds=180.0)
    debts.incur([("database", "test_a"), ("key", "dct:x")], seed=7, now=100.0)
    # When one of them goes, and the other is seen again by a later round
    debts.settle([("database", "test_a")])
    debts.incur([("database", "test_a")], seed=8, now=200.0)
    # Then
    assert debts.open == ["database test_a (seed 7)"]
    assert debts.overdue(279.9) == []
    assert debts.overdue(280.0) == [(7, "database left behind: test_a")]
    assert debts.overdue(290.0) == []
    assert debts.open == []
