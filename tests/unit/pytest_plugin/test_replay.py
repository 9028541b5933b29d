"""Claims about what the dispatcher's session says and remembers of what test processes report."""

from __future__ import annotations

import io
import sys
import types
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from _pytest import reports

from dct_celery.core.model import Entry, Outcome, Phase, Verdict
from dct_celery.core.run.view import RunView
from dct_celery.ports.reporting import Finished, Started, TestJudged, Warned
from dct_celery.pytest_plugin.coverage import Coverage
from dct_celery.pytest_plugin.node import Node
from dct_celery.pytest_plugin.replay import Replay
from dct_celery.settings import Settings
from dct_celery.wire.pytest_reports import SHOWN, SessionReports, TestReports, packed

NODEID = "test_a.py::test_one"
ENTRY = Entry(0, NODEID, "test_a", "test_a", Phase.NO_DATABASE)
REPORT: dict[str, Any] = {
    "$report_type": "TestReport",
    "nodeid": NODEID,
    "location": ["test_a.py", 0, "test_one"],
    "keywords": {},
    "outcome": "passed",
    "longrepr": None,
    "when": "call",
    "user_properties": [],
    "sections": [],
    "duration": 0.5,
    "start": 1.0,
    "stop": 1.5,
}


class Reporter:
    """A plugin that keeps the reports that it gets."""

    def __init__(self) -> None:
        self.reports: list[Any] = []

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: Any) -> None:
        self.reports.append(report)


class Scene:
    """A dispatcher's session without pytest around it."""

    def __init__(self, folder: Path, **plugins: Any) -> None:
        self.reporter = Reporter()
        manager = pytest.PytestPluginManager()
        manager.register(reports)
        manager.register(self.reporter)
        for name, plugin in plugins.items():
            manager.register(plugin, name)
        self.config: Any = SimpleNamespace(
            hook=manager.hook,
            pluginmanager=SimpleNamespace(getplugin=plugins.get),
            option=SimpleNamespace(),
            getoption=lambda name, default=None: default,
            stash=pytest.Stash(),
        )
        self.session: Any = SimpleNamespace(
            config=self.config, shouldfail=False, shouldstop=False, testscollected=0
        )
        config: Any = self.config
        node = Node(config, {"workerid": "gw0", "testrunuid": "run"})
        session: Any = self.session
        settings = Settings(project_dir=str(folder))
        self.replay = Replay(session, settings, node, Coverage(config))

    def judged(
        self,
        *events: tuple[str, Any],
        index: int = 0,
        worker: str = "gw7",
        outcome: Outcome = Outcome.PASSED,
    ) -> None:
        """A test has ended in the process `worker`, with these events beside its report."""
        text = TestReports([("report", dict(REPORT)), *events], worker).text("")
        entry = replace(ENTRY, index=index)
        self.replay.take(
            TestJudged(Verdict(entry, outcome, 0.5, worker="build", slot=1, reports=text))
        )
        self.replay.end()

    def summary(self) -> list[str]:
        lines: list[str] = []
        self.replay.summarize(SimpleNamespace(write_sep=print, write_line=lines.append))
        return lines


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_report_has_the_id_that_the_test_had_of_its_process(scene: Scene) -> None:
    # When
    scene.judged()
    # Then
    (report,) = scene.reporter.reports
    assert (report.worker_id, report.testrun_uid, report.item_index) == ("gw7", "run", 0)


def test_a_bad_verdict_is_a_failure_whatever_the_process_has_reported(scene: Scene) -> None:
    # Given a process that was ended by something that has no report, such as pytest.exit
    # When
    scene.judged(outcome=Outcome.ERROR)
    # Then
    assert [report.outcome for report in scene.reporter.reports] == ["passed", "failed"]
    assert {report.worker_id for report in scene.reporter.reports} == {"gw7"}


def test_the_last_output_of_each_process_counts(scene: Scene) -> None:
    # When
    scene.judged(("output", packed({"sum": 1})))
    scene.judged(("output", packed({"sum": (2, b"x")})), index=1)
    scene.judged(("output", packed({"sum": 5})), index=2, worker="gw9")
    # Then
    assert scene.replay.outputs == {"gw7": {"sum": (2, b"x")}, "gw9": {"sum": 5}}


def test_an_output_that_cannot_be_read_is_named(scene: Scene) -> None:
    # When
    scene.judged(("output", {"\ue000type\ue000": "tuple"}))
    # Then
    assert scene.replay.outputs == {}
    assert scene.summary()[0].startswith("workeroutput of gw7 cannot be read: ")


def test_the_session_stops_behind_the_test_that_had_it_stop(scene: Scene) -> None:
    # When
    scene.judged(("stop", {"fail": "", "stop": "enough"}))
    scene.judged(index=1)
    # Then
    assert scene.session.shouldstop == "enough"
    assert scene.replay.over
    assert len(scene.reporter.reports) == 1


