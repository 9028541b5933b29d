"""Says again what pytest has said on slots, so that its reporters work as they always do.

Verdicts arrive as slots come to them; here they wait for those before them in the order of the
suite. So a terminal, a JUnit report, --maxfail and the cache of failures get the hooks of the
sequential run, in its order. (Secrets are masked: what is shown here leaves the machine.)
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest._code.code import TerminalRepr
from _pytest.pathlib import bestrelpath
from _pytest.reports import CollectErrorRepr
from _pytest.reports import pytest_report_from_serializable as from_serializable

from dct_celery.core.codec import Malformed
from dct_celery.core.model import (
    END_OF_SESSION,
    Failure,
    FixtureVerdict,
    Outcome,
    Phase,
    Verdict,
)
from dct_celery.core.text import plural
from dct_celery.errors import UsageError
from dct_celery.ports.reporting import (
    CoverageArrived,
    Finished,
    FixtureJudged,
    ReportEvent,
    Started,
    TestJudged,
    Warned,
)
from dct_celery.pytest_plugin.coverage import Coverage
from dct_celery.pytest_plugin.node import Node
from dct_celery.reports import masked
from dct_celery.security import masking
from dct_celery.settings import Settings
from dct_celery.wire.pytest_reports import (
    SHOWN,
    SessionReports,
    TestReports,
    file_locations,
    unpacked,
    with_root_inside,
)

_Location = tuple[str, int | None, str]


class Replay:
    """A reporter of the run, see `ports.reporting`."""

    #: It masks what it is given.
    masks = True

    #: No other reporter of the run need do it.
    combines_coverage = True

    def __init__(
        self, session: pytest.Session, settings: Settings, node: Node, coverage: Coverage
    ) -> None:
        from dct_celery.adapters.source.snapshot import find_root

        #: Id of a test process -> the last `workeroutput` that it has sent.
        self.outputs: dict[str, dict[str, Any]] = {}
        #: Why nothing runs, as pytest says it; empty where something does.
        self.interrupted = ""
        self._session = session
        self._config = session.config
        self._node = node
        self._coverage = coverage
        self._root = str(find_root(Path(settings.project_dir)))
        #: Verdicts that wait for those before them.
        self._waiting: dict[int, Verdict] = {}
        self._next = 0
        #: An exception of a hook, which ends the session as in the sequential run.
        self._error: BaseException | None = None
        self._properties: set[tuple[str, str]] = set()
        self._lost: list[Verdict] = []
        self._orders: list[Verdict] = []
        self._warned: list[str] = []
        self._note = ""
        #: Index of the last test of the suite, which is said when the run is over: then it is known
        #: whether the session could be torn down.
        self._last = -1
        self._finished = False
        #: What that has failed with, in another process than that of the last test.
        self._torn_down: FixtureVerdict | None = None

    @property
    def over(self) -> bool:
        """Nothing more is to run."""
        return bool(self._error or self._session.shouldfail or self._session.shouldstop)

    def take(self, event: ReportEvent) -> None:
        match event:
            case Started(view=view, session=text, ids=ids):
                self._last = (view.total or 0) - 1
                self.collected(text, ids())
            case TestJudged(verdict):
                self._waiting[verdict.entry.index] = masked.verdict(verdict, masking.PROCESS)
                self._go_on()
            case FixtureJudged(fixture) if fixture.fixture == END_OF_SESSION:
                self._torn_down = masked.fixture(fixture, masking.PROCESS)
            case Finished(report):
                # Where it is a usage error, this says all.
                self._note = report.note if report.exit_code == UsageError.exit_code else ""
                self._finished = True
                while self._waiting:
                    self._next = min(self._waiting)
                    self._go_on()
            case CoverageArrived():
                self._coverage.take(event)
            case Warned(text):
                self._warned.append(masking.PROCESS(text))
            case _:
                pass

    def end(self) -> None:
        """Raises what a hook has raised."""
        if self._error is not None:
            raise self._error

    # -- collection --------------------------------------------------------------------

    def collected(self, text: str, ids: list[str]) -> None:
        """`text`: of the collection, see `wire.messages.Loaded`; `ids`: of the tests that run."""
        found = SessionReports.read(text, self._root) if text else SessionReports()
        self.interrupted = found.interrupted
        self._warned += found.notes
        with self._noting():
            # Without the collectors that failed, which are entries of the run, too.
            count = found.collected if text else len(ids)
            self._session.testscollected = count
            capturing: Any = self._config.pluginmanager.getplugin("capturemanager")
            if capturing is not None and (ids or found.collectors):
                # What conftest files have printed goes where the first collected file sends it.
                capturing.read_global_capture()
            for data in found.collectors:
                self._config.hook.pytest_collectreport(report=self._report(data))
            for data in found.warnings:
                self._warn(data)
            if found.deselected:
                items = [SimpleNamespace(nodeid=nodeid) for nodeid in found.deselected]
                self._config.hook.pytest_deselected(items=items)
            terminal: Any = self._config.pluginmanager.getplugin("terminalreporter")
            if terminal is not None:
                terminal._numcollected = count + len(found.deselected)
                terminal.report_collect(True)
                for line in found.lines:
                    terminal.write_line(masking.PROCESS(line))
            if ids:
                self._remember(ids, count + len(found.deselected))
                self._node.collected(ids)

    def _remember(self, ids: list[str], count: int) -> None:
        """What pytest's cache learns where tests are collected. `count`: with those deselected."""
        manager = self._config.pluginmanager
        new_first: Any = manager.getplugin("nfplugin")
        if new_first is not None:
            new_first.cached_nodeids.update(map(_node_id(), ids))
        stepwise: Any = manager.getplugin("stepwiseplugin")
        if stepwise is not None and hasattr(stepwise, "cached_info"):
            stepwise.cached_info.last_test_count = count
            if stepwise.reset:
                stepwise.cached_info.last_failed = None

    # -- tests -------------------------------------------------------------------------

    def _go_on(self) -> None:
        while self._next != self._last or self._finished:
            verdict = self._waiting.pop(self._next, None)
            if verdict is None:
                return
            self._next += 1
            if not self.over:
                with self._noting():
                    self._say(verdict)
                    self._check_time()

    def _check_time(self) -> None:
        """What pytest-timeout does behind each test for its --session-timeout."""
        module: Any = sys.modules.get("pytest_timeout")
        if module is None or not hasattr(module, "SESSION_EXPIRE_KEY"):
            return
        end = self._config.stash.get(module.SESSION_EXPIRE_KEY, 0)
        if end and end < time.time():
            seconds = self._config.stash[module.SESSION_TIMEOUT_KEY]
            self._session.shouldfail = f"session-timeout: {seconds} sec exceeded"

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (Exception, KeyboardInterrupt, pytest.exit.Exception) as error:
            self._error = self._error or error

    def _say(self, verdict: Verdict) -> None:
        if verdict.order is not None:
            self._orders.append(verdict)
        if verdict.entry.phase is Phase.LOAD_FAILED:
            return  # its report came with the collection
        if verdict.outcome is Outcome.NOT_RUN:
            self._lost.append(verdict)
            return
        found = self._reports(verdict)
        events = found.events
        if self._torn_down is not None and verdict.entry.index == self._last:
            events = _with_error(events, self._torn_down, _made_up(verdict))
        nodeid = verdict.entry.id
        first = next((data for kind, data in events if kind == "report"), None)
        location = (
            tuple(first["location"]) if first is not None and first["location"] else (nodeid, 0, "")
        )
        hook = self._config.hook
        hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        if verdict.output and self._config.getoption("capture") == "no":
            sys.stdout.write(verdict.output)
            sys.stdout.flush()
        for kind, data in events:
            if kind == "warning":
                self._warn(data)
            elif kind == "xml":
                self._add_to_xml(data)
            elif kind == "subtests":
                self._count_subtests(nodeid, int(data["count"]))
            elif kind == "output":
                self._keep_output(found.worker, data)
            elif kind == "note":
                self._warned.append(str(data["text"]))
            elif kind == "stop":
                self._stop(str(data["fail"]), str(data["stop"]))
            elif kind == "exit":
                code = data["code"]
                pytest.exit(str(data["reason"]), code if isinstance(code, int) else None)
            elif kind == "retry":
                _add_to_retries(str(data["text"]))
            else:
                report = self._report(data)
                report.worker_id = found.worker
                report.testrun_uid = self._node.workerinput["testrunuid"]
                report.item_index = verdict.entry.index
                hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)

    def _stop(self, fail: str, stop: str) -> None:
        if fail and not self._session.shouldfail:
            self._session.shouldfail = fail
        if stop and not self._session.shouldstop:
            self._session.shouldstop = stop

    def _keep_output(self, worker: str, data: dict[str, Any]) -> None:
        try:
            output = with_root_inside(unpacked(data), self._root)
        except Malformed as error:
            self._warned.append(f"workeroutput of {worker} cannot be read: {error}")
        else:
            self.outputs[worker] = output

    def _count_subtests(self, nodeid: str, count: int) -> None:
        """pytest makes a failure of a test of which it has counted failed subtests."""
        with contextlib.suppress(ImportError):  # pytest 8 has none
            from _pytest.subtests import failed_subtests_key

            self._config.stash[failed_subtests_key][_node_id()(nodeid)] = count

    def _reports(self, verdict: Verdict) -> TestReports:
        found = TestReports(worker=f"{verdict.worker}/{verdict.slot}")
        if verdict.reports:
            with contextlib.suppress(Malformed):
                found = TestReports.read(verdict.reports, verdict.entry.id, self._root)
        outcomes = [data.get("outcome") for kind, data in found.events if kind == "report"]
        if not outcomes or (verdict.bad and "failed" not in outcomes):
            # Its process could not say any more, or what ended it has no report.
            found.events.append(("report", _made_up(verdict)))
        return found

    def _report(self, data: dict[str, Any]) -> Any:
        """The report, by pytest's own hook; by itself, where it is not there (`-p no:reports`)."""
        for name in ("location", "longrepr"):
            if isinstance(data.get(name), list):
                data[name] = tuple(data[name])
        for name in ("user_properties", "sections"):
            if isinstance(data.get(name), list):
                data[name] = [tuple(one) if isinstance(one, list) else one for one in data[name]]
        _relative_paths(data.get("longrepr"))
        subtest = dict(data.get("_subtest.context") or {})
        shown = data.get("longrepr")
        if isinstance(shown, dict) and SHOWN in shown:
            data["longrepr"] = None
        by_hook = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
        report: Any = from_serializable(data) if by_hook is None else by_hook
        if isinstance(shown, dict) and SHOWN in shown:
            collecting = data.get("$report_type") == "CollectReport"
            report.longrepr = (CollectErrorRepr if collecting else Shown)(str(shown[SHOWN]))
        if "kwargs" in subtest:
            # pytest takes the `repr` of each value, which they already are.
            object.__setattr__(report.context, "kwargs", subtest["kwargs"])
        return report

    def _warn(self, data: dict[str, Any]) -> None:
        message = warnings.WarningMessage(
            message=data["message"],
            category=_category(*data["category"]),
            filename=data["filename"],
            lineno=data["lineno"],
            # With one, pytest says how to find out where it was made.
            source=_Source() if data.get("source") else None,
        )
        self._config.hook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": message,
                "nodeid": data["nodeid"],
                "when": data["when"],
                "location": None,
            }
        )

    def _add_to_xml(self, data: dict[str, Any]) -> None:
        from _pytest.junitxml import xml_key

        xml = self._config.stash.get(xml_key, None)
        if xml is None:
            return
        if data["nodeid"]:
            xml.node_reporter(data["nodeid"]).add_attribute(data["name"], data["value"])
        elif (data["name"], data["value"]) not in self._properties:
            # Once, although fixtures of the session record it in each process.
            self._properties.add((data["name"], data["value"]))
            xml.add_global_property(data["name"], data["value"])

    # -- the end -----------------------------------------------------------------------

    def _is_told(self, line: str) -> bool:
        """The error that ends the session says it as well: `worker refuses the run: why`."""
        return line.rpartition(" refuses the run: ")[2] in self._note

    def summarize(self, terminal: Any) -> None:
        """What pytest cannot know of the run."""
        lines = [*dict.fromkeys(line for line in self._warned if not self._is_told(line))]
        lines += [f"{v.entry.id}: {v.order}" for v in self._orders if v.order and v.order.proven]
        lost = [v for v in self._lost if not self.over]
        reasons = dict.fromkeys(v.reason for v in lost)
        if lost:
            told = [reason for reason in reasons if not self._is_told(reason)]
            why = f": {'; '.join(told)}" if told else ""
            lines.append(f"{plural(len(lost), 'test')} did not run{why}")
        if lines:
            terminal.write_sep("=", "dct")
            for line in lines:
                terminal.write_line(line)


