"""The inside of a test process within the process of a test.

A channel, an output and a watch that touch nothing outside.
"""

from __future__ import annotations

from collections.abc import Iterable

from dct_celery.core.model import Artifact
from dct_celery.core.run.leaks import LeakKind, LeakRecord
from dct_celery.testproc.channel import Channel
from dct_celery.testproc.isolation.leaks import LeakDetector
from dct_celery.testproc.isolation.output import OutputFile
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import framing, messages


class MemoryChannel(Channel):
    """What is sent through it is in `sent`, once it is flushed.

    What `receive` is to give is in `inbox`.
    """

    def __init__(self, inbox: Iterable[messages.Message] = ()) -> None:
        self.sent: list[messages.Message] = []
        #: False: as seen by a child that a test has forked.
        self.ours = True
        self._orders = list(inbox)
        self._waiting = b""
        self._deframer = framing.Deframer()

    @property
    def owned(self) -> bool:
        return self.ours

    def hold(self, encoded: bytes) -> None:
        self._waiting += framing.frame(encoded)

    def flush(self) -> None:
        self._deframer.feed(self._waiting)
        self._waiting = b""
        self.sent += map(messages.decode, iter(self._deframer.next, None))

    def receive(self) -> messages.Message | None:
        return self._orders.pop(0) if self._orders else None


class MemoryOutput(OutputFile):
    """What tests print is what a test puts into `printed`."""

    def __init__(self) -> None:
        self.printed, self.taken = "", 0
        self.restored = 0
        #: What `keep` gives.
        self.kept: tuple[Artifact, ...] = ()

    def take(self) -> str:
        text, self.printed = self.printed, ""
        return text

    def keep(self, folder: str) -> tuple[Artifact, ...]:
        return self.kept

    def flush(self) -> None: ...

    def restore(self) -> None:
        self.restored += 1


class FakeLeakDetector(LeakDetector):
    """Finds the leaks that it is given, and notes which classes it checked."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.checked: list[str] = []
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def check(self, cls: str) -> None:
        self.checked.append(cls)

    def end(self, cls: str) -> list[LeakRecord]:
        return [LeakRecord(LeakKind.THREAD, name, cls) for name in self._names]


class Bench:
    """A recorder, with all that it writes to. `root` is the folder of the tree."""

    def __init__(self, *leaks: str, root: str = "/src") -> None:
        self.channel = MemoryChannel()
        self.output = MemoryOutput()
        self.leaks = FakeLeakDetector(*leaks)
        self.recorder = Recorder(self.channel, self.output, self.leaks, root)
        self.recorder.start_chunk("c1")

    def sent(self) -> list[messages.Message]:
        """All messages since the last call."""
        self.channel.flush()
        sent, self.channel.sent = self.channel.sent, []
        return sent

    def finished(self) -> list[messages.TestFinished]:
        """The records of tests among them."""
        return [each for each in self.sent() if isinstance(each, messages.TestFinished)]
