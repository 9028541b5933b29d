"""What pytest says of the running test, gathered in order, and what that comes to as a verdict."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from _pytest.reports import pytest_report_to_serializable as to_serializable

from dct_celery.core.model import Failure, Outcome
from dct_celery.testproc.backends.pytest import plugins
from dct_celery.testproc.backends.pytest.workeroutput import WorkerOutput
from dct_celery.testproc.failures import describe, first_line
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire.pytest_reports import (
    PLAIN,
    SHOWN,
    TOP_NAME,
    TestReports,
    dumps,
    file_locations,
    joined,
    loads,
    plain,
)


def serialized(config: pytest.Config, report: Any) -> dict[str, Any]:
    """By pytest's own hook (`-p no:reports` leaves only plugins there), else as pytest does it; a
    report that this cannot serialize is reduced to its text.
    """
    try:
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        data = to_serializable(report) if data is None else data
    except Exception as error:
        data = _reduced(report, error)
    if not isinstance(data, dict):
        return _reduced(report, None)
    for name in data.keys() - PLAIN:
        # A plugin may go on writing into it.
        data[name] = plain(data[name])
    if isinstance(data.get("longrepr"), str) and hasattr(report.longrepr, "toterminal"):
        data["longrepr"] = {SHOWN: data["longrepr"]}
    if data.get("user_properties"):
        data["user_properties"] = [[name, _kept(value)] for name, value in data["user_properties"]]
    return data


def text_of(longrepr: Any) -> str:
    """What a serialized `longrepr` shows of an error."""
    if not isinstance(longrepr, dict):
        return str(longrepr)
    if SHOWN in longrepr:
        return str(longrepr[SHOWN])
    entries = [entry["data"]["lines"] for entry in longrepr["reprtraceback"]["reprentries"]]
    return "\n".join(line for lines in entries for line in lines)


def _kept(value: object) -> object:
    """What arrives as it is, or the text that reports show of it."""
    with contextlib.suppress(Exception):
        if loads(dumps(value)) == value:
            return value
    try:
        return str(value)
    except Exception:
        return plain(value)


def _reduced(report: Any, error: Exception | None) -> dict[str, Any]:
    """What every report has. `error`: why the whole of it cannot travel."""
    text = "" if error is None else f"\n[the report could not be serialized: {error!r}]"
    failed = report.outcome == "failed"
    return {
        "$report_type": "TestReport" if isinstance(report, pytest.TestReport) else "CollectReport",
        "nodeid": report.nodeid,
        "location": plain(getattr(report, "location", None)),
        "keywords": plain(dict(getattr(report, "keywords", {}))),
        "outcome": report.outcome,
        "longrepr": f"{report.longreprtext}{text}" if failed else plain(report.longrepr),
        "when": getattr(report, "when", "collect"),
        "user_properties": plain(list(getattr(report, "user_properties", ()))),
        "sections": plain(list(report.sections)),
        "duration": getattr(report, "duration", 0.0),
        "start": getattr(report, "start", 0.0),
        "stop": getattr(report, "stop", 0.0),
    }


def serialized_warning(warning: Any, when: str, nodeid: str) -> dict[str, Any]:
    """A `warnings.WarningMessage`, as far as it can be shown elsewhere."""
    category = warning.category or type(warning.message)
    return {
        "message": str(warning.message),
        "category": [category.__module__, category.__qualname__],
        "filename": warning.filename,
        "lineno": warning.lineno,
        "when": when,
        "nodeid": nodeid,
        "source": warning.source is not None and not tracemalloc.is_tracing(),
    }


class XmlRecorder:
    """Stands for pytest's JUnit report where fixtures ask for it, which only the dispatcher has."""

    def __init__(self, family: str, events: Callable[[], list[tuple[str, dict[str, Any]]]]) -> None:
        self.family = family
        self._events = events

    def node_reporter(self, test: Any) -> XmlTest:
        return XmlTest(self, str(getattr(test, "nodeid", test)))

    def add_global_property(self, name: str, value: object) -> None:
        __tracebackhide__ = True
        if not isinstance(name, str):  # pytest's own words
            raise TypeError(f"name parameter needs to be a string, but {type(name).__name__} given")
        self.record("", name, value)

    def record(self, nodeid: str, name: object, value: object) -> None:
        """`nodeid`: empty for a property of the whole suite."""
        data = {"nodeid": nodeid, "name": str(name), "value": str(value)}
        self._events().append(("xml", data))


