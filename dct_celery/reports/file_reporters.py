"""The reporters that write files: JUnit XML and JSON, during the run, at its end, or to say that it
had no results.

The report of an earlier run never passes for this one's: it is replaced when the run begins, since
a process that is killed could not replace it later.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dct_celery.core.model import RunReport
from dct_celery.core.text import one_line
from dct_celery.errors import DctError, Interrupted
from dct_celery.ports import reporting
from dct_celery.ports.reporting import Reporter, ReportEvent
from dct_celery.reports import artifacts, files
from dct_celery.reports.artifacts import ArtifactFolder
from dct_celery.reports.junit import document
from dct_celery.security import outputs
from dct_celery.settings import REPORTS, Settings

_PENDING = "the run has not ended: it goes on, or was killed before it had a result"
Write = Callable[[Path, RunReport], None]


class ReportFile:
    """One file. `write` makes the report of a run, `write_failure` one that has no results."""

    def __init__(
        self,
        path: Path,
        write: Write,
        write_failure: Write,
        *,
        clock: Callable[[], float],
        run: str = "",
    ) -> None:
        """`clock`: Unix seconds."""
        self._path = path
        self._write = write
        self._write_failure = write_failure
        self._clock = clock
        self._run = run
        self._written = False

    def take(self, event: ReportEvent) -> None:
        """Raises UsageError where the report of a run cannot be written."""
        match event:
            case reporting.RunBegan(run):
                self._run = self._run or run
                if self._path.is_file():
                    self.fail(_PENDING, Interrupted.exit_code)
            case reporting.PartialReport(report) | reporting.Finished(report):
                self.write(report)
            case reporting.Failed(reason, exit_code) if not self._written:
                self.fail(reason, exit_code)
            case _:
                pass

    def write(self, report: RunReport) -> None:
        self._written = True
        self._write(self._path, report)

    def fail(self, reason: str, exit_code: int) -> None:
        """Writes a report without results. An error is ignored here: it is why the run failed, or
        was reported when it began.
        """
        report = RunReport(
            self._run, (), (), exit_code, started_at=self._clock(), error=one_line(reason)
        )
        with contextlib.suppress(DctError):
            self._write_failure(self._path, report)


def all_of(settings: Settings, clock: Callable[[], float]) -> list[Reporter]:
    """All reporters of a run that write files: the reports, and the folder of --artifacts."""
    folder = artifact_folder(settings)
    return [*of_settings(settings, clock), *([folder] if folder else [])]


def artifact_folder(settings: Settings) -> ArtifactFolder | None:
    if not settings.artifacts:
        return None
    return ArtifactFolder(Path(settings.project_dir, settings.artifacts))


def of_settings(settings: Settings, clock: Callable[[], float]) -> list[ReportFile]:
    """The reports alone (`settings.REPORTS`): also for what has no run, such as a command line that
    was refused. `clock`: Unix seconds.
    """
    folder, run = Path(settings.project_dir), settings.run_id or ""
    found = []
    if settings.junit_xml:
        # A report without results is of the strict family, which every reader takes.
        write = partial(
            files.write_junit,
            family=settings.junit_family,
            artifacts=_artifacts_for(settings, settings.junit_xml),
        )
        strict = partial(files.write_junit, family="xunit2")
        found.append(ReportFile(folder / settings.junit_xml, write, strict, clock=clock, run=run))
    if settings.json:
        path = folder / settings.json
        found.append(ReportFile(path, files.write_json, files.write_json, clock=clock, run=run))
    if settings.benchmark_file:
        path, write = folder / settings.benchmark_file, partial(files.write_benchmark, clock=clock)
        found.append(ReportFile(path, write, write, clock=clock, run=run))
    return found


def _artifacts_for(settings: Settings, junit_xml: str) -> document.ArtifactFolder | None:
    """The folder of --artifacts as readers of the JUnit file look for it."""
    if not settings.artifacts:
        return None
    start = Path(settings.project_dir)
    folder = Path(os.path.abspath(start / settings.artifacts))
    return document.ArtifactFolder(
        from_job=str(folder.relative_to(start) if folder.is_relative_to(start) else folder),
        from_report=os.path.relpath(folder, (start / junit_xml).parent),
    )


def check(settings: Settings, origins: dict[str, str]) -> None:
    """Raises UsageError for a report that could not be written at the end."""
    for name in REPORTS:
        path = settings.benchmark_file if name == "benchmark" else getattr(settings, name)
        if path:
            outputs.check_writable(Path(settings.project_dir, path), origins.get(name, ""))
    if settings.artifacts:
        artifacts.check(
            Path(settings.project_dir, settings.artifacts), origins.get("artifacts", "")
        )
