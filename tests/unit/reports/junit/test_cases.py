"""Which case each verdict and fixture becomes."""

from __future__ import annotations

from typing import Any

import pytest

from dct_celery.core.model import (
    Entry,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Outcome,
    Phase,
    RunReport,
    Verdict,
)
from dct_celery.reports.junit.cases import Case, Result, cases_of

SET_UP = FixtureRef.parse("setUpClass (app.tests.T)")


def verdict(outcome: Outcome, index: int = 0, *, name: str = "test_a", **more: object) -> Verdict:
    entry = Entry(
        index, f"app.tests.T.{name}", "app.tests.T", "app.tests", Phase.ISOLATED, "app/tests.py", 7
    )
    return Verdict(entry, outcome, **more)  # type: ignore[arg-type]


def fixture(outcome: Outcome, *, ref: FixtureRef = SET_UP, **more: object) -> FixtureVerdict:
    return FixtureVerdict(ref, outcome, **more)  # type: ignore[arg-type]


def failure(kind: str = "failure", **more: Any) -> Failure:
    return Failure(
        **{
            "kind": kind,
            "type": "AssertionError",
            "message": "1 != 2",
            "text": "Traceback ...",
            **more,
        }
    )


def cases(
    verdicts: list[Verdict], fixtures: list[FixtureVerdict] | None = None, **more: object
) -> list[Case]:
    more = {"exit_code": 0, **more}
    return list(cases_of(RunReport("r1", tuple(verdicts), tuple(fixtures or ()), **more)))  # type: ignore[arg-type]


def result(verdict: Verdict, *fixtures: FixtureVerdict) -> Result | None:
    return cases([verdict], list(fixtures))[0].result


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.PASSED, None),
        (Outcome.SKIPPED, Result("skipped", "", "why", "why")),
        (Outcome.XFAILED, Result("skipped", "expectedFailure", "expected failure", "why")),
        (Outcome.XPASSED, Result("failure", "unexpectedSuccess", "unexpected success", "why")),
        (Outcome.FAILED, Result("failure", "dct.failure", "why", "why")),
        (Outcome.ERROR, Result("error", "dct.error", "why", "why")),
        (Outcome.NOT_RUN, Result("error", "dct.NotRun", "why", "why")),
    ],
)
def test_every_outcome_has_its_element(outcome: Outcome, expected: Result | None) -> None:
    # When / Then
    assert result(verdict(outcome, reason="why")) == expected


def test_class_and_name_are_those_of_djangos_id() -> None:
    # Given a method, a module that did not import, and a doctest, whose id is not below its class
    ids = [
        ("app.tests.T", "app.tests.T.test_a"),
        ("unittest.loader._FailedTest", "unittest.loader._FailedTest.app.x"),
    ]
    ids += [("doctest.DocTestCase", "app.util.parse")]
    entries = [Entry(i, id_, cls, "m", Phase.UNMANAGED) for i, (cls, id_) in enumerate(ids)]

    # When
    found = cases([Verdict(entry, Outcome.PASSED) for entry in entries])

    # Then
    assert [(c.cls, c.name) for c in found] == [
        ("app.tests.T", "test_a"),
        ("unittest.loader._FailedTest", "app.x"),
        ("doctest.DocTestCase", "app.util.parse"),
    ]


def test_one_failure_gives_its_type_message_and_trace() -> None:
    # When / Then
    expected = Result("failure", "AssertionError", "1 != 2", "Traceback ...")
    assert result(verdict(Outcome.FAILED, failures=(failure(),))) == expected


def test_an_exception_without_text_has_its_type_as_message() -> None:
    # Given
    bare = failure("error", type="ValueError", message="")

    # When
    found = result(verdict(Outcome.ERROR, failures=(bare,)))

    # Then
    assert found
    assert found.message == "ValueError"


def test_failing_subtests_are_one_element_that_shows_each() -> None:
    # Given
    failures = (
        failure(subtest="(i=3)", text="trace 3"),
        failure("error", subtest="(i=5)", type="KeyError", text="trace 5"),
    )

    # When
    found = result(verdict(Outcome.ERROR, failures=failures))

    # Then the element is an error, as the outcome says, and carries the error's type
    assert found
    assert (found.tag, found.type) == ("error", "KeyError")
    assert found.message == "2 subtests failed, first: (i=5) 1 != 2"
    assert "[(i=3)] AssertionError: 1 != 2\ntrace 3" in found.body
    assert "[(i=5)] KeyError: 1 != 2\ntrace 5" in found.body


def test_a_failing_test_whose_tear_down_fails_too_shows_both() -> None:
    # Given
    failures = (failure(text="in test"), failure("error", type="OSError", text="in tearDown"))

    # When
    found = result(verdict(Outcome.ERROR, failures=failures))

    # Then
    assert found
    assert found.message == "2 failures, first: 1 != 2"
    assert "in test" in found.body
    assert "in tearDown" in found.body


def test_a_failed_class_fixture_is_a_case_and_its_tests_are_skipped_for_it() -> None:
    # Given
    covered = verdict(Outcome.NOT_RUN, covered_by=SET_UP)
    broken = fixture(
        Outcome.ERROR,
        failures=(failure("error", type="OSError", message="no disk"),),
        covers=(0,),
        worker="w",
    )

    # When
    test, synthetic = cases([covered], [broken])

    # Then
    assert test.result == Result("skipped", "", "setUpClass failed", f"{SET_UP}: no disk")
    assert (synthetic.cls, synthetic.name, synthetic.file) == (
        "app.tests.T",
        "setUpClass",
        "app/tests.py",
    )
    assert synthetic.result == Result("error", "OSError", "no disk", "Traceback ...")