class XmlTest:
    """The part of one test."""

    def __init__(self, xml: XmlRecorder, nodeid: str) -> None:
        self._xml, self._nodeid = xml, nodeid

    def add_attribute(self, name: object, value: object) -> None:
        self._xml.record(self._nodeid, name, value)


class Gatherer:
    """A plugin of test processes."""

    def __init__(self, session: pytest.Session, *, output_is_read: bool) -> None:
        """`output_is_read`: there are plugins on the dispatcher."""
        config = session.config
        self._config: Any = config
        self._session: Any = session
        self._workeroutput = WorkerOutput(session)
        self._sends_output = output_is_read and self._workeroutput.wanted
        self._reports = TestReports()
        self._outcomes: list[tuple[Outcome, Failure | None, str]] = []
        self._output: list[str] = []
        self._root = ""
        #: Name of the tree's folder where that is pytest's rootdir, whose name is a keyword.
        self._top = ""
        self._call: Any = None
        self._recorder: Recorder
        self._session_changed = False
        if getattr(config.option, "xmlpath", None):
            from _pytest.junitxml import xml_key

            xml: Any = XmlRecorder(config.getini("junit_family"), lambda: self._reports.events)
            config.stash[xml_key] = xml
            config.add_cleanup(lambda: config.stash.__delitem__(xml_key))

    def begin(self, recorder: Recorder) -> None:
        """A test begins."""
        worker = self._config.workerinput["workerid"]
        self._reports, self._outcomes, self._output = TestReports(worker=worker), [], []
        self._recorder = recorder
        if self._root != recorder.root:
            self._root = recorder.root
            same = os.path.samefile(self._config.rootpath, self._root)
            self._top = os.path.basename(self._root.rstrip("/")) if same else ""
        self._call = None

    @property
    def reported(self) -> bool:
        """pytest has said something of the running test."""
        return any(kind == "report" for kind, _ in self._reports.events)

    def judge(self) -> None:
        """Tells the recorder what the reports come to."""
        for outcome, failure, reason in self._outcomes:
            self._recorder.event(outcome, failure, reason)

    def ended(self, *, last: bool) -> None:
        """The test has ended, and nothing is captured. Fixtures of the session that it has set up
        may have changed the process for good. `last`: of the chunk.
        """
        if text := plugins.retry_text():
            self._reports.events.append(("retry", {"text": text}))
        self._reports.events += stops(self._session)
        if last and self._sends_output:
            self._reports.events.append(self._workeroutput.take(self._root.rstrip("/")))
        if self._session_changed:
            self._session_changed = False
            self._recorder.keeps_state()

    def exits(self, error: Any) -> None:
        """The test has called `pytest.exit`."""
        code = error.returncode
        data = {"reason": str(error.msg), "code": code if isinstance(code, int) else None}
        self._reports.events.append(("exit", data))

    def output(self) -> str:
        """What was captured."""
        return joined(self._output)

    def text(self) -> str:
        """All of it, for the dispatcher."""
        return self._reports.text(self._root.rstrip("/"))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        __tracebackhide__ = True  # not a part of what a failing fixture shows
        if fixturedef.scope == "function":
            return (yield)
        recorder = self._recorder
        set_up, tear_down = (_named(phase, fixturedef) for phase in ("set-up", "tear-down"))
        # Finalizers run from the last to the first: what is between these two is the tear-down.
        fixturedef.addfinalizer(lambda: recorder.leave_fixture(tear_down))
        recorder.enter_fixture(set_up)
        try:
            return (yield)
        finally:
            recorder.leave_fixture(set_up)
            fixturedef.addfinalizer(lambda: recorder.enter_fixture(tear_down))
            self._session_changed |= fixturedef.scope == "session"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: Any) -> Any:
        self._call = call
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> Any:
        # Before other plugins change it, which they do once more on the dispatcher.
        if count := _failed_subtests(self._config, report):
            self._reports.events.append(("subtests", {"count": count}))
        self._reports.events.append(("report", self._as_elsewhere(report)))
        # pytest's terminal makes a failure of a test whose subtests have failed.
        result = yield
        self._output += [
            content
            for name, content in report.sections
            if name.startswith("Captured ") and name.endswith(f" {report.when}")
        ]
        self._outcomes += self._verdict(report)
        return result

    def _as_elsewhere(self, report: Any) -> dict[str, Any]:
        """Serialized, with nothing of where the tree lies on this machine."""
        data = serialized(self._config, report)
        for location in file_locations(data.get("longrepr")):
            # Relative to a folder that only this machine has.
            if location["path"].startswith(os.pardir + os.sep):
                location["path"] = os.path.abspath(location["path"])
        if self._top and self._top in data.get("keywords", ()):
            data["keywords"] = {
                TOP_NAME if key == self._top else key: one for key, one in data["keywords"].items()
            }
        return data

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str) -> None:
        self._reports.events.append(("warning", serialized_warning(warning_message, when, nodeid)))

    def _verdict(self, report: Any) -> Iterator[tuple[Outcome, Failure | None, str]]:
        if hasattr(report, "wasxfail") and report.outcome in ("skipped", "passed"):
            reason = str(report.wasxfail)
            if report.outcome == "skipped":
                yield Outcome.XFAILED, None, reason
            elif report.when == "call":
                # It does not make a run of pytest red.
                yield Outcome.PASSED, None, f"XPASS {reason}".rstrip()
        elif report.outcome == "skipped":
            if not hasattr(report, "context"):  # a skipped subtest skips nothing else
                yield Outcome.SKIPPED, None, _reason(report.longrepr)
        elif report.outcome == "failed":
            called = report.when == "call"
            yield (Outcome.FAILED if called else Outcome.ERROR), self._failure(report), ""

    def _failure(self, report: Any) -> Failure:
        error = getattr(getattr(self._call, "excinfo", None), "value", None)
        subtest = getattr(report, "context", None)
        text = report.longreprtext or first_line(error)
        return describe(
            None if error is None else type(error),
            error if error is not None else text,
            text,
            self._root,
            kind="failure" if report.when == "call" else "error",
            subtest="" if subtest is None else str(report._sub_test_description()),
        )


