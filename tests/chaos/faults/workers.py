"""Processes of a worker that are killed, or stopped and woken."""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections.abc import Iterator

from tests.chaos import processes
from tests.chaos.faults.base import Fault, Meets
from tests.chaos.scene import power_off

#: Leases that a zombie sleeps.
ASLEEP = 3.0
#: Seconds between two attempts of a supervisor to start a worker again, and how often it tries.
AGAIN, TRIES = 1.0, 8


class _OneProcess(Fault):
    """Something happens to processes of the worker."""

    losing = True

    @abstractmethod
    def targets(self) -> list[int]: ...


class _Kill(_OneProcess):
    """kill -9 of one process."""

    def act(self) -> Iterator[float]:
        yield from self.seek(self.targets)
        if self.found:
            self.blow()
            processes.send([self.chance.choice(self.found)], signal.SIGKILL)


class KillTestProcess(_Kill):
    """A fork that runs tests, as the kernel does when memory is short."""

    name = "kill-testprocess"
    once = True

    def targets(self) -> list[int]:
        return processes.test_processes(self.worker.pid)


class KillLoader(_Kill):
    """The process that holds the imported project, and with it its forks."""

    name = "kill-loader"

    def targets(self) -> list[int]:
        return processes.loaders(self.worker.pid)


class KillChild(_Kill):
    """The pool child that is the slot."""

    name = "kill-child"

    def targets(self) -> list[int]:
        return processes.pool_children(self.worker.pid)


class _Fall(Fault):
    """The worker ends and is started again, as a supervisor does until it stays."""

    losing = True

    @abstractmethod
    def fell(self) -> None: ...

    def act(self) -> Iterator[float]:
        self.blow()
        self.fell()
        if self.worker.process is not None:
            self.worker.process.wait()
        try:
            yield self.chance.uniform(0.3, 3.0)
        finally:
            self.scene.start_worker(self.worker)
        for _ in range(TRIES):
            yield AGAIN
            if not self.worker.alive:
                self.scene.start_worker(self.worker)


class KillMain(_Fall):
    """The worker's main process alone; its children must notice."""

    name = "kill-main"

    def fell(self) -> None:
        processes.send([self.worker.pid], signal.SIGKILL)


class PowerOff(_Fall):
    """Everything of the worker at once."""

    name = "power-off"

    def fell(self) -> None:
        power_off(self.worker.pid)


class _Stop(_OneProcess):
    """SIGSTOP for three leases, then SIGCONT."""

    stalling = True

    def act(self) -> Iterator[float]:
        yield from self.seek(self.targets)
        if not self.found:
            return
        self.blow()
        stopped = self.found
        try:
            processes.send(stopped, signal.SIGSTOP)
            yield ASLEEP * self.scene.lease
        finally:
            processes.send(stopped, signal.SIGCONT)
            self.heal()


class StopTree(_Stop):
    """A host that is paused and wakes as a zombie."""

    name = "stop-tree"

    def targets(self) -> list[int]:
        return processes.tree(self.worker.pid)


class StopChild(_Stop):
    """The slot alone: its test process runs on, its lease does not."""

    name = "stop-child"

    def targets(self) -> list[int]:
        return processes.pool_children(self.worker.pid)


class StopMain(_Stop):
    """The main process alone: slots keep their leases, no new chunk comes."""

    name = "stop-main"
    losing = False
    meets = Meets.CLAIMS
    outage = True

    def targets(self) -> list[int]:
        return [self.worker.pid] if self.worker.alive else []


KINDS: tuple[type[Fault], ...] = (
    KillTestProcess,
    KillLoader,
    KillChild,
    KillMain,
    PowerOff,
    StopTree,
    StopChild,
    StopMain,
)
