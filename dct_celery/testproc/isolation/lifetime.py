"""How long the processes of a run live, and how what they leave is found.

PR_SET_PDEATHSIG and sessions end processes with the one that needs them, marks identify strays, and
faulthandler writes the stacks of a dying process.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import mmap
import os
import signal
from typing import Any

from dct_celery.wire.process import MARK, STACKS_SIGNAL

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: Added to the OOM score of test processes: when memory is short, the kernel kills them and not the
#: worker or the database server.
_OOM_SCORE = 500


def die_with_parent(parent: int | None = None) -> None:
    """Asks the kernel for SIGKILL when the parent dies.

    `parent`: its pid, to notice that it died before this call.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant that loses its own.

    So a double fork cannot escape it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def prefer_for_oom() -> None:
    """Makes the kernel prefer this process and its children when it is out of memory.

    A refusal is ignored.
    """
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+") as file:
        score = min(int(file.read()) + _OOM_SCORE, 1000)
        file.seek(0)
        file.write(str(score))


def children() -> list[int]:
    """Children of this process, including dead ones not waited for; none without /proc."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            found += map(int, _read(f"/proc/self/task/{task}/children").split())
    return found


#: Maps of marks that this process carries: a map ends with its object.
_CARRIED: list[mmap.mmap] = []


class ForkMark:
    """A mark that all descendants of one fork inherit.

    Those that exec inherit a variable, those that only fork a mapped file.
    """

    def __init__(self, file: str) -> None:
        """`file`: a non-empty file in the folder of the fork."""
        self._file = os.fsencode(os.path.realpath(file))
        self._variable = f"\0{MARK}={os.path.dirname(file)}\0".encode()

    def carry(self) -> None:
        """Maps the file into this process, for as long as it lives.

        Its environment in /proc always stays the one it was started with.
        """
        with open(self._file, "rb") as file:
            _CARRIED.append(
                mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
            )

    def borne_by(self, pid: int) -> bool:
        """Whether the process has the mark; False also if it has ended or may not be inspected."""
        return self._variable in b"\0" + _read(f"/proc/{pid}/environ") or self._file in _read(
            f"/proc/{pid}/maps"
        )


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


def dump_stacks_to(path: str) -> None:
    """Makes faulthandler write to `path` on a crash and on STACKS_SIGNAL.

    It does so even while C code holds the GIL.
    """
    from dct_celery.testproc.channel import raise_descriptor

    fd = raise_descriptor(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    faulthandler.enable(file=fd, all_threads=True)
    faulthandler.register(STACKS_SIGNAL, file=fd, all_threads=True, chain=False)
    _guard_stacks_signal()


def dump_stacks_to_output() -> None:
    """The same, to the current standard error, before there is a fork."""
    from dct_celery.testproc.channel import raise_descriptor

    faulthandler.register(
        STACKS_SIGNAL, file=raise_descriptor(os.dup(2)), all_threads=True, chain=False
    )


def _guard_stacks_signal() -> None:
    """Keeps STACKS_SIGNAL working.

    A test that ignores or blocks all signals must still show where it hangs.
    """
    set_handler, set_mask = signal.signal, signal.pthread_sigmask

    @functools.wraps(set_handler)
    def guarded_handler(signalnum: Any, handler: Any) -> Any:
        return (
            signal.getsignal(signalnum)
            if signalnum == STACKS_SIGNAL
            else set_handler(signalnum, handler)
        )

    @functools.wraps(set_mask)
    def guarded_mask(how: Any, mask: Any) -> Any:
        return set_mask(how, mask if how == signal.SIG_UNBLOCK else set(mask) - {STACKS_SIGNAL})

    signal.signal, signal.pthread_sigmask = guarded_handler, guarded_mask
