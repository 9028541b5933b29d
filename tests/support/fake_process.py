"""Fake of `worker.processes.test_process.TestProcess`.

It says what a test has it say, and its silence takes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dct_celery.errors import ProcessDied
from dct_celery.wire import messages
from dct_celery.worker.processes.strays import Stray
from tests.support.fake_clock import FakeClock

#: A message or an error; or what happens while the process says nothing for once.
Step = messages.Message | Exception | Callable[[], object]


@dataclass
class FakeProcess:
    """One fork. What it sends and what it is sent is in the lists."""

    clock: FakeClock
    #: What `receive` gives, one after the other; then nothing more comes.
    script: list[Step] = field(default_factory=list)
    #: The answer to `ask`.
    answer: messages.Message | Exception = field(
        default_factory=lambda: messages.Attached(4711, 0.1)
    )
    #: The answer to questions of one type, where it is another.
    answers: dict[type, messages.Message | Exception] = field(default_factory=dict)
    sent: list[messages.Message] = field(default_factory=list)
    #: finish | terminate | kill, as they came.
    ends: list[str] = field(default_factory=list)
    #: `send` finds that it has ended.
    deaf: bool = False
    ended: bool = False
    loader_is_gone: bool = False
    left: list[Stray] = field(default_factory=list)
    grown: int = 0
    kib: int = 0
    output: str = ""
    dump: str = ""
    pid: int = 0
    raw: bytes = b""

    __test__ = False

    def send(self, message: messages.Message) -> None:
        if self.deaf:
            raise ProcessDied("signal 9")
        self.sent.append(message)

    def receive(self, timeout: float) -> messages.Message | None:
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, messages.Message):
            self.raw = step.encode()
            return step
        self.clock.now += timeout
        if step is not None:
            step()
        return None

    def ask(
        self, question: messages.Message, kind: type, timeout: float, watch: object = None
    ) -> messages.Message:
        self.send(question)
        answer = self.answers.get(type(question), self.answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def attached(self, pid: int) -> None:
        self.pid = pid

    def strays(self) -> list[Stray]:
        return self.left

    def growth(self) -> int:
        return self.grown

    def stacks(self, *, ask: bool) -> str:
        return self.dump

    def last_output(self) -> str:
        return self.output

    def peak(self) -> int:
        return self.kib

    def orphaned(self) -> bool:
        return self.loader_is_gone

    def terminate(self, grace: float) -> None:
        self.ends.append("terminate")

    def finish(self, grace: float = 5.0) -> None:
        self.ends.append("finish")

    def kill(self) -> None:
        self.ends.append("kill")


@dataclass
class FakeForks:
    """Takes the place of the class `TestProcess`: every fork is a `FakeProcess`."""

    clock: FakeClock
    #: The forks so far, with the environment of each.
    made: list[FakeProcess] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)
    #: What each fork was told about the tree: its layer, or why it shares it.
    trees: list[Path | str | None] = field(default_factory=list)
    #: What becomes of each new one before it is used.
    prepare: Callable[[FakeProcess], Any] = lambda process: None

    def __call__(
        self,
        folder: Path,
        fork_fifo: Path,
        environment: Mapping[str, str],
        clock: FakeClock,
        layer: Path | None = None,
        shared: str = "",
        artifact_paths: Sequence[str] = (),
    ) -> FakeForks:
        self.environments.append(environment)
        self.trees.append(layer or shared or None)
        return self

    def start(self) -> FakeProcess:
        process = FakeProcess(self.clock)
        self.prepare(process)
        self.made.append(process)
        return process
