"""The circuit breaker of a broken worker: after several infrastructure failures in a row it claims
nothing for a while, and reports why.

Slots note failures and successes as files in the worker's folder; the host reads them. A worker
that backs off leaves its chunks to others or for later, instead of spending the bounded re-runs of
every test on a broken machine (I7, I8).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dct_celery.core.retry import doubling
from dct_celery.ports import Clock

#: Failures without a success in between, over all slots, after which the worker backs off.
FAILURES = 3
#: Seconds of the first pause; each that follows without a success is twice as long.
FIRST_PAUSE = 5.0
#: Seconds of the longest pause.
LONGEST_PAUSE = 60.0


class FailureLog:
    """Infrastructure failures since the last success. One object per process, on one folder."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def note(self, reason: str) -> None:
        """An infrastructure failure; `reason` is one line."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The name begins with the time, for the order; two slots may write at the same moment.
        file, _ = tempfile.mkstemp(prefix=f"{int(self._clock.wall() * 1e6)}-", dir=self._folder)
        with os.fdopen(file, "w") as out:
            out.write(reason)

    def clear(self) -> None:
        """There was a success."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def reasons(self) -> list[str]:
        """Oldest first."""
        found = []
        for path in sorted(self._files()):
            with contextlib.suppress(OSError):
                found.append(path.read_text())
        return found

    def _files(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []


@dataclass(slots=True)
class CircuitBreaker:
    """Asked by the host in each round; `now` is monotonic seconds."""

    failures: FailureLog
    _until: float = 0.0
    _pauses: int = 0
    #: Number of failures at the last pause; after it, one more is enough for the next.
    _seen: int = 0
    _reason: str = ""

    def backing_off(self, now: float) -> str:
        """Why the worker backs off; empty when it may claim."""
        if now < self._until:
            return self._reason
        reasons = self.failures.reasons()
        if not reasons:  # a success has cleared them
            self._pauses = self._seen = 0
            return ""
        if len(reasons) <= self._seen or len(reasons) < FAILURES:
            return ""
        self._pauses += 1
        pause = doubling(FIRST_PAUSE, LONGEST_PAUSE)(self._pauses)
        self._until = now + pause
        self._reason = (
            f"backs off for {pause:.0f} s after {len(reasons)} infrastructure failures in a row, "
            f"the last: {reasons[-1]}"
        )
        self._seen = len(reasons)
        return self._reason
