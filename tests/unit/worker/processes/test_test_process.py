"""Claims about `worker.processes.test_process`: the slot's side of a fork, with the test in the
place of loader and fork.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dct_celery.core.model import Outcome
from dct_celery.errors import ProcessDied, ProtocolError
from dct_celery.wire import framing, messages
from dct_celery.wire.process import MARK
from dct_celery.worker.processes import proc, test_process
from dct_celery.worker.processes.test_process import FORK_SECONDS, TestProcess
from tests.support.fake_clock import FakeClock


class Scene:
    """A loader whose forks come up after a moment; this process has both ends of each channel."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock()
        self.fifo = folder / "fork.fifo"
        os.mkfifo(self.fifo)
        self.loader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.folder = folder / "fork"
        self.folder.mkdir()
        self.inbox = self.outbox = -1
        self.deframer = framing.Deframer()
        #: Process groups that were sent a signal.
        self.signals: list[tuple[int, int]] = []
        self.swept: list[Path] = []
        monkeypatch.setattr(os, "killpg", lambda pid, number: self.signals.append((pid, number)))
        monkeypatch.setattr(
            test_process, "end_marked", lambda folder, clock: self.swept.append(folder)
        )
        monkeypatch.setattr(proc, "identity", lambda pid: (pid, 1) if pid else None)
        monkeypatch.setattr(test_process, "StrayTracker", lambda *_: Any)
        self.process = TestProcess(self.folder, self.fifo, {"DCT_SLOT": "3"}, self.clock)

    def fork(self, *, half: bool = False) -> None:
        """The fork comes up: it opens its ends, or only the first one."""
        self.inbox = os.open(self.folder / "in", os.O_RDONLY | os.O_NONBLOCK)
        if half:
            return
        self.outbox = os.open(self.folder / "out", os.O_WRONLY | os.O_NONBLOCK)

    def started(self) -> TestProcess:
        self.clock.at(0.01, self.fork)
        return self.process.start()

    def says(self, *said: messages.Message) -> None:
        os.write(self.outbox, b"".join(framing.frame(message.encode()) for message in said))

    def hears(self) -> list[messages.Message]:
        self.deframer.feed(os.read(self.inbox, 1 << 16))
        return [messages.decode(payload) for payload in iter(self.deframer.next, None)]

    def ends(self, status: str = "") -> None:
        """The fork is gone; the loader says how it ended."""
        os.close(self.outbox)
        self.outbox = -1
        if status:
            (self.folder / "status").write_text(status)

    def lose_loader(self) -> None:
        os.close(self.loader)
        self.loader = -1

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.ends()
        self.process.kill()
        for fd in (self.inbox, self.loader):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, monkeypatch)
    yield scene
    scene.close()


# -- start -------------------------------------------------------------------------------


def test_nothing_is_done_before_the_start(scene: Scene) -> None:
    assert list(scene.folder.iterdir()) == []


def test_the_loader_is_given_an_order_with_the_slots_environment_and_the_mark(scene: Scene) -> None:
    # When
    scene.started()
    # Then
    path = os.read(scene.loader, 4096).decode().strip()
    order = messages.decode(Path(path).read_bytes())
    assert isinstance(order, messages.ForkOrder)
    assert order.environment == {"DCT_SLOT": "3", MARK: str(scene.folder)}
    assert order.lifeline == str(scene.folder / "life")


def test_a_fork_that_does_not_come_up_is_given_up(scene: Scene) -> None:
    # When / Then
    with pytest.raises(ProcessDied, match="no test process came up within 30 s"):
        scene.process.start()
    assert scene.clock.now - 1000.0 == pytest.approx(FORK_SECONDS, abs=0.1)


def test_a_loader_that_dies_with_the_order_is_noticed_at_once(scene: Scene) -> None:
    # Given
    scene.clock.at(1.0, scene.lose_loader)
    # When / Then
    with pytest.raises(ProcessDied, match="the loader is gone"):
        scene.process.start()
    assert scene.clock.now - 1000.0 < 1.1


def test_a_loader_that_is_gone_is_noticed_at_once(scene: Scene) -> None:
    # Given
    scene.lose_loader()
    # When / Then
    with pytest.raises(ProcessDied, match="the loader is gone"):
        scene.process.start()


# -- the channel -------------------------------------------------------------------------


