"""What is known of a test process that died: its last state, and whether memory had run out."""

from __future__ import annotations

import contextlib
from pathlib import Path

from dct_celery.machine import own_groups
from dct_celery.worker.processes.test_process import TestProcess

_KILLED = "signal 9"


class MemoryTrouble:
    """Out-of-memory kills since this object was made, in our control group and on the machine."""

    def __init__(self) -> None:
        self._before = _kills()

    def explain(self, status: str, peak: int) -> str:
        """One line from how it ended ("signal 9") and its peak memory in KiB. The kernel does not
        say whom it killed for memory, so that is named only if its count of such kills has grown.
        """
        if status != _KILLED:
            return status
        memory = f", memory peak {peak // 1024} MB" if peak else ""
        return f"killed ({status}){memory}" + (
            ", perhaps out of memory" if _kills() > self._before else ""
        )


def last_state(process: TestProcess) -> str:
    """Peak memory, the stacks that faulthandler wrote when it died (or writes now, if it lives),
    and the end of its output.
    """
    stacks = process.stacks(ask=not process.ended)
    peak, output = process.peak(), process.last_output().strip()
    parts = [
        f"Memory peak: {peak // 1024} MB" if peak else "",
        stacks,
        f"Last output:\n{output}" if output else "",
    ]
    return "\n\n".join(filter(None, parts))


def _kills() -> int:
    """Number of out-of-memory kills; a missing file counts as none."""
    return sum(_count(path) for path in (Path("/proc/vmstat"), *_group_files()))


def _group_files() -> list[Path]:
    """The kernel's counters of our control groups: version 2 and 1 have a file each."""
    names = ("memory.events", "memory.oom_control")
    return [own / name for own, _ in own_groups("memory") for name in names]


def _count(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0
