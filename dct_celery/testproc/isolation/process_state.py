"""State of the process that a test may change and that is restored for the next chunk.

Only state that is cheap to check. A sequential run keeps such changes for all later classes; here
they reach those of the same chunk. Not included: random numbers (no test may rely on their
position), modules and their contents (losing them would be worse than leaking them).
"""

from __future__ import annotations

import _signal as raw  # type: ignore[import-not-found]  # without the enums of `signal`
import contextlib
import decimal
import gc
import locale
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from dct_celery.wire.process import STACKS_SIGNAL

#: Signals whose handlers the interpreter does not know (faulthandler's), or that cannot be handled.
_NOT_OURS = {
    signal.SIGSEGV,
    signal.SIGFPE,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGKILL,
    signal.SIGSTOP,
}
_SIGNALS = sorted(
    int(one) for one in signal.valid_signals() - _NOT_OURS if int(one) != STACKS_SIGNAL
)
_LIMITS = (
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_AS,
    resource.RLIMIT_DATA,
    resource.RLIMIT_STACK,
    resource.RLIMIT_CPU,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_CORE,
)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_getsignal, _signal, _sigmask, _setitimer = (
    raw.getsignal,
    raw.signal,
    raw.pthread_sigmask,
    raw.setitimer,
)
_getitimer, _getcwd, _chdir, _umask, _setlocale, _tzset = (
    raw.getitimer, os.getcwd, os.chdir, os.umask, locale.setlocale, time.tzset
)  # fmt: skip
_getrlimit, _setrlimit, _modules = resource.getrlimit, resource.setrlimit, sys.modules
_getcontext = decimal.getcontext
_environ, _variables, _path = os.environ, os.environb, sys.path
#: The dict of bytes behind os.environ: copying it costs a tenth of decoding it.
_data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]


class ProcessState:
    """The state of the process when this object was made; `restore` puts it back."""

    def __init__(self) -> None:
        self._was = {name: read() for name, (read, _) in _PARTS.items()}
        self._modules = len(_modules)

    def changed(self) -> list[str]:
        """Names of the parts that have changed."""
        return [name for name, (read, _) in _PARTS.items() if read() != self._was[name]]

    def restore(self) -> dict[str, str]:
        """Restores what changed. Returns remarks by name for what could not be restored completely.

        What was added to the environment or sys.path while modules were imported may be theirs;
        they do not add it twice.
        """
        remarks = {}
        imported = len(_modules) != self._modules
        for name in self.changed():
            now, was = _PARTS[name][0](), self._was[name]
            if imported and name in _ADDED:
                self._was[name] = was = _ADDED[name](was, now)
            if was != now:
                with contextlib.suppress(Exception):
                    _PARTS[name][1](was)
            elif imported:
                remarks[name] = " (kept, since a module that was imported meanwhile may need it)"
            if _PARTS[name][0]() != self._was[name]:
                remarks[name] = " (which cannot be put back)"
                self._was[name] = _PARTS[name][0]()
        self._modules = len(_modules)
        return remarks


def _cwd() -> str:
    try:
        return _getcwd()
    except OSError:
        return ""  # the folder was removed


def _the_umask() -> int:
    mask = _umask(0o077)
    _umask(mask)
    return mask


def _set_environ(was: dict[bytes, bytes]) -> None:
    now = _data.copy()
    for name in now.keys() - was.keys():
        del _variables[name]
    for name, value in was.items():
        if now.get(name) != value:
            _variables[name] = value
    if now.get(b"TZ") != was.get(b"TZ"):
        _tzset()


def _set_mapping(_: int) -> None:
    os.environ = _environ  # noqa: B003 - the object that was there before


def _set_path(was: list[str]) -> None:
    sys.path = _path
    _path[:] = was


def _the_handlers() -> list[Any]:
    return [_getsignal(number) for number in _SIGNALS]


def _set_handlers(was: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, was, strict=True):
        if handler is not None and _getsignal(number) is not handler:
            _signal(number, handler)


def _set_timers(was: tuple[bool, ...]) -> None:
    for timer, ran in zip(_TIMERS, was, strict=True):
        if not ran:
            _setitimer(timer, 0)


def _set_limits(was: tuple[tuple[int, int], ...]) -> None:
    for limit, value in zip(_LIMITS, was, strict=True):
        if _getrlimit(limit) != value:
            _setrlimit(limit, value)


def _set_streams(was: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = was


def _the_decimals() -> tuple[Any, ...]:
    """The decimal context of this thread, without the flags, which every operation sets."""
    now = _getcontext()
    return (
        now.prec,
        now.rounding,
        now.Emin,
        now.Emax,
        now.capitals,
        now.clamp,
        *now.traps.values(),
    )


def _set_decimals(was: tuple[Any, ...]) -> None:
    now = _getcontext()
    now.prec, now.rounding, now.Emin, now.Emax, now.capitals, now.clamp, *traps = was
    now.traps.update(zip(now.traps, traps, strict=True))


_PARTS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "cwd": (_cwd, _chdir),
    "umask": (_the_umask, _umask),
    "environ": (_data.copy, _set_environ),
    "os.environ": (lambda: id(os.environ), _set_mapping),
    "sys.path": (lambda: list(sys.path), _set_path),
    # Timers before handlers: a running timer would otherwise meet the restored handler.
    "timers": (lambda: tuple(any(_getitimer(timer)) for timer in _TIMERS), _set_timers),
    "signal handlers": (_the_handlers, _set_handlers),
    "signal mask": (
        lambda: _sigmask(signal.SIG_BLOCK, ()),
        lambda was: _sigmask(signal.SIG_SETMASK, was),
    ),
    "locale": (lambda: _setlocale(locale.LC_ALL), lambda was: _setlocale(locale.LC_ALL, was)),
    "sys.stdin, sys.stdout, sys.stderr": (
        lambda: (sys.stdin, sys.stdout, sys.stderr),
        _set_streams,
    ),
    "limits": (lambda: tuple(map(_getrlimit, _LIMITS)), _set_limits),
    "recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "garbage collector": (gc.isenabled, lambda was: gc.enable() if was else gc.disable()),
    "trace function": (sys.gettrace, sys.settrace),
    "profile function": (sys.getprofile, sys.setprofile),
    "decimal context": (_the_decimals, _set_decimals),
    "socket time-out": (socket.getdefaulttimeout, socket.setdefaulttimeout),
}


def _with_new_variables(was: dict[bytes, bytes], now: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {**{name: now[name] for name in now.keys() - was.keys()}, **was}


def _with_new_folders(was: list[str], now: list[str]) -> list[str]:
    """The present path, if it still contains the original entries in their order."""
    kept = [entry for entry in now if entry in was]
    return now if kept == was else was


#: Additions that may stay: (as it was, as it is) -> what counts as the original from now on.
_ADDED: dict[str, Callable[[Any, Any], Any]] = {
    "environ": _with_new_variables,
    "sys.path": _with_new_folders,
}
