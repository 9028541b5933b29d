"""Slots that rest: one that cannot get its databases, or that the server has no connections for,
claims nothing for a while.

What it would have claimed it hands on to others. So a server that is short of something means fewer
slots, not lost tests.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dct_celery.core.retry import doubling
from dct_celery.security.files import try_lock

#: Seconds of the first rest; each that follows without a success is twice as long, up to the second
#: figure.
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0


#: Number of failures in a row -> seconds of rest.
backoff_seconds = doubling(FIRST_PAUSE, LONGEST_PAUSE)


@dataclass(slots=True)
class SlotBackoff:
    """Of one slot, in a file that the worker's main process reads. `now` is seconds of the host's
    monotonic clock.
    """

    file: Path
    _failures: int = 0
    _until: float = 0.0

    def begin(self, reason: str, now: float) -> float:
        """How many seconds it lasts."""
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
    """Why slots rest, a text for each that does."""
    reasons = []
    for file in folder.glob("*"):
        with contextlib.suppress(OSError, ValueError):
            until, _, reason = file.read_text().partition(" ")
            if now < float(until):
                reasons.append(reason)
    return reasons


class Permits:
    """A run's slots on this worker when the server has no room for all of them: the first to ask
    get one each, and keep it.

    A permit ends with the process that has it.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._mine: IO[bytes] | None = None

    def have(self) -> bool:
        """This slot may work; takes a permit if there is one."""
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
