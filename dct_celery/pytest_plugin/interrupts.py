"""SIGINT during a distributed session: the first ends the run, the second this process."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType
from typing import Any, Self


class Interrupts:
    """A flag that the run polls. A context manager: the signal is handled within."""

    def __init__(self) -> None:
        self.seen = False
        self._before: Any = None

    def __enter__(self) -> Self:
        with contextlib.suppress(ValueError):  # not the main thread: a test
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True
