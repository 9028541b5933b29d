"""What this process may use of its machine, and how many slots that is enough for.

Cores count by affinity and by the CPU quota of every control group above this process; memory by
what is free on the machine and below the limit of each of those groups (versions 1 and 2).
`root` is where `/proc` and `/sys` are.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dct_celery.core.text import plural
from dct_celery.errors import MachineUnfit

_ROOT = Path("/")
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
#: Bytes of memory that one slot is expected to take, with its test process.
SLOT_MEMORY = 400 * _MIB
#: Version 1 writes a number near 2**63 where there is no limit.
_UNLIMITED = 2**60


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use. Memory is in bytes."""

    #: At least 1.
    cores: int
    #: The machine's, or the lowest limit of a control group.
    memory: int
    #: What can be had of it without swapping.
    free: int


@dataclass(frozen=True, slots=True)
class Slots:
    """How many slots a machine has room for (at least 1), and why: "2 slots: 2 cores"."""

    count: int
    reason: str


def look(root: Path = _ROOT) -> Machine:
    """The machine as it is now. Raises OSError where the kernel does not say (no `/proc`)."""
    facts = _table(root / "proc/meminfo")
    memory, free = facts["MemTotal:"] * _KIB, facts["MemAvailable:"] * _KIB
    cores = float(len(os.sched_getaffinity(0)))
    for limit, used in _memory_limits(root):
        memory, free = min(memory, limit), min(free, max(limit - used, 0))
    for quota in _cpu_quotas(root):
        cores = min(cores, quota)
    return Machine(max(1, math.ceil(cores)), memory, free)


def slots_of(machine: Machine, slot_memory: int = SLOT_MEMORY) -> Slots:
    """A slot per core, as far as there is memory for them.

    Raises MachineUnfit if all memory together is less than one slot takes.
    """
    if machine.memory < slot_memory:
        raise MachineUnfit(
            f"this machine, or a control group of this process, has {size(machine.memory)} of"
            f" memory, and one slot takes {size(slot_memory)}; raise the limit"
        )
    count = min(machine.cores, max(1, machine.free // slot_memory))
    if count * slot_memory <= machine.free and count == machine.cores:
        return Slots(count, f"{plural(count, 'slot')}: {plural(machine.cores, 'core')}")
    return Slots(
        count,
        f"{count} of {plural(machine.cores, 'slot')}: {size(machine.free)} of memory free,"
        f" {size(slot_memory)} a slot",
    )


def room() -> Slots:
    """`slots_of` this machine as it is now."""
    return slots_of(look())


def size(number: int) -> str:
    """Bytes for people: "1.2 GiB", "400 MiB"."""
    return f"{number / _GIB:.1f} GiB" if number >= _GIB else f"{number // _MIB} MiB"


def processor_ticks(root: Path = _ROOT) -> tuple[int, int]:
    """(busy, all) ticks of all processors since the machine started. Raises OSError."""
    words = (root / "proc/stat").read_text().split(maxsplit=9)[1:9]
    user, nice, system, idle, waiting, *stolen = map(int, words)
    busy = user + nice + system + sum(stolen)
    return busy, busy + idle + waiting


# -- control groups --------------------------------------------------------------------


def own_groups(controller: str, root: Path = _ROOT) -> Iterator[tuple[Path, Path]]:
    """Folder of each control group of this process that may know this controller, and the top one.

    The folder need not exist: in a container the path may be that of the host. Then the top one is
    the container's.
    """
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                top = root / "sys/fs/cgroup" / (controller if controllers else "")
                yield top / path.strip("/"), top


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of `own_groups` and of all groups above them, whose limits hold as well."""
    for own, top in own_groups(controller, root):
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, use) in bytes of each group that has a limit. Cached files do not count as used."""
    for folder in _groups("memory", root):
        for limit_file, used_file, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None and limit < _UNLIMITED:
                facts = {}
                with contextlib.suppress(OSError):
                    facts = _table(folder / "memory.stat")
                yield limit, used - facts.get(cached, 0)


def _cpu_quotas(root: Path) -> Iterator[float]:
    """The cores that each group with a quota may keep busy."""
    for folder in _groups("cpu", root):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)  # "max" is no number: there is no quota
        quota_us = _number(folder / "cpu.cfs_quota_us")
        period_us = _number(folder / "cpu.cfs_period_us")
        if quota_us and period_us and quota_us > 0:
            yield quota_us / period_us


def _number(file: Path) -> int | None:
    """None for a file that is missing, or holds "max"."""
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return None


def _table(file: Path) -> dict[str, int]:
    """First word of each line -> the number after it."""
    words = (line.split() for line in file.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) > 1}