def test_messages_go_both_ways_in_order(scene: Scene) -> None:
    # Given
    process = scene.started()
    # When
    process.send(messages.RunChunk("c1", [0, 1]))
    scene.says(messages.TestStarted(0), messages.TestFinished(0, Outcome.PASSED, 0.1))
    # Then
    assert scene.hears() == [messages.RunChunk("c1", [0, 1])]
    assert process.receive(0.0) == messages.TestStarted(0)
    assert process.receive(0.0) == messages.TestFinished(0, Outcome.PASSED, 0.1)
    assert process.raw == messages.TestFinished(0, Outcome.PASSED, 0.1).encode()
    assert process.receive(0.0) is None


def test_a_fast_process_is_not_woken_for_each_record(scene: Scene) -> None:
    # Given
    process = scene.started()
    scene.says(messages.TestStarted(0))
    process.receive(0.0)
    scene.clock.waits.clear()
    # When
    scene.says(messages.TestStarted(1))
    process.receive(0.0)
    # Then
    assert scene.clock.waits == [pytest.approx(0.02)]


def test_the_end_of_the_channel_is_a_death_with_what_the_loader_says(scene: Scene) -> None:
    # Given
    process = scene.started()
    # When
    scene.ends("signal 11\n2048")
    # Then
    with pytest.raises(ProcessDied, match="signal 11"):
        process.receive(0.0)
    assert (process.ended, process.peak()) == (True, 2048)


def test_a_loader_that_needs_a_moment_to_report_it_gets_one(scene: Scene) -> None:
    # Given
    process = scene.started()
    scene.ends()
    scene.clock.at(1.0, lambda: (scene.folder / "status").write_text("exit 1"))
    # When / Then
    assert process.status() == "exit 1"


def test_a_death_of_unknown_cause_is_reported_as_such_after_a_moment(scene: Scene) -> None:
    # Given
    process = scene.started()
    scene.ends()
    # When / Then
    assert process.status() == "it is unknown how it ended"
    assert scene.clock.now - 1000.0 == pytest.approx(2.3, abs=0.1)


def test_a_process_that_lives_on_without_its_channel_lost_it_to_a_test(scene: Scene) -> None:
    # Given
    process = scene.started()
    process.attached(4711)
    scene.ends()
    # When / Then
    assert process.status() == "the test closed the runner's channel"


def test_an_order_to_a_dead_process_is_its_death(scene: Scene) -> None:
    # Given
    process = scene.started()
    os.close(scene.inbox)
    scene.inbox = -1
    (scene.folder / "status").write_text("signal 9")
    # When / Then
    with pytest.raises(ProcessDied, match="signal 9"):
        process.send(messages.Goodbye())


# -- questions ---------------------------------------------------------------------------


def test_a_question_has_one_answer(scene: Scene) -> None:
    # Given
    process = scene.started()
    scene.says(messages.Attached(4711, 0.1))
    # When / Then
    assert process.ask(messages.Attach({}, {}), messages.Attached, 60.0) == messages.Attached(
        4711, 0.1
    )
    assert scene.hears() == [messages.Attach({}, {})]


def test_another_answer_is_garbage(scene: Scene) -> None:
    # Given
    process = scene.started()
    scene.says(messages.TestStarted(0))
    # When / Then
    with pytest.raises(ProtocolError, match="expected Attached, received TestStarted"):
        process.ask(messages.Attach({}, {}), messages.Attached, 60.0)


def test_a_caller_may_check_other_things_while_it_waits_and_give_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    process = scene.started()
    silent(scene, monkeypatch)
    looks: list[float] = []

    def watch() -> None:
        looks.append(scene.clock.now)
        if len(looks) == 3:
            raise ProcessDied("the server vanished")

    # When / Then
    with pytest.raises(ProcessDied, match="the server vanished"):
        process.ask(messages.Goodbye(), messages.Attached, 60.0, watch)
    assert looks[2] - looks[0] == pytest.approx(2.0)


def test_a_question_without_answer_ends_after_its_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    process = scene.started()
    silent(scene, monkeypatch)
    # When / Then
    with pytest.raises(ProcessDied, match="no answer to Goodbye within 5 s"):
        process.ask(messages.Goodbye(), messages.Attached, 5.0)


