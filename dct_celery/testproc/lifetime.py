"""No process of ours outlives the one that wants it: PR_SET_PDEATHSIG, sessions, and the last words of a dying process."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import os
import signal
from typing import Any

_PR_SET_PDEATHSIG = 1
#: Asks a test process for the stacks of all its threads; real-time signals are the ones that projects leave alone.
STACKS_SIGNAL = signal.SIGRTMIN + 7


def die_with_parent(parent: int | None = None) -> None:
    """Asks the kernel for SIGKILL when the parent dies. `parent`: its pid, to notice that it died before this call."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def dump_stacks_to(path: str) -> None:
    """faulthandler writes to `path` on a crash and on STACKS_SIGNAL, even while C code holds the GIL."""
    from dct_celery.testproc.channel import raise_descriptor

    fd = raise_descriptor(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    faulthandler.enable(file=fd, all_threads=True)
    faulthandler.register(STACKS_SIGNAL, file=fd, all_threads=True, chain=False)
    _guard_stacks_signal()


def dump_stacks_to_output() -> None:
    """The same before there is a fork: into what is standard error now."""
    from dct_celery.testproc.channel import raise_descriptor

    faulthandler.register(STACKS_SIGNAL, file=raise_descriptor(os.dup(2)), all_threads=True, chain=False)


def _guard_stacks_signal() -> None:
    """A test that ignores or blocks every signal there is must still show where it hangs."""
    set_handler, set_mask = signal.signal, signal.pthread_sigmask

    @functools.wraps(set_handler)
    def guarded_handler(signalnum: Any, handler: Any) -> Any:
        return signal.getsignal(signalnum) if signalnum == STACKS_SIGNAL else set_handler(signalnum, handler)

    @functools.wraps(set_mask)
    def guarded_mask(how: Any, mask: Any) -> Any:
        return set_mask(how, mask if how == signal.SIG_UNBLOCK else set(mask) - {STACKS_SIGNAL})

    signal.signal, signal.pthread_sigmask = guarded_handler, guarded_mask
