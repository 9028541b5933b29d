"""Time as an argument: code that reads the time or waits is given a clock."""

from __future__ import annotations

from typing import Protocol


class Signal(Protocol):
    """What `Clock.wait` waits for: a `threading.Event`."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool: ...


class Clock(Protocol):
    """The clock of this machine. Its methods may be called from any thread."""

    def monotonic(self) -> float:
        """Seconds since a moment that all processes of this machine share; never goes back."""

    def wall(self) -> float:
        """Unix seconds. Clocks differ: no decision about another machine depends on it."""

    def sleep(self, seconds: float) -> None: ...

    def wait(self, signal: Signal, seconds: float) -> bool:
        """Returns when the signal is set, or after `seconds`; says whether it is set."""
