"""The loader: it starts a test process for whoever orders one.

`ForkingLoader` has imported the whole selection and forks in milliseconds. Where the project has
threads, which no fork would have, `spawner.SpawningLoader` takes its place.

It has one thread and waits for three kinds of events: fork orders on a FIFO, the lifelines of its
test processes (end of file means that the slot died, and the process is killed with its group), and
the worker's end of its own channel (MigrateAgain, once, where the project has receivers for it; end
of file means that the run is over on this host). It reports the end of each test process in the
status file of its slot, and ends what that left behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

from dct_celery.testproc import process_start
from dct_celery.testproc.backends.base import Project
from dct_celery.testproc.channel import Channel, raise_descriptor
from dct_celery.testproc.clock import now
from dct_celery.testproc.isolation import private_tree, threads
from dct_celery.testproc.isolation.frozen import FROZEN_HEAP
from dct_celery.testproc.isolation.lifetime import (
    ForkMark,
    die_with_parent,
    dump_stacks_to,
    prefer_for_oom,
)
from dct_celery.testproc.isolation.orphans import Orphans
from dct_celery.wire import messages
from dct_celery.wire.process import LOADER_TMPDIR

#: Bound at import, as tests patch it: a fork that returned from `_become` would act as the loader.
_exit = os._exit
#: Signals that ask a process to end, or end it by default.
_UNHEARD = {
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGPIPE, signal.SIGVTALRM, signal.SIGPROF, signal.SIGTSTP,
    signal.SIGTTIN, signal.SIGTTOU, signal.SIGXCPU,
}  # fmt: skip


class Loader:
    """Starts test processes on order until its channel closes."""

    def __init__(self, channel: Channel, load: messages.Load) -> None:
        self._load = load
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
        """Does once what would be expensive for each test process."""

    def _answer(self, message: messages.Message) -> messages.Message:
        """The answer to a message of the worker."""
        return messages.Fatal("internal", f"a loader cannot answer {message.kind}")

    def _start(self, order: messages.ForkOrder, path: str) -> int:
        """Starts a test process and returns its pid. `path`: of the order."""
        raise NotImplementedError

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
                self._obey(line.decode())
        return True

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

    def _obey(self, path: str) -> None:
        try:
            order = read_order(path)
            lifeline = raise_descriptor(os.open(order.lifeline, os.O_RDONLY | os.O_NONBLOCK))
        except OSError:
            return  # the slot is gone already
        sys.stdout.flush()
        sys.stderr.flush()
        mark = ForkMark(path)
        pid = self._start(order, path)
        self._marks[pid] = mark
        self._lifelines[lifeline] = pid
        self._status[pid] = order.status


class ForkingLoader(Loader):
    """Its test processes are forks with a copy of the loaded project."""

    def __init__(self, project: Project, channel: Channel, load: messages.Load) -> None:
        super().__init__(channel, load)
        self._project = project
        #: Why forks cannot have the tree for themselves; None as long as nobody has asked.
        self._shared: str | None = None

    def _make_ready(self) -> None:
        """Closes connections, collects garbage and keeps the memory of what is left shared."""
        self._project.disconnect()
        FROZEN_HEAP.freeze()

    def _answer(self, message: messages.Message) -> messages.Message:
        if not isinstance(message, messages.MigrateAgain):
            return super()._answer(message)
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
        answer = messages.MigratedAgain(now() - start)
        if threads.settle():
            process_start.replace_loader(self._load, self._channel, answer)
        return answer

    def _start(self, order: messages.ForkOrder, path: str) -> int:
        parent = os.getpid()
        if order.layer and self._shared is None:
            self._shared = private_tree.why_not(self._load.root, order.layer, self._load.temporary)
        order = with_tree(order, self._shared or "")
        with warnings.catch_warnings():
            # Of threads: those that are left are harmless. Both processes leave this block.
            warnings.simplefilter("ignore")
            pid = os.fork()
        if pid == 0:
            self._become(order, path, parent)
        return pid

    def _become(self, order: messages.ForkOrder, path: str, parent: int) -> NoReturn:
        """In the fork: drops everything of the loader, then serves the slot. Never returns."""
        status = 1
        try:
            order = enter_slot(order, path, parent, self._load.root, self._load.temporary)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._orders, self._wake_in, self._wake_out, *self._lifelines):
                os.close(fd)
            self._channel.close()
            os.environ.update(variables_of(order, os.environ))
            random.seed()
            from dct_celery.testproc.session import Session, end_process

            Session.open(order, self._load.root).serve(self._project)
            end_process()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            _exit(status)


def read_order(path: str) -> messages.ForkOrder:
    """Raises OSError where the slot has removed it."""
    with open(path, "rb") as file:
        order = messages.decode(file.read())
    assert isinstance(order, messages.ForkOrder)
    return order


def with_tree(order: messages.ForkOrder, why_not: str) -> messages.ForkOrder:
    """The order as it can be obeyed. `why_not`: of `private_tree`."""
    return replace(order, layer="", shared=why_not) if order.layer and why_not else order


def enter_slot(
    order: messages.ForkOrder, path: str, parent: int, root: str, temporary: str = ""
) -> messages.ForkOrder:
    """What a test process does first. Returns the order as it is to be obeyed from then on.

    `path`: of the order; `parent`: pid of the loader; `root`: top of the tree; `temporary`: of the
    loader, if what lies there has come along.
    """
    os.setsid()
    die_with_parent(parent)
    dump_stacks_to(order.stacks)
    _write_pid(order.stacks)
    prefer_for_oom()
    ForkMark(path).carry()
    if order.layer:
        private_tree.enter(root, order.layer, temporary)
        if temporary:
            # The path that the project's imports have seen, since no other process sees what lies
            # there: tests compare the two.
            own = {"TMPDIR": os.path.join(temporary, LOADER_TMPDIR)}
            return replace(order, environment={**order.environment, **own})
    return order


def variables_of(order: messages.ForkOrder, environ: Mapping[str, str]) -> dict[str, str]:
    """Those of a slot, except a cache folder that was chosen explicitly."""
    given = {name: environ[name] for name in ("XDG_CACHE_HOME",) if name in environ}
    return {**order.environment, **given}


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
