"""Slots that claim nothing: for a while after failing to get databases, or because the server has
no connections for them.

Such a slot hands its messages on to others. So a server that is short of something means fewer
slots, not lost tests.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dct_celery.core.retry import doubling
from dct_celery.security.files import try_lock

#: Seconds of the first pause; each that follows without a success is twice as long.
FIRST_PAUSE = 2.0
#: Seconds of the longest pause.
LONGEST_PAUSE = 30.0
#: Number of failures in a row -> seconds of pause.
backoff_seconds = doubling(FIRST_PAUSE, LONGEST_PAUSE)


@dataclass(slots=True)
class SlotBackoff:
    """The pauses of one slot, noted in a file that the worker's main process reads. `now` is
    seconds of the host's monotonic clock.
    """

    file: Path
    _failures: int = 0
    _until: float = 0.0

    def begin(self, reason: str, now: float) -> float:
        """Begins a pause; returns its length in seconds."""
        self._failures += 1
        seconds = backoff_seconds(self._failures)
        self._until = now + seconds
        self.file.write_text(f"{self._until} {reason}")
        return seconds

    def lasts(self, now: float) -> bool:
        return now < self._until

    def succeeded(self) -> None:
        if self._failures:
            self._failures, self._until = 0, 0.0
            self.file.unlink(missing_ok=True)


def backing_off(folder: Path, now: float) -> list[str]:
    """The reason of each slot that backs off now."""
    reasons = []
    for file in folder.glob("*"):
        with contextlib.suppress(OSError, ValueError):
            until, _, reason = file.read_text().partition(" ")
            if now < float(until):
                reasons.append(reason)
    return reasons


class Permits:
    """Limits a run's slots on this worker to those that the server has room for: the first to ask
    get a permit and keep it.

    A permit is a file lock, so it ends with its process.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._mine: IO[bytes] | None = None

    def have(self) -> bool:
        """Whether this slot may work; takes a permit if one is left."""
        for index in range(0 if self._mine else self._number):
            file = (self._folder / str(index)).open("wb")
            if try_lock(file):
                self._mine = file
                break
            file.close()
        return self._mine is not None

    def give_back(self) -> None:
        if self._mine is not None:
            self._mine.close()
            self._mine = None
