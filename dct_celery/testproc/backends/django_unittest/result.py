"""Passes unittest's events to the recorder, whatever result class the project uses.

The project's own result object is the judge: its class gets `RecordingResult` in front, and what
counts is which of its lists grew during an event, because those lists decide the exit code of the
sequential run. So a result class that turns an error into a skip is respected. Text is formatted by
the project's class, in this process.
"""

from __future__ import annotations

import unittest
from typing import Any
from unittest.suite import _ErrorHolder  # type: ignore[attr-defined]

from dct_celery.core.model import Failure, FixturePhase, FixtureRef, FixtureScope, Outcome
from dct_celery.testproc.failures import MAX_LINE, cut, describe, first_line
from dct_celery.testproc.recorder import Recorder

#: List of a TestResult -> the outcome that an item in it stands for.
_LISTS = {
    "errors": Outcome.ERROR,
    "failures": Outcome.FAILED,
    "skipped": Outcome.SKIPPED,
    "expectedFailures": Outcome.XFAILED,
    "unexpectedSuccesses": Outcome.XPASSED,
}


class RecordingResult:
    """Mixed in front of the project's result class.

    It sees each event once, however the class below delegates.
    """

    _dct_recorder: Recorder
    _dct_depth = 0

    def _dct_event(
        self, method: str, test: Any, *args: Any, error: Any = None, subtest: Any = None
    ) -> None:
        if self._dct_depth:
            getattr(super(), method)(test, *args)
            return
        self._dct_depth = 1
        before = {name: len(getattr(self, name, ())) for name in _LISTS}
        try:
            getattr(super(), method)(test, *args)
        finally:
            self._dct_depth = 0
            self._dct_judge(before, test, error, subtest)

    def _dct_judge(self, before: dict[str, int], test: Any, error: Any, subtest: Any) -> None:
        for name, outcome in _LISTS.items():
            for item in getattr(self, name, ())[before[name] :]:
                text, sql = _texts(item)
                if name in ("errors", "failures"):
                    kind = "error" if name == "errors" else "failure"
                    root = self._dct_recorder.root
                    failure = describe(
                        *_error(error), text, root, kind=kind, subtest=_subtest_name(subtest)
                    )
                    # A subtest that goes wrong in any way fails its test; only the test itself can
                    # have an error.
                    judged = outcome if subtest is None else Outcome.FAILED
                    self._dct_report(test, judged, failure, "", sql)
                else:
                    reason = text if name == "skipped" else first_line(_error(error)[1])
                    self._dct_report(test, outcome, _unexpected(name), reason, sql)

    def _dct_report(
        self, test: Any, outcome: Outcome, failure: Failure | None, reason: str, sql: str
    ) -> None:
        """`test` is a test, a subtest or the holder of a fixture's error."""
        if isinstance(test, _ErrorHolder):
            self._dct_recorder.fixture_finished(fixture_named(test.id()), outcome, failure, reason)
        else:
            self._dct_recorder.event(outcome, failure, reason, sql)

    def startTest(self, test: Any) -> None:
        self._dct_recorder.started(test)
        super().startTest(test)  # type: ignore[misc]

    def addError(self, test: Any, err: Any) -> None:
        self._dct_event("addError", test, err, error=err)

    def addFailure(self, test: Any, err: Any) -> None:
        self._dct_event("addFailure", test, err, error=err)

    def addSkip(self, test: Any, reason: str) -> None:
        self._dct_event("addSkip", test, reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._dct_event("addExpectedFailure", test, err, error=err)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._dct_event("addUnexpectedSuccess", test)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        self._dct_event("addSubTest", test, subtest, err, error=err, subtest=subtest)


class SuspiciousResult(RecordingResult):
    """For a result class with its own addSuccess, which may turn a success into something else."""

    def addSuccess(self, test: Any) -> None:
        self._dct_event("addSuccess", test)


#: Result classes whose addSuccess cannot change a verdict, so that the most frequent event can be
#: skipped.
_PLAIN_SUCCESS = (unittest.TestResult.addSuccess, unittest.TextTestResult.addSuccess)


def recording(result: Any, recorder: Recorder) -> Any:
    """The same result object, of a class with RecordingResult in front."""
    cls = type(result)
    front = RecordingResult if cls.addSuccess in _PLAIN_SUCCESS else SuspiciousResult
    result.__class__ = type(f"Recording{cls.__name__}", (front, cls), {})
    result._dct_recorder = recorder
    return result


def fixture_named(text: str) -> FixtureRef:
    """The fixture for a name of unittest.

    What is none of its fixtures (a hook of the test run) gets a reference that no test depends on.
    """
    try:
        return FixtureRef.parse(text)
    except ValueError:
        return FixtureRef(FixturePhase.TEAR_DOWN, FixtureScope.SESSION, text)


def _unexpected(name: str) -> Failure | None:
    if name != "unexpectedSuccesses":
        return None
    text = "Unexpected success: the test is marked as an expected failure, but passed."
    return Failure("failure", "UnexpectedSuccess", text, text)


def _error(error: Any) -> tuple[Any, Any]:
    return (error[0], error[1]) if isinstance(error, tuple) and len(error) >= 2 else (None, None)


def _subtest_name(subtest: Any) -> str:
    if subtest is None:
        return ""
    try:
        return cut(str(subtest._subDescription()), MAX_LINE)
    except BaseException as failure:
        return f"<{type(failure).__name__} in the subtest's description>"


def _texts(item: Any) -> tuple[str, str]:
    """(text, sql) of an item of a result list.

    An item is (test, text), DebugSQL's (test, text, sql), or a bare test.
    """
    if not isinstance(item, tuple):
        return "", ""
    text = item[1] if len(item) > 1 else ""
    sql = item[2] if len(item) > 2 else ""
    return (text if isinstance(text, str) else str(text)), (sql if isinstance(sql, str) else "")