class _Source:
    """Stands for the object that a warning is about."""


def _relative_paths(longrepr: Any) -> None:
    """Paths outside of the tree as pytest shows them here, if it shows relative ones at all."""
    locations = [*file_locations(longrepr)]
    if all(os.path.isabs(location["path"]) for location in locations):
        return
    for location in locations:
        here = bestrelpath(Path.cwd(), Path(location["path"]))
        if os.path.isabs(location["path"]) and len(here) < len(location["path"]):
            location["path"] = here


class Shown(TerminalRepr):
    """What a test process has shown of an error that pytest does not serialize."""

    def __init__(self, text: str) -> None:
        self._text = text

    def toterminal(self, out: Any) -> None:
        out.line(self._text)


def _node_id() -> Any:
    """What pytest's cache makes of a node id: the text itself before pytest 9.2."""
    try:
        from _pytest.nodeid import NodeId
    except ImportError:
        return str
    return NodeId.parse


def _add_to_retries(text: str) -> None:
    """Into the summary that pytest-retry shows at the end."""
    module: Any = sys.modules.get("pytest_retry.retry_plugin")
    if module is not None:
        module.retry_manager.reporter.stream.write(text)


def _made_up(verdict: Verdict) -> dict[str, Any]:
    """A report for a test whose process could not say any more."""
    longrepr = _as_of_pytest(verdict.failures) if verdict.failures else verdict.message
    bad = verdict.outcome in (Outcome.FAILED, Outcome.ERROR)
    return {
        "$report_type": "TestReport",
        "nodeid": verdict.entry.id,
        "location": [verdict.entry.file or verdict.entry.id, verdict.entry.line or 0,
                     verdict.entry.name],
        "keywords": {},
        "outcome": "failed" if bad else "passed",
        "longrepr": longrepr if bad else None,
        "when": "call",
        "user_properties": [],
        "sections": [["Captured output", verdict.output]] if verdict.output else [],
        "duration": verdict.seconds,
        "start": 0.0,
        "stop": verdict.seconds,
    }  # fmt: skip


