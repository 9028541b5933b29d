"""A fork of the loader as its slot sees it: FIFOs, stacks, status, and a way to end it that always
works.

The slot cannot wait for the process, which is the loader's child; the loader writes its status to a
file. The slot ends it by closing the lifeline: the loader sees that and kills the process group,
and then whatever else the fork left. Should the loader die, the kernel kills its forks, and the
slot ends what they left.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self, TypeVar

from dct_celery.errors import ProcessDied, ProtocolError
from dct_celery.ports import Clock
from dct_celery.security.files import tail_of
from dct_celery.wire import framing, messages
from dct_celery.wire.process import MARK, STACKS_SIGNAL
from dct_celery.worker.processes import proc
from dct_celery.worker.processes.strays import Stray, StrayTracker, end_marked

M = TypeVar("M", bound=messages.Message)
#: Seconds for a fork to come up.
FORK_SECONDS = 30.0
#: Least seconds between two reads.
_PACE = 0.02
#: Characters of stacks that are kept.
_STACKS = 32_000
#: Seconds that a process gets to write its stacks.
_DUMP_SECONDS = 2.0
#: Seconds without growth after which the stacks are complete.
_SETTLED = 0.05
#: Seconds to write coverage data, of which a large project has many megabytes.
_MEASURED_GRACE = 30.0
#: How a process ended that only lost its channel.
_CLOSED = "the test closed the runner's channel"
#: Seconds that the loader gets to report another end first.
_CLOSED_SECONDS = 0.3


class TestProcess:
    """One fork. Raises ProcessDied if it ends by itself. Call `start` before anything else."""

    __test__ = False

    def __init__(
        self,
        folder: Path,
        fork_fifo: Path,
        environment: Mapping[str, str],
        clock: Clock,
        layer: Path | None = None,
        shared: str = "",
        coverage: str = "",
        artifact_paths: Sequence[str] = (),
    ) -> None:
        """`layer`, `shared`, `coverage`, `artifact_paths`: see `messages.ForkOrder`."""
        self._folder = folder
        self._layer = layer
        self._shared = shared
        self._coverage = coverage
        self._artifact_paths = list(artifact_paths)
        self._environment = environment
        self._clock = clock
        self._fork_fifo = fork_fifo
        self._watch: StrayTracker | None = None
        self._deframer = framing.Deframer()
        self._inbox = self._outbox = self._lifeline = -1
        self.pid = 0
        self._identity: tuple[int, int] | None = None
        #: The bytes of the message that `receive` returned last.
        self.raw = b""
        self._read_at = 0.0

    def start(self) -> Self:
        """Has the loader fork it. Raises ProcessDied when none comes up."""
        folder = self._folder
        for name in ("in", "out", "life"):
            os.mkfifo(folder / name, 0o600)
        order = messages.ForkOrder(
            inbox=str(folder / "in"),
            outbox=str(folder / "out"),
            lifeline=str(folder / "life"),
            log=str(folder / "log"),
            stacks=str(folder / "stacks"),
            status=str(folder / "status"),
            environment={**self._environment, MARK: str(folder)},
            layer=str(self._layer) if self._layer else "",
            shared=self._shared,
            coverage=self._coverage,
            artifact_paths=self._artifact_paths,
        )
        (folder / "order").write_bytes(order.encode())
        try:
            self._connect()
        except BaseException:
            self.kill()
            raise
        return self

    def _connect(self) -> None:
        """Gives the order, and opens the channel once the fork is there."""
        self._outbox = os.open(self._folder / "out", os.O_RDONLY | os.O_NONBLOCK)
        # Also for reading: the write end must exist before the loader polls its read end.
        self._lifeline = os.open(self._folder / "life", os.O_RDWR | os.O_NONBLOCK)
        with _loader(self._fork_fifo) as orders:
            orders.write(f"{self._folder / 'order'}\n".encode())
        deadline = self._clock.monotonic() + FORK_SECONDS
        while self._inbox < 0:
            try:
                self._inbox = os.open(self._folder / "in", os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if self._clock.monotonic() > deadline:
                    raise ProcessDied(
                        f"no test process came up within {FORK_SECONDS:.0f} s"
                    ) from error
                _loader(self._fork_fifo).close()  # it may have died with our order in its hands
                self._clock.sleep(0.002)
        os.set_blocking(self._inbox, True)

    def attached(self, pid: int) -> None:
        """It has reported its pid and is ready: what it starts from now on belongs to tests."""
        self.pid, self._identity = pid, proc.identity(pid)
        self._watch = StrayTracker(self._folder, pid, self._clock)

    def strays(self) -> list[Stray]:
        """Processes that its tests have left so far."""
        return self._watch.strays() if self._watch else []

    def growth(self) -> int:
        """Bytes by which it is larger than it was before its first test."""
        return proc.memory(self.pid) - self._watch.memory if self._watch else 0

    def send(self, message: messages.Message) -> None:
        data = framing.frame(message.encode())
        try:
            while data:
                data = data[os.write(self._inbox, data) :]
        except BrokenPipeError:
            raise ProcessDied(self.status()) from None

    def receive(self, timeout: float) -> messages.Message | None:
        """The next message, or None after `timeout` seconds. Raises ProcessDied at end of file,
        ProtocolError for garbage.
        """
        payload = self._deframer.next()
        if payload is None:
            self._pace()
            if not select.select([self._outbox], [], [], timeout)[0]:
                return None
            self._read_at = self._clock.monotonic()
            data = os.read(self._outbox, 1 << 18)
            if not data:
                raise ProcessDied(self.status())
            self._deframer.feed(data)
            payload = self._deframer.next()
        if payload is None:
            return None
        self.raw = payload
        return messages.decode(payload)

    def _pace(self) -> None:
        """Lets records of a fast test process gather: waking for each would slow it down."""
        since = self._clock.monotonic() - self._read_at
        if since < _PACE:
            self._clock.sleep(_PACE - since)

    def ask(
        self,
        question: messages.Message,
        kind: type[M],
        timeout: float,
        watch: Callable[[], None] = lambda: None,
    ) -> M | messages.Fatal:
        """Sends and waits for the one answer. Raises ProcessDied, also when `timeout` seconds pass;
        `watch` is called every second, and may raise.
        """
        self.send(question)
        deadline = self._clock.monotonic() + timeout
        while (left := deadline - self._clock.monotonic()) > 0:
            answer = self.receive(min(left, 1.0))
            if answer is None and (self.ended or self.orphaned()):
                # Killed before it had opened its end of the channel, there is no end of file.
                answer = self.receive(0.0)
                if answer is None:
                    raise ProcessDied(self.status())
            if isinstance(answer, (kind, messages.Fatal)):
                return answer
            watch()
            if answer is not None:
                raise ProtocolError(f"expected {kind.__name__}, received {answer.kind}")
        raise ProcessDied(f"no answer to {question.kind} within {timeout:.0f} s")

    def status(self) -> str:
        """How it ended: "signal 11", "exit 0"; waits a moment for the loader to report it."""
        self._await_status(_CLOSED_SECONDS)
        if not self._status() and proc.identity(self.pid) is not None:
            return _CLOSED
        self._await_status(2.0)
        status = next(iter(self._status()), "it is unknown how it ended")
        return _CLOSED if status == f"exit {messages.CHANNEL_CLOSED}" else status

    @property
    def ended(self) -> bool:
        """The loader has reported its end."""
        return bool(self._status())

    def orphaned(self) -> bool:
        """The loader is gone, and all its forks with it."""
        try:
            _loader(self._fork_fifo).close()
        except ProcessDied:
            return True
        return False

    def peak(self) -> int:
        """Its peak memory in KiB, once it has ended; 0 if unknown."""
        return int("".join(self._status()[1:2]) or 0)

    def _status(self) -> list[str]:
        try:
            return (self._folder / "status").read_text().splitlines()
        except OSError:
            return []

    def _await_status(self, seconds: float) -> None:
        deadline = self._clock.monotonic() + seconds
        while not self._status() and self._clock.monotonic() < deadline:
            self._clock.sleep(0.01)

    def stacks(self, *, ask: bool) -> str:
        """What faulthandler wrote; with `ask`, the stacks of all threads as they are now, or what
        the kernel knows of them.
        """
        before = self._stacks()
        pid = self.pid or self._early_pid()
        if not ask or not pid:
            return before[-_STACKS:]
        if not self._writes_stacks(pid):
            return f"{before[-_STACKS:]}\n{_kernel_states(pid)}".lstrip()
        # A stopped process takes no signal before it goes on; it is to end in a moment anyway.
        for number in (STACKS_SIGNAL, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return self._dumped(before) or f"{before[-_STACKS:]}\n{_kernel_states(pid)}".lstrip()

    def _writes_stacks(self, pid: int) -> bool:
        """False once a test has closed the descriptor for them."""
        return proc.has_open(pid, os.path.realpath(self._folder / "stacks")) is not False

    def _dumped(self, before: str) -> str:
        """The stacks, once they are whole; empty when none come."""
        deadline = self._clock.monotonic() + _DUMP_SECONDS
        last = before
        while self._clock.monotonic() < deadline:
            self._clock.sleep(_SETTLED)
            text = self._stacks()
            if text == last != before:
                return text[-_STACKS:]
            last = text
        return last[-_STACKS:] if last != before else ""

    def _stacks(self) -> str:
        with contextlib.suppress(OSError):
            return (self._folder / "stacks").read_text(errors="backslashreplace")
        return ""

    def _early_pid(self) -> int:
        """Before it has answered anything."""
        with contextlib.suppress(OSError, ValueError):
            return int((self._folder / "stacks.pid").read_text())
        return 0

    def terminate(self, grace: float) -> None:
        """Asks its process group to end, and waits up to `grace` seconds for that; `kill` comes
        next in any case.
        """
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGTERM)
            self._await_status(grace)

    def last_output(self) -> str:
        """The end of what it printed."""
        return tail_of(self._folder / "log")

    def finish(self, grace: float = 5.0) -> None:
        """Asks it to tear down and exit; kills it after `grace` seconds, or later if it has
        coverage data to write.
        """
        if self._coverage:
            grace = max(grace, _MEASURED_GRACE)
        with contextlib.suppress(ProcessDied, OSError, ProtocolError):
            self.send(messages.Goodbye())
            deadline = self._clock.monotonic() + grace
            while (left := deadline - self._clock.monotonic()) > 0:
                self.receive(left)
        self.kill()

    def kill(self) -> None:
        """Ends it and everything in its process group, and waits until it is gone. Other strays go
        within a second.
        """
        # Never another process that has got its id since. Its group may outlive it.
        if self.pid and proc.identity(self.pid) in (None, self._identity):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        for fd in (self._lifeline, self._inbox):
            if fd >= 0:
                os.close(fd)
        self._lifeline = self._inbox = -1
        if self._outbox >= 0:
            self._drain()
            os.close(self._outbox)
            self._outbox = -1
            self._without_loader()

    def _without_loader(self) -> None:
        """Ends what the fork left and the loader cannot end any more, because it is gone itself."""
        if self.orphaned():
            end_marked(self._folder, self._clock)

    def _drain(self) -> None:
        """Reads to the end of file: then the process no longer holds its databases open."""
        deadline = self._clock.monotonic() + 5.0
        while self.pid and (left := deadline - self._clock.monotonic()) > 0:
            if select.select([self._outbox], [], [], left)[0] and not os.read(
                self._outbox, 1 << 18
            ):
                return


def _kernel_states(pid: int) -> str:
    """What the kernel knows of each thread: name, state, and where in the kernel it waits."""
    states = [
        f"thread {name}: state {state}, waits in {where}"
        for name, state, where in proc.threads(pid)
    ]
    return "\n".join(
        ["it did not show its stacks; the kernel says:", *(states or ["the process is gone"])]
    )


def _loader(fork_fifo: Path) -> IO[bytes]:
    """The loader's end of the FIFO, open for orders. Raises ProcessDied when there is no loader."""
    try:
        return os.fdopen(os.open(fork_fifo, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0)
    except OSError as error:
        raise ProcessDied(f"the loader is gone: {error.strerror}") from error
