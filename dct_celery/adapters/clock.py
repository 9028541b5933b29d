"""The system's clock."""

from __future__ import annotations

import time

from dct_celery.ports import Signal


class SystemClock:
    """See `ports.Clock`."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, signal: Signal, seconds: float) -> bool:
        return signal.wait(seconds)
