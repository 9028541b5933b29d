"""The loader: it has imported the whole selection and forks test processes in milliseconds.

It has one thread and waits for three kinds of events: fork orders on a FIFO, the lifelines of its
forks (end of file means that the slot died, and the fork is killed with its process group), and the
worker's end of its own channel (MigrateAgain, once, where the project has receivers for it; end of
file means that the run is over on this host). It reports
each fork's end in the status file of its slot, and ends what the fork left behind.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import select
import signal
import sys
from typing import NoReturn

from dct_celery.testproc.backends.base import Project
from dct_celery.testproc.channel import Channel, raise_descriptor
from dct_celery.testproc.clock import now
from dct_celery.testproc.isolation import private_tree
from dct_celery.testproc.isolation.lifetime import (
    ForkMark,
    die_with_parent,
    dump_stacks_to,
    prefer_for_oom,
)
from dct_celery.testproc.isolation.orphans import Orphans
from dct_celery.wire import messages

#: Bound at import, as tests patch it: a fork that returned from `_become` would act as the loader.
_exit = os._exit
#: Signals that ask a process to end, or end it by default.
_UNHEARD = {
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGPIPE, signal.SIGVTALRM, signal.SIGPROF, signal.SIGTSTP,
    signal.SIGTTIN, signal.SIGTTOU, signal.SIGXCPU,
}  # fmt: skip


class Loader:
    """Forks on order until its channel closes."""

    def __init__(self, project: Project, channel: Channel, load: messages.Load) -> None:
        self._project = project
        self._root = load.root
        self._channel = channel
        # Opened for writing, too: a FIFO without writers would always be readable.
        self._orders = raise_descriptor(os.open(load.fork_fifo, os.O_RDWR | os.O_NONBLOCK))
        self._buffer = b""
        #: Lifeline descriptor -> pid, and pid -> status file.
        self._lifelines: dict[int, int] = {}
        self._status: dict[int, str] = {}
        self._marks: dict[int, ForkMark] = {}
        self._orphans = Orphans()
        self._old_mask: set[int] = set()
        #: Why forks cannot have the tree for themselves; None as long as nobody has asked.
        self._shared: str | None = None
        self._wake_in, self._wake_out = (raise_descriptor(fd) for fd in os.pipe())

    def serve(self) -> None:
        """Runs until the worker closes the channel, then kills what is left."""
        self._settle()
        try:
            while self._step():
                pass
        finally:
            for pid in list(self._status):
                self._kill(pid)
            self._orphans.finish()

    def _settle(self) -> None:
        self._make_ready()
        # Signals that a test sends to its parent are not for us. Blocked, not ignored: a fork gets
        # the project's handlers unchanged.
        self._old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _UNHEARD)
        os.set_blocking(self._wake_out, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)

    def _make_ready(self) -> None:
        """Does once what would be expensive in every fork.

        Closes connections, collects garbage and freezes the generations.
        """
        self._project.before_fork()
        gc.collect()
        gc.freeze()

    def _step(self) -> bool:
        waited = [self._orders, self._channel.fileno(), self._wake_in, *self._lifelines]
        readable, _, _ = select.select(waited, [], [], self._orphans.pause)
        self._reap()
        self._orphans.step(tuple(self._status))
        if self._channel.fileno() in readable:
            message = self._channel.receive()
            if message is None:
                return False
            self._channel.send(self._answer(message))
        for fd in readable:
            if fd in self._lifelines:
                self._slot_died(fd)
        if self._wake_in in readable:
            os.read(self._wake_in, 4096)
        if self._orders in readable:
            self._buffer += os.read(self._orders, 65536)
            *lines, self._buffer = self._buffer.split(b"\n")
            for line in lines:
                self._fork(line.decode())
        return True

    def _answer(self, message: messages.Message) -> messages.Message:
        if not isinstance(message, messages.MigrateAgain):
            return messages.Fatal("internal", f"a loader cannot answer {message.kind}")
        start = now()
        # Receivers find the signals as they are in the sequential run.
        signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            self._project.migrate_again(message)
        except (Exception, SystemExit) as error:
            return self._project.failure(message, error, "")
        finally:
            signal.signal(signal.SIGCHLD, handler)
            self._old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _UNHEARD)
            self._make_ready()
        return messages.MigratedAgain(now() - start)

    def _reap(self) -> None:
        while True:  # this includes orphans
            try:
                pid, status, use = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            path = self._status.pop(pid, None)
            for fd in [fd for fd, owner in self._lifelines.items() if owner == pid]:
                del self._lifelines[fd]
                os.close(fd)
            if path is not None:
                _write_status(path, status, use.ru_maxrss)
                self._orphans.fork_ended(self._marks.pop(pid), tuple(self._status))

    def _slot_died(self, fd: int) -> None:
        self._kill(self._lifelines.pop(fd))
        os.close(fd)

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)

    def _fork(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                order = messages.decode(file.read())
            assert isinstance(order, messages.ForkOrder)
            lifeline = raise_descriptor(os.open(order.lifeline, os.O_RDONLY | os.O_NONBLOCK))
        except OSError:
            return  # the slot is gone already
        sys.stdout.flush()
        sys.stderr.flush()
        if order.layer and self._shared is None:
            self._shared = private_tree.why_not(self._root, order.layer)
        mark = ForkMark(path)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(order, parent, mark)
        self._marks[pid] = mark
        self._lifelines[lifeline] = pid
        self._status[pid] = order.status

    def _become(self, order: messages.ForkOrder, parent: int, mark: ForkMark) -> NoReturn:
        """In the fork: drops everything of the loader, then serves the slot. Never returns."""
        status = 1
        try:
            os.setsid()
            die_with_parent(parent)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._orders, self._wake_in, self._wake_out, *self._lifelines):
                os.close(fd)
            self._channel.close()
            _set_environment(order.environment)
            random.seed()
            dump_stacks_to(order.stacks)
            _write_pid(order.stacks)
            prefer_for_oom()
            mark.carry()
            shared = order.shared or (self._shared or "" if order.layer else "")
            if order.layer and not shared:
                private_tree.enter(self._root, order.layer)
            from dct_celery.testproc.session import Session

            Session.open(self._project, order, self._root, shared).serve()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            _exit(status)


def _set_environment(variables: dict[str, str]) -> None:
    """Sets the variables, except a cache folder that was chosen explicitly."""
    given = {name: os.environ[name] for name in ("XDG_CACHE_HOME",) if name in os.environ}
    os.environ.update({**variables, **given})


def _write_pid(path: str) -> None:
    """Writes the pid beside the stacks.

    A fork that does not answer an order is asked for its stacks.
    """
    with contextlib.suppress(OSError), open(f"{path}.pid", "w") as file:
        file.write(str(os.getpid()))


def _write_status(path: str, status: int, peak: int) -> None:
    """Writes how the fork ended, and its peak memory in KiB, one line each."""
    text = (
        f"signal {os.WTERMSIG(status)}"
        if os.WIFSIGNALED(status)
        else f"exit {os.waitstatus_to_exitcode(status)}"
    )
    with contextlib.suppress(OSError):
        with open(f"{path}.tmp", "w") as file:
            file.write(f"{text}\n{peak}\n")
        os.replace(f"{path}.tmp", path)
