"""What commands that run tests add to the API: a terminal, and signals."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dct_celery.core.model import RunReport
from dct_celery.ports.reporting import (
    Finished,
    FixtureJudged,
    Reporter,
    ReportEvent,
    TestJudged,
)
from dct_celery.settings import Settings


class Progress:
    """Shows how a run goes on, but not what it comes to."""

    masks = True

    def __init__(self, terminal: Reporter) -> None:
        self._terminal = terminal

    def take(self, event: ReportEvent) -> None:
        if not isinstance(event, (TestJudged, FixtureJudged, Finished)):
            self._terminal.take(event)


@contextmanager
def session(
    settings: Settings, *, results: bool = True
) -> Iterator[tuple[list[Reporter], Callable[[], bool]]]:
    """The reporters of a run, and whether it is to end early: a terminal, and signal handlers.

    Without `results` the terminal only shows how it goes on.
    """
    from dct_celery.cli.interrupts import Interrupts
    from dct_celery.reports import file_reporters
    from dct_celery.reports.benchmark import BenchmarkReporter
    from dct_celery.reports.terminal.terminal import Terminal

    def write_reports(of_run: Settings, report: RunReport) -> None:
        for file in file_reporters.of_settings(of_run, time.time):
            file.write(report)

    terminal = Terminal.detect(
        os.environ,
        out=sys.stdout,
        err=sys.stderr,
        verbosity=settings.verbosity,
        clock=time.monotonic,
    )
    with Interrupts(write_reports) as interrupts:
        shown = terminal if results else Progress(terminal)
        benchmark = [BenchmarkReporter(terminal.print)] if results else []
        yield [shown, *benchmark, interrupts], interrupts.seen