@pytest.mark.parametrize("who", ["loader", "fork"])
def test_a_fork_that_dies_between_its_two_ends_of_the_channel_is_noticed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    # Given a fork that has opened one end and will never open the other
    scene.clock.at(0.01, lambda: scene.fork(half=True))
    process = scene.process.start()
    silent(scene, monkeypatch)
    # When
    if who == "loader":
        scene.lose_loader()
    else:
        (scene.folder / "status").write_text("signal 9")
    asked = scene.clock.now
    # Then
    with pytest.raises(ProcessDied, match="signal 9" if who == "fork" else "unknown how it ended"):
        process.ask(messages.Goodbye(), messages.Attached, 60.0)
    assert scene.clock.now - asked < 10.0


def silent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the channel takes its time on the clock."""

    def receive(timeout: float) -> None:
        scene.clock.now += timeout

    monkeypatch.setattr(scene.process, "receive", receive)


# -- the end -----------------------------------------------------------------------------


def test_the_end_kills_the_group_and_lets_go_of_the_lifeline(scene: Scene) -> None:
    # Given
    process = scene.started()
    process.attached(4711)
    life = os.open(scene.folder / "life", os.O_RDONLY | os.O_NONBLOCK)
    scene.ends("signal 9")
    # When
    process.kill()
    # Then
    assert scene.signals == [(4711, 9)]
    assert os.read(life, 1) == b""  # the end of file by which the loader knows
    os.close(life)
    assert scene.swept == []


def test_another_process_that_has_the_id_by_now_is_not_killed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    process = scene.started()
    process.attached(4711)
    scene.ends("exit 0")
    monkeypatch.setattr(proc, "identity", lambda pid: (pid, 2))
    # When
    process.kill()
    # Then
    assert scene.signals == []


def test_what_a_dead_loader_cannot_end_is_ended_by_the_slot(scene: Scene) -> None:
    # Given
    process = scene.started()
    scene.ends()
    scene.lose_loader()
    # When
    process.kill()
    # Then
    assert process.orphaned()
    assert scene.swept == [scene.folder]


def test_a_second_end_does_nothing(scene: Scene) -> None:
    # Given
    process = scene.started()
    scene.ends()
    process.kill()
    # When / Then
    process.kill()


def test_the_end_of_its_output_is_kept(scene: Scene) -> None:
    # Given
    assert scene.process.last_output() == ""
    (scene.folder / "log").write_bytes(b"x" * 10_000 + b"the end \xff")
    # When
    output = scene.process.last_output()
    # Then
    assert output.endswith("the end \\xff")
    assert len(output) == 8192 + 3


# -- stacks ------------------------------------------------------------------------------


def test_stacks_are_awaited_until_they_are_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    process = scene.started()
    process.attached(os.getpid())
    monkeypatch.setattr(process, "_writes_stacks", lambda pid: True)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    stacks = scene.folder / "stacks"
    scene.clock.at(0.28, lambda: stacks.write_text("Thread 1:"))
    scene.clock.at(0.33, lambda: stacks.write_text("Thread 1: in test_a"))
    # When / Then
    assert process.stacks(ask=True) == "Thread 1: in test_a"
    assert scene.clock.now - 1000.0 < 0.6


def test_a_process_that_shows_no_stacks_is_described_by_the_kernel(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    process = scene.started()
    process.attached(os.getpid())
    monkeypatch.setattr(process, "_writes_stacks", lambda pid: True)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    # When
    words = process.stacks(ask=True)
    # Then
    assert "the kernel says:" in words
    assert "state " in words
    assert scene.clock.now - 1000.0 == pytest.approx(2.0, abs=0.2)


def test_earlier_stacks_are_read_without_a_wait_for_new_ones(scene: Scene) -> None:
    # Given
    (scene.folder / "stacks").write_text("Fatal Python error")
    # When / Then
    assert scene.process.stacks(ask=False) == "Fatal Python error"
    assert scene.clock.waits == []


@pytest.mark.parametrize(("coverage", "seconds"), [("", 2.0), ("coverage.data", 30.0)])
def test_a_process_that_has_coverage_data_to_write_gets_the_time_for_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, coverage: str, seconds: float
) -> None:
    # Given a process that is asked to end, and does not
    process = scene.started()
    process._coverage = coverage
    waited: list[float] = []

    def receive(left: float) -> None:
        waited.append(left)
        scene.clock.sleep(left)

    monkeypatch.setattr(process, "receive", receive)
    # When
    process.finish(grace=2.0)
    # Then
    assert waited == [seconds]