def _with_error(
    events: list[tuple[str, dict[str, Any]]], torn_down: FixtureVerdict, plain: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """The events of the suite's last test, whose tear-down fails with that of the session.

    `plain`: a report of the test.
    """
    reports = [data for kind, data in events if kind == "report"]
    passed = next((data for data in reports if data.get("when") == "teardown"), plain)
    sections = [*passed["sections"]]
    if torn_down.output:
        sections.append(["Captured output of the tear-down", torn_down.output])
    failed = {**passed, "when": "teardown", "outcome": "failed", "sections": sections,
              "longrepr": _as_of_pytest(torn_down.failures)}  # fmt: skip
    kept = [(kind, data) for kind, data in events if data is not passed]
    return [*kept, ("report", failed)]


def _as_of_pytest(failures: Sequence[Failure]) -> dict[str, Any]:
    """Failures of one report, as pytest serializes what it shows of an exception."""
    first = failures[0]
    text = "\n\n".join((failure.text or failure.message).rstrip("\n") for failure in failures)
    said = f"{first.type}: {first.message}" if first.message else first.type
    shown = {"type": "ReprEntryNative", "data": {"lines": f"{text}\n".splitlines(keepends=True)}}
    return {
        "reprcrash": {"path": first.file or "", "lineno": first.line or 0, "message": said},
        "reprtraceback": {"reprentries": [shown], "extraline": None, "style": "native"},
        "sections": [],
        "chain": None,
    }


def _category(module: str, name: str) -> type[Warning]:
    """The class of a warning, if this process has it; else one that is called the same."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Warning):
        return found
    return type(name.rpartition(".")[2], (Warning,), {"__module__": module})
