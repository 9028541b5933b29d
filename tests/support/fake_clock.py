"""Fake of the clock: time passes only during a wait, and then at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dct_celery.ports import Signal


@dataclass
class FakeClock:
    """See `ports.Clock`. What is to happen meanwhile is planned with `at`.

    Time belongs to the thread that made the clock: others wait until their signal is set.
    """

    now: float = 1000.0
    #: Unix seconds when `now` was 0.
    epoch: float = 1_700_000_000.0
    #: Seconds of each wait so far.
    waits: list[float] = field(default_factory=list)
    _plan: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    _owner: int = field(default_factory=threading.get_ident)

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """`act` happens when so many seconds, counted from now, have passed."""
        self._plan.append((self.now + seconds, act))

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.epoch + self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._pass_until(self.now + seconds)

    def wait(self, signal: Signal, seconds: float) -> bool:
        """Ends early when something that was planned sets the signal."""
        if threading.get_ident() != self._owner:
            return signal.wait()
        self.waits.append(seconds)
        self._pass_until(self.now + seconds, signal)
        return signal.is_set()

    def _pass_until(self, moment: float, signal: Signal | None = None) -> None:
        while not (signal is not None and signal.is_set()):
            due = [step for step in self._plan if step[0] <= moment]
            if not due:
                self.now = max(self.now, moment)
                return
            step = min(due, key=lambda step: step[0])
            self._plan.remove(step)
            self.now = max(self.now, step[0])
            step[1]()
