"""What tests leave inside their process: threads and listening sockets, and changed state; and in
the project's folder, where slots share it.

The first two end the use of the process; changed state is put back. This is checked after each
class, so that the class can be named, with functions that are bound before any test can patch them.
Nothing here starts a thread, forks or collects garbage. Processes are found from outside: see
worker.processes.strays.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import thread as pool
from types import FrameType

from dct_celery.core.run.leaks import LeakKind, LeakRecord
from dct_celery.testproc.clock import now
from dct_celery.testproc.isolation.process_state import ProcessState
from dct_celery.testproc.isolation.tree_watch import TreeWatch

#: Seconds that threads of the chunk's last class get to end: many are about to.
_GRACE = 0.05
_frames: Callable[[], dict[int, FrameType]] = sys._current_frames
_readlink, _listdir, _dup, _close, _socket_type = (
    os.readlink,
    os.listdir,
    os.dup,
    os.close,
    _socket.socket,
)
_enumerate = threading.enumerate
#: Used for waiting: tests patch time.sleep.
_pause = threading.Event().wait


class LeakDetector:
    """The leaks of one test process, chunk by chunk."""

    def __init__(self, tree: TreeWatch | None = None) -> None:
        """`tree`: the project's folder, where other slots share it."""
        self._tree = tree
        self._state: ProcessState | None = None
        self._threads: set[threading.Thread] = set()
        self._sockets: dict[str, str] = {}
        self._lowest = -1
        self._found: dict[threading.Thread | str, str] = {}
        self._changed: dict[str, str] = {}

    def begin(self) -> None:
        """Notes what exists before the chunk; the project's setup_databases may have started it."""
        if self._state is None:
            self._state = ProcessState()
        self._threads = set(_enumerate())
        self._sockets, self._lowest = _sockets(), _lowest_free()
        self._found, self._changed = {}, {}
        if self._tree is not None:
            self._tree.begin()

    def accept(self) -> None:
        """What there is now is there to stay, and none of it is a leak."""
        self._state = None
        self.begin()

    def check(self, cls: str) -> None:
        """After class `cls`: what is new since the last check is attributed to it.

        Takes some ten microseconds, as nothing is reported or restored yet.
        """
        for thread in self._new_threads():
            self._found.setdefault(thread, cls)
        if (lowest := _lowest_free()) != self._lowest:
            self._lowest = lowest
            for name in _sockets().keys() - self._sockets.keys():
                self._found.setdefault(name, cls)
        assert self._state is not None
        for name in self._state.changed():
            self._changed.setdefault(name, cls)
        if self._tree is not None:
            self._tree.class_over(cls)

    def end(self, cls: str) -> list[LeakRecord]:
        """After the chunk, whose last class is `cls`: reports leaks and restores the state."""
        self.check(cls)
        assert self._state is not None
        kept = self._state.restore()
        state = [
            LeakRecord(LeakKind.STATE, f"{name}{kept.get(name, '')}", who)
            for name, who in self._changed.items()
        ]
        files = self._tree.end() if self._tree is not None else []
        return [*self._left_threads(), *self._left_sockets(), *state, *files]

    # -- threads -----------------------------------------------------------------------

    def _new_threads(self) -> list[threading.Thread]:
        return [one for one in _enumerate() if not one.daemon and one not in self._threads]

    def _busy(self) -> list[threading.Thread]:
        new = self._new_threads()
        if not new:
            return new
        frames = _frames()
        try:
            return [one for one in new if not is_idle(frames.get(one.ident or 0))]
        finally:
            # It contains our own frame: a cycle that would keep the chunk's objects until some
            # collection.
            frames.clear()

    def _left_threads(self) -> list[LeakRecord]:
        deadline = now() + _GRACE
        while (busy := self._busy()) and now() < deadline:
            _pause(_GRACE / 10)
        return [LeakRecord(LeakKind.THREAD, one.name, self._found.get(one, "")) for one in busy]

    # -- sockets -----------------------------------------------------------------------

    def _left_sockets(self) -> list[LeakRecord]:
        new = {name: fd for name, fd in _sockets().items() if name not in self._sockets}
        places = [(name, place) for name, fd in new.items() if (place := _listens(int(fd)))]
        return [
            LeakRecord(LeakKind.PORT, place, self._found.get(name, "")) for name, place in places
        ]


def is_idle(frame: FrameType | None) -> bool:
    """Whether this is an idle thread of a ThreadPoolExecutor, which asgiref keeps for good."""
    return frame is None or frame.f_code is pool._worker.__code__


def _lowest_free() -> int:
    """The lowest free descriptor.

    A class that leaves a descriptor open mostly takes it; listing all of them costs a hundred times
    more.
    """
    try:
        fd = _dup(0)
    except OSError:
        return -1
    _close(fd)
    return fd


def _sockets() -> dict[str, str]:
    """Name ("socket:[inode]") -> descriptor of every open socket."""
    found = {}
    for fd in _listdir("/proc/self/fd"):
        try:
            target = _readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target[:7] == "socket:":
            found[target] = fd
    return found


def _listens(fd: int) -> str:
    """The address that a listening socket is bound to; empty for any other descriptor."""
    with contextlib.suppress(OSError):
        one = _socket_type(fileno=_dup(fd))
        try:
            if one.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN):
                address = one.getsockname()
                return (
                    ":".join(map(str, address[:2]))
                    if isinstance(address, tuple)
                    else str(address) or "unnamed"
                )
        finally:
            one.close()
    return ""
