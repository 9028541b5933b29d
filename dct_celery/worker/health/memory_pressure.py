"""Slots that stand back while memory is short, and come back when it is not.

A machine or control group without free memory ends processes, and with them tests that were right.
So a slot that has ended its chunk looks first, gives its test process back, and lets others run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dct_celery.machine import Machine, size

#: Least share of the memory that is to be free, and least number of bytes, whichever is more.
FREE_SHARE, FREE_BYTES = 0.05, 128 * 2**20
#: Seconds between two looks.
PAUSE = 1.0


@dataclass(slots=True)
class MemoryPressure:
    """One slot's view. `look` raises OSError where the kernel says nothing."""

    look: Callable[[], Machine]
    #: It never stands back.
    exempt: bool = False
    _looked_at: float = -PAUSE
    _reason: str = ""

    def reason(self, now: float) -> str:
        """Why the slot stands back; empty if it does not. `now`: monotonic seconds."""
        if self.exempt or now - self._looked_at < PAUSE:
            return self._reason
        self._looked_at = now
        try:
            machine = self.look()
        except OSError:
            return self._reason
        # What was short has to be there twice, or slots would come and go.
        wanted = max(machine.memory * FREE_SHARE, FREE_BYTES) * (2 if self._reason else 1)
        self._reason = (
            f"{size(machine.free)} of {size(machine.memory)} of memory are free"
            if machine.free < wanted
            else ""
        )
        return self._reason
