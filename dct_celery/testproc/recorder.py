"""From unittest's events to records, whatever result class the project uses.

The project's own result object does the judging: its class gets `RecordingResult` in front, and what counts is which of its
lists grew while an event was handled, because those lists decide the sequential run's exit code. A result class that turns
an error into a skip is thereby believed. Text is formatted by the project's class, in this process.
"""

from __future__ import annotations

import os
import traceback
import unittest
from typing import Any
from unittest import signals
from unittest.suite import _ErrorHolder  # type: ignore[attr-defined]
from unittest.util import strclass

from dct_celery.core.model import BAD_OUTCOMES, Failure, FixturePhase, FixtureRef, FixtureScope, Outcome, worst
from dct_celery.testproc.channel import Channel
from dct_celery.testproc.output import OutputFile
from dct_celery.testproc.place import place
from dct_celery.wire import messages

#: List of a TestResult -> what an item in it means.
_LISTS = {
    "errors": Outcome.ERROR,
    "failures": Outcome.FAILED,
    "skipped": Outcome.SKIPPED,
    "expectedFailures": Outcome.XFAILED,
    "unexpectedSuccesses": Outcome.XPASSED,
}
#: Bound now, as tests patch them.
_exit, _format_exception = os._exit, traceback.format_exception
#: Longest text of one traceback or message, in characters; the middle is cut out.
MAX_TEXT = 256 * 1024


class Recorder:
    """Collects the events of one test or fixture at a time and sends a record when it ends."""

    def __init__(self, channel: Channel, output: OutputFile, root: str) -> None:
        """`root`: folder of the tree; paths below it are told relative to it, as they are the same on every machine."""
        self._channel = channel
        self._output = output
        self.root = root + os.sep
        self.records = 0
        self._current: unittest.TestCase | None = None
        self._index = -1
        self._started = False
        self._events: list[tuple[Outcome, Failure | None, str, str]] = []
        #: Class or module name -> the fixture that keeps its tests from running.
        self._blocked: dict[str, FixtureRef] = {}
        #: The fixture that is running.
        self._inside: FixtureRef | None = None

    def start_chunk(self) -> None:
        self.records, self._current, self._inside = 0, None, None

    @property
    def busy(self) -> bool:
        """A test or a fixture is running."""
        return self._current is not None or self._inside is not None

    def begin(self, index: int, test: unittest.TestCase, *, fixtures: bool) -> None:
        """`fixtures`: a fixture is announced before the test runs, and the word that the test begins goes with that."""
        self._current, self._index, self._started, self._inside = test, index, False, None
        self._events = []
        if (handler := getattr(signals, "_interrupt_handler", None)) is not None:
            # Django installs it. It ends a sequential run after the first SIGINT and interrupts at the second; each test has
            # a first one of its own here, whatever another sent to itself.
            handler.called = False
        self._channel.hold(messages.started(index))
        if not fixtures:
            self._channel.flush()

    def fixture(self, fixture: FixtureRef | None) -> None:
        """A class or module fixture begins; None says that the test itself is next."""
        self._inside = fixture
        self._channel.send(messages.FixtureStarted(fixture))

    def started(self, test: Any) -> None:
        if test is self._current:
            self._started = True

    def event(self, test: Any, outcome: Outcome, failure: Failure | None, reason: str, sql: str) -> None:
        """One event as the result class judged it. `test` is a test, a subtest or a fixture's error holder."""
        if isinstance(test, _ErrorHolder):
            self._fixture(test, outcome, failure, reason)
            return
        self._events.append((outcome, failure, reason, sql))

    def _fixture(self, holder: Any, outcome: Outcome, failure: Failure | None, reason: str) -> None:
        self._fixture_finished(_fixture_named(holder.id()), outcome, failure, reason)

    def _fixture_finished(self, fixture: FixtureRef, outcome: Outcome, failure: Failure | None, reason: str) -> None:
        if fixture.sets_up:
            self._blocked[fixture.name] = fixture
        self._leave_if_forked(bad=outcome in BAD_OUTCOMES)
        failures = () if failure is None else (failure,)
        self._channel.send(messages.FixtureFinished(fixture, outcome, failures, reason, self._output.take()))

    def end(self, seconds: float) -> None:
        """Sends the record of the current test."""
        test = self._current
        if test is None:
            return
        self._leave_if_forked(bad=any(outcome in BAD_OUTCOMES for outcome, _, _, _ in self._events))
        self._current = None
        if self._started or self._events:
            self._finish(seconds)
        else:
            blocker = self._blocker(test)
            self._send(Outcome.NOT_RUN, 0.0, reason="" if blocker else "never started", covered_by=blocker)

    def _blocker(self, test: unittest.TestCase) -> FixtureRef | None:
        """The fixture that keeps the test from running."""
        cls = type(test)
        return self._blocked.get(strclass(cls)) or self._blocked.get(cls.__module__)

    def _finish(self, seconds: float) -> None:
        if not self._events:
            output = self._output.take()
            if not output:
                self.records += 1
                self._channel.hold(messages.passed(self._index, max(seconds, 0.0)))
                return
            self._send(Outcome.PASSED, seconds, output=output)
            return
        failures = tuple(failure for _, failure, _, _ in self._events if failure is not None)
        reason = next((reason for _, _, reason, _ in self._events if reason), "")
        self._send(
            worst(outcome for outcome, _, _, _ in self._events),
            seconds,
            failures=failures,
            reason=reason,
            sql="\n".join(sql for _, _, _, sql in self._events if sql),
        )

    def _send(self, outcome: Outcome, seconds: float, *, output: str | None = None, **extra: Any) -> None:
        self.records += 1
        printed = self._output.take() if output is None else output
        self._channel.hold(messages.TestFinished(self._index, outcome, max(seconds, 0.0), output=printed, **extra).encode())

    def _leave_if_forked(self, *, bad: bool) -> None:
        """A child that a test forked and that came back from it ends here: its parent records the test, and runs the rest."""
        if not self._channel.owned:
            self._output.flush()
            _exit(int(bad))

    def flush(self) -> None:
        """Sends the last record now: what comes next may take long or end the process."""
        self._channel.flush()

    def abort(self, error: BaseException) -> bool:
        """A BaseException escaped from the current test, or from the fixture that was running: that is its error.

        True if the current test has its record now.
        """
        failure = self._describe(error)
        if self._inside or self._current is None:
            self._fixture_finished(self._inside or _fixture_named("stopTestRun"), Outcome.ERROR, failure, "")
            self._inside = None
            return False
        self._events.append((Outcome.ERROR, failure, "", ""))
        self.end(0.0)
        return True

    def cover(self, tests: list[tuple[int, unittest.TestCase]]) -> list[int]:
        """Records those that a fixture keeps from running; returns the indices of the others."""
        left = []
        for index, test in tests:
            if blocker := self._blocker(test):
                self._index = index
                self._send(Outcome.NOT_RUN, 0.0, covered_by=blocker)
            else:
                left.append(index)
        return left

    def _describe(self, error: BaseException) -> Failure:
        try:
            text = "".join(_format_exception(error))
        except BaseException as trouble:  # of the exception itself, or of one behind it
            text = f"<the traceback cannot be shown: {_type_name(type(trouble))}>"
        return describe(type(error), error, text, self.root)


