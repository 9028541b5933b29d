"""One pytest session, from the command line to the point where tests would run.

`pytest.main` runs as `python -m pytest` does, with one plugin more. Where the run loop begins, all
hooks of collection are over, and the order of the items is final. There the session is handed on,
and its frames (wrappers of the run loop, such as those of logging) stay on the stack.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from dct_celery.testproc.backends.base import LoadFailed, Serve
from dct_celery.testproc.backends.pytest import plugins, reports, writers
from dct_celery.testproc.backends.pytest.once import OnceFixtures, Refused
from dct_celery.testproc.backends.pytest.project import PytestProject
from dct_celery.testproc.isolation.printed import Printed
from dct_celery.wire import messages
from dct_celery.wire.pytest_reports import NOT_ON_SLOTS, Input, SessionReports

#: Our options, and the name under which pytest finds them where this package is installed.
_OPTIONS = "dct_celery.pytest_plugin"
#: Options of pytest that run no tests, or need a person.
_ALONE = (
    ("collectonly", "--collect-only"),
    ("showfixtures", "--fixtures"),
    ("show_fixtures_per_test", "--fixtures-per-test"),
    ("markers", "--markers"),
    ("cacheshow", "--cache-show"),
    ("version", "--version"),
    ("help", "--help"),
    ("setupplan", "--setup-plan"),
    ("setuponly", "--setup-only"),
    ("usepdb", "--pdb"),
    ("trace", "--trace"),
)
#: What pytest has in front of each line of an exception of its own or of a plugin.
_INTERNAL = "INTERNALERROR> "
#: What pytest says of a usage error, up to an empty line or the session's own output.
_USAGE_ERROR = re.compile(r"(?ms)^ERROR: (?!usage: )(.+?)\s*(?:\n\s*\n|\n=+ |\Z)")


def run(order: messages.Load, given: Input, words: Sequence[str], serve: Serve) -> None:
    """Collects, and calls `serve`. Raises LoadFailed where that does not come about."""
    sys.argv = [os.path.join(os.path.dirname(pytest.__file__), "__main__.py"), *words]
    sys.orig_argv = [sys.executable, "-m", "pytest", *words]
    sys.modules["__main__"].__file__ = sys.argv[0]
    plugin = SessionPlugin(order, given, serve)
    printed = Printed()
    # By its name: pytest does not load it again as an entry point.
    code = pytest.main(list(words), plugins=[_OPTIONS, plugin])
    if plugin.fatal is not None:
        raise LoadFailed(plugin.fatal)
    if not plugin.served:
        raise LoadFailed(_explained(int(code), printed.text()))


class SessionPlugin:
    """Goes with the project's plugins through collection."""

    def __init__(self, order: messages.Load, given: Input, serve: Serve) -> None:
        self.served = False
        #: pytest-cov measures coverage.
        self.measured = False
        #: Why the session cannot run.
        self.fatal: messages.Fatal | None = None
        self._order = order
        self._given = given
        self._serve = serve
        self._reports = SessionReports()
        #: What `--dist` said before it was switched off.
        self._dist = "no"

    @pytest.hookimpl(wrapper=True)
    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> Any:
        self.measured = plugins.begin_coverage(early_config, self._order)
        result = yield
        plugins.take_over_coverage(early_config, self._order)
        return result

    @pytest.hookimpl
    def pytest_cmdline_main(self, config: pytest.Config) -> None:
        for name, option in _ALONE:
            if config.getoption(name, False):
                line = f"{option} runs no tests on slots; run pytest {option} on this machine"
                self.fatal = messages.Fatal("labels", line)
                raise pytest.UsageError(line)
        for option, line in NOT_ON_SLOTS.items():
            if config.getoption(option, False):
                self.fatal = messages.Fatal("labels", line)
                raise pytest.UsageError(line)
        self._reports.notes += plugins.limits(config)
        if line := writers.refusal(config):
            self.fatal = messages.Fatal("labels", line)
            raise pytest.UsageError(line)
        self._dist = plugins.become_worker(config, self._given)
        if self._dist == "each":
            line = "--dist each runs every test on each worker, which slots do not; leave it out"
            self.fatal = messages.Fatal("labels", line)
            raise pytest.UsageError(line)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._reports.collectors.append(reports.serialized(self._config, report))

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str) -> None:
        if when != "config":  # the dispatcher has these by itself
            self._reports.warnings.append(reports.serialized_warning(warning_message, when, nodeid))

    @pytest.hookimpl
    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._reports.deselected += [item.nodeid for item in items]

    @pytest.hookimpl(wrapper=True)
    def pytest_report_collectionfinish(self) -> Any:
        result = yield
        for said in reversed(result):  # the terminal's order
            self._reports.lines += [said] if isinstance(said, str) else map(str, said)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._config = session.config
        plugins.sort_new_first(session.config, self._order.root, self._given.modified)

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.shouldfail and not self.served and self.fatal is None:
            self._refuse(session, str(session.shouldfail))  # -x ends the collection itself

    def _refuse(self, session: pytest.Session, line: str, told: str = "") -> None:
        self._reports.interrupted = line
        self._reports.collected = session.testscollected
        text = self._reports.text(self._order.root)
        self.fatal = messages.Fatal("collection", line, told, session=text)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        failed = session.testsfailed
        if failed and not session.config.option.continue_on_collection_errors:
            line = f"{failed} error{'s' if failed != 1 else ''} during collection"
            self._refuse(
                session, line, "\n\n".join(_shown(data) for data in self._reports.collectors)
            )
            raise session.Interrupted(line)
        if session.shouldstop:
            self._refuse(session, str(session.shouldstop))
            raise session.Interrupted(session.shouldstop)
        failures = [data for data in self._reports.collectors if data["outcome"] == "failed"]
        maxfail = plugins.leave_to_the_dispatcher(session)
        try:
            fixtures = OnceFixtures(session)
            if not self._order.collect_only and not self._order.fork_order:
                fixtures.set_up()
        except Refused as error:
            self.fatal = messages.Fatal("labels", str(error))
            raise pytest.UsageError(str(error)) from error
        self.served = True
        self._reports.collected = len(session.items)
        artifact_paths, notes = writers.folders(session.config, self._order.root)
        self._reports.notes += notes
        self._serve(
            PytestProject(
                session,
                self._order,
                self._reports,
                failures,
                once=fixtures,
                dist=self._dist,
                maxfail=maxfail,
                measured=self.measured,
                artifact_paths=artifact_paths,
            )
        )
        plugins.leave_coverage(session.config)
        return True