def test_a_test_that_exits_ends_the_session_as_its_hooks_would(scene: Scene) -> None:
    # When
    with pytest.raises(pytest.exit.Exception, match="no docker") as caught:
        scene.judged(("exit", {"reason": "no docker", "code": 9}), outcome=Outcome.ERROR)
    # Then
    assert caught.value.returncode == 9
    assert scene.replay.over
    assert [report.outcome for report in scene.reporter.reports] == ["passed"]  # of its set-up


def test_a_note_of_a_process_is_in_the_summary_once(scene: Scene) -> None:
    # When
    for index in range(2):
        scene.judged(("note", {"text": "a plugin has failed"}), index=index)
    # Then
    assert scene.summary() == ["a plugin has failed"]


def test_texts_of_pytest_retry_come_into_its_summary(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    module: Any = types.ModuleType("pytest_retry.retry_plugin")
    stream = io.StringIO()
    module.retry_manager = SimpleNamespace(reporter=SimpleNamespace(stream=stream))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    # When
    scene.judged(("retry", {"text": "test_one failed on attempt 1!"}))
    # Then
    assert stream.getvalue() == "test_one failed on attempt 1!"


@pytest.mark.parametrize(("end", "over"), [(1.0, True), (1e12, False), (0, False)])
def test_a_time_limit_for_the_session_ends_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, end: float, over: bool
) -> None:
    # Given
    module: Any = types.ModuleType("pytest_timeout")
    module.SESSION_EXPIRE_KEY = pytest.StashKey[float]()
    module.SESSION_TIMEOUT_KEY = pytest.StashKey[float]()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    scene.config.stash[module.SESSION_EXPIRE_KEY] = end
    scene.config.stash[module.SESSION_TIMEOUT_KEY] = 60.0
    # When
    scene.judged()
    # Then
    assert scene.replay.over is over
    assert scene.session.shouldfail == ("session-timeout: 60.0 sec exceeded" if over else False)


def test_the_cache_learns_what_was_collected(tmp_path: Path) -> None:
    # Given
    new_first = SimpleNamespace(cached_nodeids=set())
    stepwise = SimpleNamespace(
        cached_info=SimpleNamespace(last_test_count=7, last_failed="x"), reset=True
    )
    scene = Scene(tmp_path, nfplugin=new_first, stepwiseplugin=stepwise)
    view = RunView(2)
    # When
    ids = [NODEID, "test_a.py::test_b"]
    report: Any = None
    started = Started(view, Settings(), lambda v: "", lambda: report, ids=lambda: ids)
    scene.replay.take(started)
    scene.replay.end()
    # Then
    assert sorted(map(str, new_first.cached_nodeids)) == ["test_a.py::test_b", NODEID]
    assert (stepwise.cached_info.last_test_count, stepwise.cached_info.last_failed) == (2, None)


def test_collectors_that_failed_are_no_collected_tests(tmp_path: Path) -> None:
    # Given a run whose first entry stands for a module that cannot be imported
    terminal = Mock()
    scene = Scene(tmp_path, terminalreporter=terminal)
    # When
    text = SessionReports(deselected=["test_a.py::test_c"], collected=1, lines=["a"]).text("")
    scene.replay.collected(text, ["test_b.py", NODEID])
    scene.replay.end()
    # Then
    assert (scene.session.testscollected, terminal._numcollected) == (1, 2)
    terminal.write_line.assert_called_once_with("a")


def test_what_the_error_of_the_session_says_is_not_said_before_it(scene: Scene) -> None:
    # Given
    why = "no worker takes the run: build-a: the suite differs"
    lost = Verdict(ENTRY, Outcome.NOT_RUN, reason=why)
    report: Any = SimpleNamespace(note=why, exit_code=4)
    # When
    for event in (
        Warned("build-a refuses the run: the suite differs"),
        Warned("the store is slow"),
        TestJudged(lost),
        Finished(report),
    ):
        scene.replay.take(event)
    # Then
    assert scene.summary() == ["the store is slow", "1 test did not run"]


@pytest.mark.parametrize("ids", [[], [NODEID]])
def test_what_conftest_files_have_printed_is_shown_where_no_file_is_collected(
    tmp_path: Path, ids: list[str]
) -> None:
    # Given
    capturing = Mock()
    scene = Scene(tmp_path, capturemanager=capturing)
    # When
    scene.replay.collected(SessionReports(collected=len(ids)).text(""), ids)
    # Then
    assert capturing.read_global_capture.called == bool(ids)


@pytest.mark.parametrize("kind", ["TestReport", "CollectReport"])
def test_an_error_that_pytest_does_not_serialize_is_shown_and_is_no_message(
    scene: Scene, kind: str
) -> None:
    """The summary shows a `longrepr` that is a text behind the test's name, and no other."""
    # When
    report = scene.replay._report(
        {**REPORT, "$report_type": kind, "longrepr": {SHOWN: "boo"}, "result": None}
    )
    # Then
    assert str(report.longrepr) == "boo"
    assert not isinstance(report.longrepr, str)
    assert not hasattr(report.longrepr, "reprcrash")
