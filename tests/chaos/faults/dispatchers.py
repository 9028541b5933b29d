"""The dispatcher: stopped for a while, or killed and followed by another."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from tests.chaos import processes
from tests.chaos.faults.base import Fault, Meets, Outage


class _OfDispatcher(Fault):
    part = "dispatcher"
    meets = Meets.JOURNAL

    @property
    def pid(self) -> int:
        assert self.scene.dispatcher is not None
        return self.scene.dispatcher.pid


class DispatcherStopped(_OfDispatcher, Outage):
    """SIGSTOP, and SIGCONT a while later."""

    name = "dispatcher-stop"

    def down(self) -> None:
        processes.send([self.pid], signal.SIGSTOP)

    def up(self) -> None:
        processes.send([self.pid], signal.SIGCONT)


class DispatcherKilled(_OfDispatcher):
    """kill -9, and `dct attach` one to five seconds later."""

    name = "dispatcher-kill"
    outage = True

    def act(self) -> Iterator[float]:
        yield from self.seek(lambda: [self.pid] if self.scene.journal.exists() else [])
        if not self.found:
            return
        self.blow()
        assert self.scene.dispatcher is not None
        self.scene.attaching = True
        self.scene.dispatcher.kill()
        self.scene.dispatcher.wait()
        try:
            yield self.chance.uniform(1.0, 5.0)
        finally:
            self.scene.attach()
            self.scene.attaching = False
            self.heal()


KINDS: tuple[type[Fault], ...] = (DispatcherStopped, DispatcherKilled)