class RecordingResult:
    """Mixed in front of the project's result class; sees each event once, however the class below delegates."""

    _dct_recorder: Recorder
    _dct_depth = 0

    def _dct_event(self, method: str, test: Any, *args: Any, error: Any = None, subtest: Any = None) -> None:
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
                    failure = describe(*_error(error), text, root, kind=kind, subtest=subtest)
                    # A subtest that goes wrong in any way fails its test; only the test itself can be in error.
                    judged = outcome if subtest is None else Outcome.FAILED
                    self._dct_recorder.event(test, judged, failure, "", sql)
                else:
                    reason = text if name == "skipped" else _first_line(error)
                    self._dct_recorder.event(test, outcome, _unexpected(name), reason, sql)

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
    """For a result class with an addSuccess of its own: it may judge a success to be something else."""

    def addSuccess(self, test: Any) -> None:
        self._dct_event("addSuccess", test)


#: Result classes whose addSuccess cannot change a verdict; the one event of most tests need not be looked at.
_PLAIN_SUCCESS = (unittest.TestResult.addSuccess, unittest.TextTestResult.addSuccess)


def recording(result: Any, recorder: Recorder) -> Any:
    """The same result object, of a class with RecordingResult in front."""
    cls = type(result)
    front = RecordingResult if cls.addSuccess in _PLAIN_SUCCESS else SuspiciousResult
    result.__class__ = type(f"Recording{cls.__name__}", (front, cls), {})
    result._dct_recorder = recorder
    return result


def describe(cls: Any, error: Any, text: str, root: str, *, kind: str = "error", subtest: Any = None) -> Failure:
    """Text only, whatever the exception does when it is looked at."""
    file, line = place(error, text, root)
    return Failure(
        kind=kind,
        type=_type_name(cls),
        message=_first_line((cls, error, None)),
        text=_cut(text.replace(root, "")),
        subtest=_subtest_name(subtest),
        file=file,
        line=line,
    )


def _fixture_named(text: str) -> FixtureRef:
    """As unittest names it; what is none of its fixtures (the hooks of a test run) is told as one that nothing depends on."""
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


def _type_name(cls: Any) -> str:
    if cls is None:
        return "Error"
    try:
        module, name = str(cls.__module__), str(cls.__qualname__)
    except BaseException:  # of a metaclass, say
        return "Error"
    return _cut(name if module in ("builtins", "") else f"{module}.{name}", 1000)


def _first_line(error: Any) -> str:
    _, value = _error(error)
    if value is None:
        return ""
    try:
        lines = str(value).strip().splitlines()
    except BaseException as trouble:
        return f"<str() of the exception failed: {type(trouble).__name__}>"
    return _cut(lines[0], 1000) if lines else ""


def _subtest_name(subtest: Any) -> str:
    if subtest is None:
        return ""
    try:
        return _cut(str(subtest._subDescription()), 1000)
    except BaseException as trouble:
        return f"<{type(trouble).__name__} in the subtest's description>"


def _texts(item: Any) -> tuple[str, str]:
    """(text, sql) of an item of a result list: (test, text), DebugSQL's (test, text, sql), or a bare test."""
    if not isinstance(item, tuple):
        return "", ""
    text = item[1] if len(item) > 1 else ""
    sql = item[2] if len(item) > 2 else ""
    return (text if isinstance(text, str) else str(text)), (sql if isinstance(sql, str) else "")


def _cut(text: str, limit: int = MAX_TEXT) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - limit} characters cut …]\n{text[-half:]}"
