"""SIGINT and SIGTERM during a run: the first ends the run, the second ends this process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from dct_celery.errors import Interrupted
from dct_celery.ports import reporting
from dct_celery.ports.reporting import ReportEvent

if TYPE_CHECKING:
    from dct_celery.core.model import RunReport
    from dct_celery.settings import Settings

_FIRST = "interrupted: the slots stop, and then the reports are written; once more to end at once"
_SECOND = "interrupted again: ending at once"


class Interrupts:
    """A flag that the run polls, and a reporter that keeps what a second signal has to write.

    A context manager: signals are handled within.
    """

    #: See `ports.reporting.Reporter`: the reports that it writes are masked when they are written.
    masks = True

    def __init__(self, write_reports: Callable[[Settings, RunReport], None]) -> None:
        """`write_reports` is called with the run's settings and the report so far when the process
        ends at once.
        """
        self._write_reports = write_reports
        self._count = 0
        self._started: reporting.Started | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread: a test
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def seen(self) -> bool:
        return self._count > 0

    def take(self, event: ReportEvent) -> None:
        match event:
            case reporting.Started():
                self._started = event
            case reporting.Finished():
                self._started = None  # the reports are written, or are being written
            case _:
                pass

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            _say(_FIRST)
            return
        _say(_SECOND)
        if self._count == 2 and self._started is not None:
            with contextlib.suppress(Exception):
                self._write_reports(self._started.settings, self._started.so_far())
        os._exit(Interrupted.exit_code)


def _say(text: str) -> None:
    """Writes a line at once, past all buffers, in place of the live line and the echoed ^C."""
    with contextlib.suppress(OSError):
        start = b"\r\x1b[J" if os.isatty(2) else b""
        os.write(2, start + f"{text}\n".encode())