def _named(phase: str, fixturedef: Any) -> str:
    """A fixture that several tests share: "set-up of rows (module, tests/test_x.py)"."""
    place = f", {fixturedef.baseid}" if fixturedef.baseid else ""
    return f"{phase} of {fixturedef.argname} ({fixturedef.scope}{place})"


def stops(session: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """That a test or plugin has had the session stop, which is the dispatcher's to do: other tests
    of this process may come before this one in the suite.
    """
    fail, stop = session.shouldfail, session.shouldstop
    if fail or stop:
        # Past the setters, which warn.
        session._shouldfail = session._shouldstop = False
        yield "stop", {"fail": str(fail or ""), "stop": str(stop or "")}


def _failed_subtests(config: pytest.Config, report: Any) -> int:
    """How many pytest has counted so far, where the report is of the test itself."""
    if report.when != "call" or hasattr(report, "context"):
        return 0
    try:
        from _pytest.subtests import failed_subtests_key
    except ImportError:  # pytest 8 has none
        return 0
    key: Any = getattr(report, "id", report.nodeid)
    return config.stash.get(failed_subtests_key, {}).get(key, 0)


def _reason(longrepr: Any) -> str:
    text = str(longrepr[2] if isinstance(longrepr, tuple) and len(longrepr) == 3 else longrepr)
    return text.removeprefix("Skipped: ")
