"""Claims about the Django backend's result.

Whatever result class a project has, each of its judgements is recorded once.
"""

from __future__ import annotations

import io
import unittest
from typing import Any

import pytest

from dct_celery.core.model import FixtureRef, Outcome
from dct_celery.testproc.backends.django_unittest.result import fixture_named, recording
from dct_celery.wire import messages
from tests.support.inprocess import Bench


class Sample(unittest.TestCase):
    """One method for each way in which a test may end; not collected, as it is run by hand."""

    __test__ = False

    def passes(self) -> None: ...

    def fails(self) -> None:
        self.fail("one is not two")

    def errs(self) -> None:
        raise OSError("no disk")

    def skips(self) -> None:
        self.skipTest("not today")

    @unittest.expectedFailure
    def fails_as_expected(self) -> None:
        self.fail("as always")

    @unittest.expectedFailure
    def passes_unexpectedly(self) -> None: ...

    def has_bad_subtests(self) -> None:
        with self.subTest(number=1):
            self.fails()
        with self.subTest("named", number=2):
            self.errs()
        with self.subTest(number=3):
            pass

    def fails_and_cannot_clean_up(self) -> None:
        self.addCleanup(self.errs)
        self.fail("first")


def plain_result() -> unittest.TextTestResult:
    return unittest.TextTestResult(unittest.runner._WritelnDecorator(io.StringIO()), False, 0)


def run(name: str, result: Any = None) -> messages.TestFinished:
    """The record of one test of Sample."""
    bench, test = Bench(), Sample(name)
    result = recording(result or plain_result(), bench.recorder)
    bench.recorder.begin(test, 5, ("sample",), fixtures=False)
    test.run(result)
    bench.recorder.end(0.5)
    (record,) = bench.finished()
    return record


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("passes", Outcome.PASSED, ""),
        ("fails", Outcome.FAILED, ""),
        ("errs", Outcome.ERROR, ""),
        ("skips", Outcome.SKIPPED, "not today"),
        ("fails_as_expected", Outcome.XFAILED, "as always"),
        ("passes_unexpectedly", Outcome.XPASSED, ""),
        ("has_bad_subtests", Outcome.FAILED, ""),
        ("fails_and_cannot_clean_up", Outcome.ERROR, ""),
    ],
)
def test_each_end_of_a_test_has_its_outcome(name: str, outcome: Outcome, reason: str) -> None:
    # When
    record = run(name)
    # Then
    assert (record.index, record.outcome, record.reason) == (5, outcome, reason)


def test_a_failure_is_described_by_type_message_and_traceback() -> None:
    # When
    (failure,) = run("fails").failures
    # Then
    assert (failure.kind, failure.type) == ("failure", "AssertionError")
    assert failure.message == "one is not two"
    assert failure.text.startswith("Traceback")
    assert failure.file is None, "this file is no part of the bench's tree"


def test_subtests_that_go_wrong_are_told_apart_and_fail_their_test() -> None:
    # When
    record = run("has_bad_subtests")
    # Then
    assert [(each.subtest, each.kind) for each in record.failures] == [
        ("(number=1)", "failure"),
        ("[named] (number=2)", "error"),
    ]


def test_a_test_and_its_clean_up_that_fail_are_both_in_the_record() -> None:
    assert [(each.kind, each.type) for each in run("fails_and_cannot_clean_up").failures] == [
        ("failure", "AssertionError"),
        ("error", "OSError"),
    ]


def test_an_unexpected_success_is_a_failure_with_a_message() -> None:
    # When
    (failure,) = run("passes_unexpectedly").failures
    # Then
    assert (failure.kind, failure.type) == ("failure", "UnexpectedSuccess")


class Lenient(unittest.TextTestResult):
    """Takes errors for skips, by asking another of its own methods."""

    def addError(self, test: Any, err: Any) -> None:
        self.addSkip(test, f"tolerated: {err[1]}")


class Softer(unittest.TextTestResult):
    """Takes errors for failures, in the same way."""

    def addError(self, test: Any, err: Any) -> None:
        self.addFailure(test, err)


class Strict(unittest.TextTestResult):
    """Takes a success for a failure."""

    def addSuccess(self, test: Any) -> None:
        self.failures.append((test, "too easy"))


class Verbose(unittest.TextTestResult):
    """Remembers the SQL of a failure, as Django's --debug-sql does."""

    def addFailure(self, test: Any, err: Any) -> None:
        self.failures.append((test, "text", "SELECT 1"))  # type: ignore[arg-type]


def of(cls: type[unittest.TextTestResult]) -> unittest.TextTestResult:
    return cls(unittest.runner._WritelnDecorator(io.StringIO()), False, 0)


def test_the_verdict_of_a_custom_result_class_counts() -> None:
    # When
    tolerated, hard = run("errs", of(Lenient)), run("passes", of(Strict))
    # Then
    assert (tolerated.outcome, tolerated.reason) == (Outcome.SKIPPED, "tolerated: no disk")
    assert (hard.outcome, hard.failures[0].text) == (Outcome.FAILED, "too easy")


def test_an_event_that_one_method_hands_to_another_is_recorded_once() -> None:
    # When
    record = run("errs", of(Softer))
    # Then
    assert (record.outcome, len(record.failures)) == (Outcome.FAILED, 1)


def test_the_sql_of_a_failure_is_in_its_record() -> None:
    assert run("fails", of(Verbose)).sql == "SELECT 1"


def test_the_projects_own_result_object_goes_on_counting() -> None:
    # Given
    result = of(Lenient)
    # When
    run("fails", result)
    # Then
    assert isinstance(result, Lenient)
    assert result.testsRun == 1
    assert len(result.failures) == 1


def test_the_error_of_a_fixture_is_a_record_of_its_own() -> None:
    # Given
    bench = Bench()

    class Broken(Sample):
        @classmethod
        def setUpClass(cls) -> None:
            raise OSError("no disk")

    suite = unittest.TestSuite([Broken("passes")])
    # When
    suite.run(recording(plain_result(), bench.recorder))
    # Then
    (record,) = bench.sent()
    assert isinstance(record, messages.FixtureFinished)
    assert str(record.fixture).startswith("setUpClass (")
    assert record.fixture.name.endswith("Broken")
    assert (record.outcome, record.failures[0].type) == (Outcome.ERROR, "OSError")


def test_what_unittest_names_otherwise_is_a_fixture_that_nothing_depends_on() -> None:
    assert fixture_named("setUpModule (shop.tests)") == FixtureRef.parse("setUpModule (shop.tests)")
    assert fixture_named("stopTestRun") == FixtureRef.parse("tearDownSession (stopTestRun)")
