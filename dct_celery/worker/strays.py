"""Processes that tests leave: found in /proc from outside, asked to end, killed.

A stray is a descendant of the test process, or a child of the loader (to which the kernel gives all orphans) that bears the mark
of the fork: its folder, in the environment of what was executed and among the maps of what was only forked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dct_celery.ports import Clock
from dct_celery.wire.process import MARK

#: Seconds for strays to end by themselves (many are on their way), after SIGTERM, and after SIGKILL.
_BY_THEMSELVES, _ASKED, _KILLED = 0.1, 0.5, 0.5
_PAUSE = 0.01
#: Longest command that is told, in characters.
_COMMAND = 200
#: Helpers that multiprocessing keeps until the interpreter ends.
_HELPERS = (b"multiprocessing.resource_tracker import main", b"multiprocessing.forkserver import main")


@dataclass(frozen=True, slots=True)
class Stray:
    pid: int
    #: When it was started, in clock ticks since boot: with the id it names one process for ever.
    ticks: int
    parent: int = 0
    command: str = ""

    @property
    def started(self) -> tuple[float, float]:
        """Earliest and latest start on this host's CLOCK_MONOTONIC, in seconds: the kernel tells it in ticks."""
        slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
        tick = 1.0 / os.sysconf("SC_CLK_TCK")
        earliest = self.ticks * tick - slept
        return earliest - 0.001, earliest + tick + 0.001


class Watch:
    """The strays of one test process."""

    def __init__(self, folder: Path, pid: int, clock: Clock) -> None:
        """`folder` of the fork; `pid` of the test process, which is attached: what it has started so far belongs to it."""
        self._pid = pid
        self._clock = clock
        self._marks = _marks(str(folder))
        self._parent = _parent(pid)
        #: Other children of the loader, forks of other slots above all: looked at once.
        self._strangers: set[tuple[int, int]] = set()
        self._known = set(self._relatives())
        #: Size of the process in its memory, in bytes.
        self.memory = memory(pid)

    def strays(self) -> list[Stray]:
        """Those that are still there after a moment; without any, this costs a few reads of /proc."""
        deadline = self._clock.monotonic() + _BY_THEMSELVES
        while found := [one for one in self._relatives() if one not in self._known and not _is_helper(one[0])]:
            if self._clock.monotonic() > deadline:
                break
            self._clock.sleep(_PAUSE)
        return [Stray(pid, ticks, _parent(pid), _command(pid)) for pid, ticks in found]

    def _relatives(self) -> list[tuple[int, int]]:
        """(pid, ticks) of every living process that the test process or its tests started."""
        own = list(_descendants(self._pid))
        orphans = [one for one in map(identity, _children(self._parent)) if one and one[0] != self._pid]
        for one in orphans:
            if one in self._strangers:
                continue
            bears = _bears(one[0], self._marks)
            if bears:
                own += [one, *_descendants(one[0])]
            elif bears is False:
                self._strangers.add(one)
        return own


def end(strays: Iterable[Stray], clock: Clock) -> None:
    """SIGTERM, and SIGKILL for those that do not heed it. Returns when they are gone, after about a second at most."""
    left = list(strays)
    for number, patience in ((signal.SIGTERM, _ASKED), (signal.SIGKILL, _KILLED)):
        for one in left:
            _signal(one, number)
        deadline = clock.monotonic() + patience
        while left := [one for one in left if identity(one.pid) == (one.pid, one.ticks)]:
            if clock.monotonic() > deadline:
                break
            clock.sleep(_PAUSE)


def end_marked(folder: Path, clock: Clock) -> int:
    """Ends every process that bears the mark of `folder`, a fork's or one above forks'; returns how many there were.

    For when their loader is gone. Looks at all processes of this machine: some ten microseconds for each.
    """
    marks = [_marks(str(folder)), _marks(str(folder), below=True)]
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    found = [one for one in map(identity, pids) if one and any(_bears(one[0], mark) for mark in marks)]
    end((Stray(*one) for one in found), clock)
    return len(found)


def memory(pid: int) -> int:
    """Resident bytes; 0 if it cannot be told."""
    words = _read(f"/proc/{pid}/statm").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if len(words) > 1 else 0


# -- /proc -----------------------------------------------------------------------------


def _marks(folder: str, *, below: bool = False) -> tuple[bytes, bytes]:
    """The variable (with `below`, its beginning), and the beginning of the mapped file's path."""
    end_of_name = "/" if below else "\0"
    return f"\0{MARK}={folder}{end_of_name}".encode(), os.fsencode(f" {os.path.realpath(folder)}/")


def _bears(pid: int, marks: tuple[bytes, bytes]) -> bool | None:
    """None while /proc does not tell: it is just about to exec, has ended, or may not be looked at."""
    variable, file = marks
    environment, maps = _read(f"/proc/{pid}/environ"), _read(f"/proc/{pid}/maps")
    if variable in b"\0" + environment or file in maps:
        return True
    return False if environment and maps else None


def _descendants(pid: int) -> Iterator[tuple[int, int]]:
    for child in _children(pid):
        if one := identity(child):
            yield one
        yield from _descendants(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def identity(pid: int) -> tuple[int, int] | None:
    """(pid, ticks), which name one process for ever; None for a process that has ended, waited for or not."""
    words = _stat(pid)
    return (pid, int(words[19])) if len(words) > 19 and words[0] not in (b"Z", b"X") else None


def _parent(pid: int) -> int:
    words = _stat(pid)
    return int(words[1]) if len(words) > 1 else 0


def _stat(pid: int) -> list[bytes]:
    """The words after the name, which may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _is_helper(pid: int) -> bool:
    command = _read(f"/proc/{pid}/cmdline")
    return any(helper in command for helper in _HELPERS)


def _command(pid: int) -> str:
    words = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="backslashreplace").strip()
    return words if len(words) <= _COMMAND else f"{words[:_COMMAND]}…"


def _signal(one: Stray, number: int) -> None:
    """To this process and never to another that got its number."""
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(one.pid)
        try:
            if identity(one.pid) == (one.pid, one.ticks):
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""
