"""The breaker of a sick worker: after several infrastructure failures in a row it claims nothing
for a while, and says why.

Slots note failures and successes as files in the worker's folder; the host reads them. A worker
that rests leaves its chunks to others, or to itself in better times, instead of spending the
bounded re-runs of every test on a broken machine.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dct_celery.core.retry import doubling
from dct_celery.ports import Clock

#: Failures without a success in between, over all slots, after which the worker rests.
FAILURES = 3
#: Seconds of the first rest; each that follows without a success is twice as long, up to the second
#: figure.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0


class FailureLog:
    """What slots say. One object per process, all on one folder."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def note(self, reason: str) -> None:
        """An infrastructure failure; `reason` is one line."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Named by its time, for their order; two slots may write at the same moment.
        file, _ = tempfile.mkstemp(prefix=f"{int(self._clock.wall() * 1e6)}-", dir=self._folder)
        with os.fdopen(file, "w") as out:
            out.write(reason)

    def clear(self) -> None:
        """Something went well."""
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
    """Asked by the host with each look around; `now` is monotonic seconds."""

    failures: FailureLog
    _until: float = 0.0
    _pauses: int = 0
    #: Failures that the last rest was for; after it, one more is enough for the next.
    _seen: int = 0
    _reason: str = ""

    def trouble(self, now: float) -> str:
        """Why the worker rests; empty when it may claim."""
        if now < self._until:
            return self._reason
        reasons = self.failures.reasons()
        if not reasons:  # a success has cleared them
            self._pauses = self._seen = 0
            return ""
        if len(reasons) <= self._seen or len(reasons) < FAILURES:
            return ""
        self._pauses += 1
        rest = doubling(FIRST_PAUSE, LONGEST_PAUSE)(self._pauses)
        self._until = now + rest
        self._reason = (
            f"rests for {rest:.0f} s after {len(reasons)} infrastructure failures in a row, the"
            f" last: {reasons[-1]}"
        )
        self._seen = len(reasons)
        return self._reason
