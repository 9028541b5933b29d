"""Processes that tests leave behind: found in /proc from outside, asked to end, killed (I9).

A stray is a descendant of the test process, or a child of the loader (to which the kernel gives all
orphans) that bears the fork's mark: its folder, in the environment of executed programs and in the
memory maps of mere forks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dct_celery.core.text import one_line
from dct_celery.ports import Clock
from dct_celery.wire.process import MARK
from dct_celery.worker.processes import proc

#: Seconds for strays to end by themselves: many are about to.
_BY_THEMSELVES = 0.1
#: Seconds for strays to end after SIGTERM.
_ASKED = 0.5
#: Seconds for strays to end after SIGKILL.
_KILLED = 0.5
#: Seconds between two checks whether they have ended.
_PAUSE = 0.01
#: Longest command that is reported, in characters.
_COMMAND = 200
#: Helpers that multiprocessing keeps until the interpreter ends.
_HELPERS = (
    b"multiprocessing.resource_tracker import main",
    b"multiprocessing.forkserver import main",
)


@dataclass(frozen=True, slots=True)
class Stray:
    pid: int
    #: Its start in clock ticks since boot: with the id, it names one process for ever.
    ticks: int
    parent: int = 0
    command: str = ""

    @property
    def started(self) -> tuple[float, float]:
        """Earliest and latest possible start in seconds of this host's CLOCK_MONOTONIC: the kernel
        counts in ticks.
        """
        slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
        tick = 1.0 / os.sysconf("SC_CLK_TCK")
        earliest = self.ticks * tick - slept
        return earliest - 0.001, earliest + tick + 0.001


class StrayTracker:
    """The strays of one test process."""

    def __init__(self, folder: Path, pid: int, clock: Clock) -> None:
        """`folder` of the fork; `pid` of the test process, which is attached: what it has started
        so far belongs to it.
        """
        self._pid = pid
        self._clock = clock
        self._marks = _marks(str(folder))
        self._parent = proc.parent(pid)
        #: Other children of the loader, mostly forks of other slots: examined only once.
        self._strangers: set[tuple[int, int]] = set()
        self._known = set(self._relatives())
        #: Size of the process in its memory, in bytes.
        self.memory = proc.memory(pid)

    def strays(self) -> list[Stray]:
        """Those that still exist after a moment; without any, this costs few reads of /proc."""
        deadline = self._clock.monotonic() + _BY_THEMSELVES
        while found := [
            one for one in self._relatives() if one not in self._known and not _is_helper(one[0])
        ]:
            if self._clock.monotonic() > deadline:
                break
            self._clock.sleep(_PAUSE)
        return [Stray(pid, ticks, proc.parent(pid), _command(pid)) for pid, ticks in found]

    def _relatives(self) -> list[tuple[int, int]]:
        """(pid, ticks) of every living process that the test process or its tests started."""
        own = list(proc.descendants(self._pid))
        orphans = [
            one
            for one in map(proc.identity, proc.children(self._parent))
            if one and one[0] != self._pid
        ]
        for one in orphans:
            if one in self._strangers:
                continue
            bears = _bears(one[0], self._marks)
            if bears:
                own += [one, *proc.descendants(one[0])]
            elif bears is False:
                self._strangers.add(one)
        return own


def end(strays: Iterable[Stray], clock: Clock) -> None:
    """SIGTERM, then SIGKILL for those that ignore it. Returns when they are gone, after about a
    second at most.
    """
    left = list(strays)
    for number, patience in ((signal.SIGTERM, _ASKED), (signal.SIGKILL, _KILLED)):
        for one in left:
            _signal(one, number)
        deadline = clock.monotonic() + patience
        while left := [one for one in left if proc.identity(one.pid) == (one.pid, one.ticks)]:
            if clock.monotonic() > deadline:
                break
            clock.sleep(_PAUSE)


def end_marked(folder: Path, clock: Clock) -> int:
    """Ends every process that bears the mark of `folder` or of a folder below it; returns their
    number.

    For use when their loader is gone. Examines all processes of this machine, in about ten
    microseconds each.
    """
    marks = [_marks(str(folder)), _marks(str(folder), below=True)]
    others = [pid for pid in proc.pids() if pid != os.getpid()]
    found = [
        one
        for one in map(proc.identity, others)
        if one and any(_bears(one[0], mark) for mark in marks)
    ]
    end((Stray(*one) for one in found), clock)
    return len(found)


def _marks(folder: str, *, below: bool = False) -> tuple[bytes, bytes]:
    """The variable (with `below`, its beginning), and the beginning of the mapped file's path."""
    end_of_name = "/" if below else "\0"
    return f"\0{MARK}={folder}{end_of_name}".encode(), os.fsencode(f" {os.path.realpath(folder)}/")


def _bears(pid: int, marks: tuple[bytes, bytes]) -> bool | None:
    """None while /proc does not say: it is about to exec, has ended, or may not be examined."""
    variable, file = marks
    environment, maps = proc.read(pid, "environ"), proc.read(pid, "maps")
    if variable in b"\0" + environment or file in maps:
        return True
    return False if environment and maps else None


def _is_helper(pid: int) -> bool:
    command = proc.read(pid, "cmdline")
    return any(helper in command for helper in _HELPERS)


def _command(pid: int) -> str:
    line = proc.read(pid, "cmdline").replace(b"\0", b" ").decode(errors="backslashreplace").strip()
    line = one_line(line)  # of a program that is given as an argument
    return line if len(line) <= _COMMAND else f"{line[:_COMMAND]}…"


def _signal(one: Stray, number: int) -> None:
    """Sends it to this process, never to another one that has got its id."""
    with contextlib.suppress(OSError):
        fd = os.pidfd_open(one.pid)
        try:
            if proc.identity(one.pid) == (one.pid, one.ticks):
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)
