"""Threads that the project has started while it was loaded.

A fork has only the thread that forked: the others are gone in it, with whatever they were to do,
and locks that they held stay locked. So a loader with threads does not fork. Exempt are those of
libraries that are known to start theirs again: asgiref's executor, whose idle thread is ended
before, and OpenBLAS.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any

from dct_celery.testproc.clock import now
from dct_celery.testproc.isolation.leaks import is_idle

#: Seconds that threads get to end by themselves: many are about to.
_GRACE = 0.25
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_BLAS = re.compile(r"\S*/\S*openblas\S*")
#: Spellings of the function that says how many threads OpenBLAS has, the caller's included.
_BLAS_THREADS = (
    "openblas_get_num_threads",
    "openblas_get_num_threads64_",
    "scipy_openblas_get_num_threads",
    "scipy_openblas_get_num_threads64_",
)
_start = threading.Thread.start
_wait = threading.Event().wait


class ThreadStarts:
    """Notes where each thread is started, until `stop`."""

    def __init__(self) -> None:
        self._places: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()
        self._root = ""
        self._own: Any = None

    def watch(self, root: str) -> None:
        """`root`: top of the project's tree."""
        places = self._places
        self._root = os.path.join(root, "")

        def start(thread: threading.Thread) -> None:
            with contextlib.suppress(Exception):
                places[thread] = self._place(sys._getframe(1))
            _start(thread)

        self._own = start
        threading.Thread.start = self._own  # type: ignore[method-assign]

    def stop(self) -> None:
        if threading.Thread.start is self._own:
            threading.Thread.start = _start  # type: ignore[method-assign]

    def of(self, thread: threading.Thread) -> str:
        """Empty if that is not known."""
        return self._places.get(thread, "")

    def _place(self, frame: FrameType | None) -> str:
        """The innermost frame of the project, or else of a package."""
        package = ""
        while frame is not None:
            file, line = frame.f_code.co_filename, frame.f_lineno
            installed = next((part for part in _INSTALLED if part in file), "")
            if file.startswith(self._root) and not installed:
                return f"{file.removeprefix(self._root)}:{line}"
            if installed and not package:
                package = f"{file.partition(installed)[2]}:{line}"
            frame = frame.f_back
        return package


#: Of this process.
STARTS = ThreadStarts()


def settle() -> list[str]:
    """Ends what is known to start again, waits a moment for threads that are about to end, and
    returns what is left, one text for each.
    """
    _end_asgiref()
    deadline = now() + _GRACE
    while (found := list(alive())) and now() < deadline:
        _wait(0.01)
    return found


def alive() -> Iterator[str]:
    """The living threads but this one."""
    this = threading.current_thread()
    known = {thread.native_id: thread for thread in threading.enumerate() if thread is not this}
    tasks = _tasks()
    for number, thread in known.items():
        if tasks is None or number in tasks:
            place = STARTS.of(thread)
            yield f"{thread.name} started at {place}" if place else thread.name
    strange = [number for number in tasks or () if number not in known]
    strange = [number for number in strange if number != this.native_id]
    for number in strange[_blas_threads() if strange else 0 :]:
        if name := _comm(number):
            yield f"a thread of a library ({name})"


def _tasks() -> list[int] | None:
    """Ids of all threads of this process, whoever started them; None where nobody tells."""
    with contextlib.suppress(OSError):
        return sorted(map(int, os.listdir("/proc/self/task")))
    return None


def _comm(number: int) -> str:
    """The name that the kernel has for it; empty if it has ended meanwhile."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{number}/comm") as file:
        return file.read().strip() or str(number)
    return ""


def _end_asgiref() -> None:
    """Ends the thread in which asgiref runs synchronous code, if it is idle.

    The next piece of such code gets another one, as the first did.
    """
    known: Any = sys.modules.get("asgiref.sync")
    executor: Any = getattr(getattr(known, "SyncToAsync", None), "single_thread_executor", None)
    threads = getattr(executor, "_threads", None)
    if not threads or not executor._work_queue.empty():
        return
    frames = sys._current_frames()
    idle = all(is_idle(frames.get(thread.ident or 0)) for thread in threads)
    frames.clear()  # it has our own frame in it
    if idle:
        known.SyncToAsync.single_thread_executor = type(executor)(max_workers=executor._max_workers)
        executor.shutdown(wait=True)


def _blas_threads() -> int:
    """Threads of OpenBLAS, which ends them before a fork and starts them again."""
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        libraries = set(_BLAS.findall(maps.read()))
        return sum(map(_threads_of, libraries))
    return 0


def _threads_of(library: str) -> int:
    with contextlib.suppress(OSError):
        loaded = ctypes.CDLL(library)
        for name in _BLAS_THREADS:
            if count := getattr(loaded, name, None):
                return max(int(count()) - 1, 0)
    return 0