def _shown(data: dict[str, Any]) -> str:
    """A serialized report of a collector as its text."""
    return f"ERROR collecting {data['nodeid']}\n{reports.text_of(data['longrepr'])}"


def _explained(code: int, printed: str) -> messages.Fatal:
    """Why pytest ended before its tests. `printed`: what it has printed."""
    if code == pytest.ExitCode.USAGE_ERROR and (errors := _USAGE_ERROR.findall(printed)):
        line, _, rest = "\nERROR: ".join(errors).partition("\n")
        return messages.Fatal("labels", line, rest)
    lines = [line.strip() for line in printed.splitlines()]
    # Of its parser ("pytest: error: …"), of a usage error, or of a traceback.
    signs = (": error: ", "ERROR: ", "E   ")
    found = [(line, sign) for sign in signs for line in lines if sign in line]
    # The last line of a traceback says what it is about.
    found += [(line, _INTERNAL) for line in reversed(lines) if line.startswith(_INTERNAL)]
    said = next((line.partition(sign)[2].strip() for line, sign in found), "")
    if said.startswith("unrecognized arguments: --cov"):
        said += "; install pytest-cov in the project's environment"
    line = f"pytest ended with exit status {code} before it came to its tests"
    told = f"{line}: {said}" if said else line
    return messages.Fatal("labels", told, printed, status=code)
