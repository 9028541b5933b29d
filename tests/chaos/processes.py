"""What runs on this machine: trees of processes, by parent and command."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from tests.support.fleet import command_of


def parents() -> dict[int, int]:
    """Process -> its parent."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                found[int(entry)] = int(_fields(int(entry))[1])
    return found


def _fields(pid: int) -> list[str]:
    """State, parent and so on: what follows the name in `stat`."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """The process and all that descend from it, parents first; empty when it is gone."""
    known = parents()
    found = [root] if root in known else []
    for pid in found:
        found += [one for one, parent in known.items() if parent == pid]
    return found


def send(pids: Iterable[int], number: signal.Signals) -> int:
    """To each that lives; how many did."""
    count = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            count += 1
    return count


def began(pid: int) -> str:
    """Distinguishes a process from a later one of the same id; empty when it is gone."""
    with contextlib.suppress(OSError, IndexError):
        return _fields(pid)[19]
    return ""


def describe(pid: int) -> str:
    """One line for a dump: id, state, where in the kernel it waits, command."""
    state = where = "?"
    with contextlib.suppress(OSError, IndexError):
        state = _fields(pid)[0]
        where = Path(f"/proc/{pid}/wchan").read_text() or "-"
    return f"{pid} {state} {where} {command_of(pid)[-160:]}"


def pool_children(main: int) -> list[int]:
    return [pid for pid in _children(main) if "celery" in command_of(pid) and not _is_loader(pid)]


def loaders(main: int) -> list[int]:
    """Processes of the project's interpreter that a worker's main process has started."""
    return [pid for pid in _children(main) if _is_loader(pid)]


def test_processes(main: int) -> list[int]:
    """Forks of the loaders."""
    return [fork for loader in loaders(main) for fork in _children(loader)]


def _is_loader(pid: int) -> bool:
    return "testproc.main" in command_of(pid)


def _children(parent: int) -> list[int]:
    return sorted(pid for pid, its in parents().items() if its == parent)
