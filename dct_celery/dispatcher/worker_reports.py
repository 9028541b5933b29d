"""What workers report about the run as a whole: ready, checked, refused, failed, database use."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from dct_celery.core.databases.usage import DatabaseUse
from dct_celery.core.model import Artifact
from dct_celery.core.run import events as ev
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.ports.reporting import Notice, ReportEvent, Warned
from dct_celery.protocol.workers import (
    CheckedReport,
    FailedReport,
    MeasuredReport,
    ReadyReport,
    RefusedReport,
    ShortReport,
    UsageReport,
    WorkerReport,
)


class WorkerReports:
    """Takes reports in the order of the stream."""

    def __init__(self, fleet: Fleet, report: Callable[[ReportEvent], None]) -> None:
        self._fleet = fleet
        self._report = report
        #: A worker has reported that the system checks passed.
        self.checked = False
        self.databases = DatabaseUse()
        #: Coverage data of processes that ran no tests, and how many of these have none.
        self.measured: list[Artifact] = []
        self.unmeasured = 0
        #: Reasons for refusals that were shown.
        self._shown: set[str] = set()

    def hear(self, worker: str, report: WorkerReport, *, again: bool) -> ev.Stopped | None:
        """`Stopped` if this report ends the run, else None. `again`: an earlier dispatcher has
        shown it.
        """
        if not again:
            self._show(worker, report)
        match report:
            case ReadyReport():
                self.checked = self.checked or report.checked
                self.databases.prepared(worker, report.templates, report.steps)
            case CheckedReport():
                self.checked = True
            case UsageReport(use):
                self.databases.add(use)
            case RefusedReport():
                self._fleet.refusals[worker] = report
            case MeasuredReport(files, unsent):
                self.measured += files
                self.unmeasured += unsent
            case ShortReport():
                pass
            case FailedReport(message):
                return ev.Stopped(f"{message} (said {worker})", 1, late=True)
            case _:
                assert_never(report)
        return None

    def _show(self, worker: str, report: WorkerReport) -> None:
        match report:
            case ReadyReport(_, seconds, templates):
                how = f", templates {templates}" if templates else ""
                self._report(Notice(f"{worker} is ready after {seconds:.1f} s{how}"))
            case RefusedReport(message, detail) if message in self._shown:
                self._report(Warned(f"{worker} refuses the run for the same reason"))
            case RefusedReport(message, detail):
                self._shown.add(message)
                self._report(Warned(f"{worker} refuses the run: {message}{indented(detail)}"))
            case ShortReport(message):
                self._report(Warned(f"{worker}: {message}"))
            case FailedReport(message, detail) if detail:
                self._report(Warned(f"{message}{indented(detail)}"))


def indented(detail: str) -> str:
    """The detail as indented lines, to follow a message."""
    return "".join(f"\n    {line}" for line in detail.splitlines())
