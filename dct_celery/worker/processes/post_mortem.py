"""What can be told of a test process that died: its last words, and whether the kernel was out of
memory.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dct_celery.worker.processes.test_process import TestProcess

_KILLED = "signal 9"


class MemoryTrouble:
    """Kills for want of memory since this object was made, in our control group and on the machine
    as a whole.
    """

    def __init__(self) -> None:
        self._before = _kills()

    def explain(self, status: str, peak: int) -> str:
        """One line from how it ended ("signal 9") and its peak of memory in KiB. The kernel does
        not say why it killed; so memory is named only where its count of such kills has grown.
        """
        if status != _KILLED:
            return status
        memory = f", memory peak {peak // 1024} MB" if peak else ""
        return f"killed ({status}){memory}" + (
            ", perhaps out of memory" if _kills() > self._before else ""
        )


def last_words(process: TestProcess) -> str:
    """Peak of memory, the stacks that faulthandler wrote when it died (or now, if it lives), and
    the end of its output.
    """
    stacks = process.stacks(ask=not process.ended)
    parts = [f"Memory peak: {peak // 1024} MB" if (peak := process.peak()) else "", stacks]
    output = process.last_output().strip()
    return "\n\n".join(filter(None, [*parts, output and f"Last output:\n{output}"]))


def _kills() -> int:
    """Count of processes killed for want of memory; a file that is not there counts none."""
    return sum(_count(path) for path in (Path("/proc/vmstat"), *_group_files()))


def _group_files() -> list[Path]:
    """Where the kernel counts for our control group: version 2 ("0::/path"), version 1
    ("4:memory:/path").
    """
    files = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                files.append(Path(f"/sys/fs/cgroup{path}/memory.events"))
            elif "memory" in controllers.split(","):
                files.append(Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control"))
    return files


def _count(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0