def test_a_failed_module_fixture_is_a_case_of_the_module() -> None:
    # When
    found = cases([], [fixture(Outcome.ERROR, ref=FixtureRef.parse("setUpModule (app.tests)"))])

    # Then
    assert [(c.cls, c.name, c.red) for c in found] == [("app.tests", "setUpModule", True)]


def test_a_failed_tear_down_leaves_the_verdicts_of_its_tests() -> None:
    # When
    found = cases(
        [verdict(Outcome.PASSED)],
        [fixture(Outcome.ERROR, ref=FixtureRef.parse("tearDownClass (app.tests.T)"))],
    )

    # Then
    assert [(c.name, c.red) for c in found] == [("test_a", False), ("tearDownClass", True)]


@pytest.mark.parametrize("outcome", [Outcome.NOT_RUN, Outcome.SKIPPED])
def test_a_skipped_class_fixture_skips_its_tests_and_is_no_case(outcome: Outcome) -> None:
    # Given
    skipped = fixture(Outcome.SKIPPED, reason="needs PostGIS", covers=(0,))

    # When
    found = cases([verdict(outcome, covered_by=SET_UP)], [skipped])

    # Then
    assert [c.result for c in found] == [Result("skipped", "", "needs PostGIS", "needs PostGIS")]


@pytest.mark.parametrize("fixtures", [[], [fixture(Outcome.NOT_RUN)], [fixture(Outcome.PASSED)]])
def test_a_test_covered_by_a_fixture_without_a_verdict_is_an_error(
    fixtures: list[FixtureVerdict],
) -> None:
    # When
    found = result(verdict(Outcome.NOT_RUN, covered_by=SET_UP), *fixtures)

    # Then skipped would hide that it is unknown why it did not run
    assert found
    assert (found.tag, found.type) == ("error", "dct.NotRun")
    assert str(SET_UP) in found.message


def test_a_test_that_its_own_code_left_out_is_no_error() -> None:
    # When: a process has said so
    found = result(verdict(Outcome.NOT_RUN, worker="w@host", reason="never started"))
    # Then
    assert found == Result("skipped", "", "never started", "never started")


def test_of_two_events_of_one_fixture_the_one_that_covers_the_test_explains_it() -> None:
    # Given one class fixture in two chunks: skipped for the first test, failed for the second
    tests = [verdict(Outcome.NOT_RUN, i, covered_by=SET_UP) for i in range(2)]
    events = [
        fixture(Outcome.ERROR, covers=(1,)),
        fixture(Outcome.SKIPPED, reason="why", covers=(0,)),
    ]

    # When
    found = cases(tests, events)

    # Then
    assert [c.result.message for c in found[:2] if c.result] == ["why", "setUpClass failed"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_events_that_do_not_say_what_they_cover_the_worse_one_explains_it(
    order: int,
) -> None:
    # Given
    events = [fixture(Outcome.SKIPPED, reason="why"), fixture(Outcome.ERROR)][::order]

    # When
    found = result(verdict(Outcome.NOT_RUN, covered_by=SET_UP), *events)

    # Then
    assert found
    assert found.message == "setUpClass failed"


@pytest.mark.parametrize(("exit_code", "cases_expected"), [(0, 1), (5, 1), (3, 2), (7, 2)])
def test_a_red_run_without_a_red_test_is_no_green_document(
    exit_code: int, cases_expected: int
) -> None:
    # When
    found = cases(
        [verdict(Outcome.PASSED)], exit_code=exit_code, note="the store went away\nfor good"
    )

    # Then
    assert len(found) == cases_expected
    assert found[-1].red is (exit_code not in (0, 5))


def test_a_run_that_never_got_to_a_test_has_one_case_that_says_why() -> None:
    # When
    [only] = cases([], exit_code=7, note="no worker in pool main")

    # Then
    assert only.result == Result(
        "error", "dct.Run", "no worker in pool main", "no worker in pool main"
    )


@pytest.mark.parametrize(
    ("outcome", "kept"), [(Outcome.PASSED, ""), (Outcome.SKIPPED, ""), (Outcome.FAILED, "printed")]
)
def test_only_a_red_case_brings_its_output(outcome: Outcome, kept: str) -> None:
    # When
    [case] = cases([verdict(outcome, output="printed", sql="printed")])

    # Then
    assert (case.output, case.sql) == (kept, kept)


def test_a_module_that_could_not_be_imported_leads_to_the_line_that_failed() -> None:
    # Given
    entry = Entry(
        0,
        "unittest.loader._FailedTest.app.tests",
        "unittest.loader._FailedTest",
        "unittest.loader",
        Phase.LOAD_FAILED,
    )
    failure = Failure("error", "ImportError", "boom", "T", file="app/tests.py", line=3)
    # When
    (case,) = cases_of(RunReport("r", (Verdict(entry, Outcome.ERROR, failures=(failure,)),), (), 1))
    # Then
    assert (case.file, case.line) == ("app/tests.py", 3)
