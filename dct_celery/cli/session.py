"""What commands that run tests add to the API: a terminal, and signals."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from dct_celery.core.model import RunReport
from dct_celery.ports.reporting import (
    Finished,
    FixtureJudged,
    Reporter,
    ReportEvent,
    TestJudged,
)
from dct_celery.settings import Settings

#: Starts a run, given its reporters and a function that says whether it is to end early.
Start = Callable[[list[Reporter], Callable[[], bool]], RunReport]


class Progress:
    """Shows how a run goes on, but not what it comes to."""

    masks = True

    def __init__(self, terminal: Reporter) -> None:
        self._terminal = terminal

    def take(self, event: ReportEvent) -> None:
        if not isinstance(event, (TestJudged, FixtureJudged, Finished)):
            self._terminal.take(event)


def conduct(settings: Settings, start: Start, *, results: bool = True) -> int:
    """Runs it with a terminal and signal handlers; returns the exit code (I10). Raises DctError.

    Without `results` the terminal only shows how it goes on.
    """
    from dct_celery.cli.interrupts import Interrupts
    from dct_celery.reports import file_reporters
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
        return start([shown, interrupts], interrupts.seen).exit_code
