"""Claims about `worker.processes.strays`, on a /proc of the test's own: which processes are a
fork's, and how they are ended.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dct_celery.wire.process import MARK
from dct_celery.worker.processes import proc as files
from dct_celery.worker.processes import strays
from dct_celery.worker.processes.strays import Stray, StrayTracker, end, end_marked
from tests.support.fake_clock import FakeClock

#: The loader, its fork (the test process), and another slot's fork.
LOADER, FORK, OTHER = 100, 101, 102


class Proc:
    """Processes by number: parent, start, environment."""

    def __init__(self, clock: FakeClock, folder: Path) -> None:
        self.clock, self.folder = clock, folder
        self.parents: dict[int, int] = {}
        self.environments: dict[int, bytes] = {}
        self.commands: dict[int, bytes] = {}
        self.read_paths: list[str] = []
        #: (seconds since the beginning, process, signal) of all that were sent.
        self.signals: list[tuple[float, int, int]] = []
        #: Signals that a process does not heed.
        self.stubborn: set[int] = set()
        #: When a process was started, where that is not ten ticks for each number.
        self.ticks: dict[int, int] = {}
        self.add(LOADER, parent=1)
        self.add(FORK, parent=LOADER, mark=folder)
        self.add(OTHER, parent=LOADER, mark=folder.with_name("other"))

    def add(
        self, pid: int, parent: int, mark: Path | None = None, command: bytes = b"sleep\x0060\x00"
    ) -> None:
        self.parents[pid] = parent
        self.environments[pid] = b"A=1\0" + (f"{MARK}={mark}\0".encode() if mark else b"")
        self.commands[pid] = command

    def end(self, pid: int) -> None:
        """Its children are the loader's from now on."""
        del self.parents[pid]
        for child, parent in self.parents.items():
            if parent == pid:
                self.parents[child] = LOADER

    def read(self, number: int, name: str) -> bytes:
        self.read_paths.append(f"{number}/{name}")
        if number not in self.parents:
            return b""
        if name.startswith("task"):
            return " ".join(
                str(child) for child, parent in self.parents.items() if parent == number
            ).encode()
        words = [
            "S",
            str(self.parents[number]),
            *["0"] * 17,
            str(self.ticks.get(number, number * 10)),
        ]
        found = {
            "stat": f"{number} (a ) b) {' '.join(words)}".encode(),
            "environ": self.environments[number],
            "maps": b"7f00 /usr/lib/libc.so\n",
            "cmdline": self.commands[number],
            "statm": b"500 200 0",
        }
        return found[name]

    def signal(self, one: Stray, number: int) -> None:
        self.signals.append((round(self.clock.now - 1000.0, 3), one.pid, number))
        if one.pid not in self.stubborn or number == signal.SIGKILL:
            self.end(one.pid)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def proc(clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    proc = Proc(clock, tmp_path / "fork")
    monkeypatch.setattr(files, "read", proc.read)
    monkeypatch.setattr(strays, "_signal", proc.signal)
    monkeypatch.setattr(
        os,
        "listdir",
        lambda path: [str(pid) for pid in proc.parents] if path == "/proc" else ["1"],
    )
    return proc


@pytest.fixture
def watch(proc: Proc, clock: FakeClock) -> StrayTracker:
    return StrayTracker(proc.folder, FORK, clock)


def found(watch: StrayTracker) -> list[int]:
    return [one.pid for one in watch.strays()]


def test_a_process_without_children_has_no_strays_and_costs_no_wait(
    watch: StrayTracker, clock: FakeClock
) -> None:
    assert found(watch) == []
    assert clock.waits == []


def test_children_of_a_test_and_theirs_are_strays(proc: Proc, watch: StrayTracker) -> None:
    # Given
    proc.add(200, parent=FORK)
    proc.add(201, parent=200)
    # Then
    assert found(watch) == [200, 201]


def test_what_was_there_before_the_first_test_is_none(proc: Proc, clock: FakeClock) -> None:
    # Given
    proc.add(200, parent=FORK)
    watch = StrayTracker(proc.folder, FORK, clock)
    # Then
    assert found(watch) == []


def test_an_orphan_that_bears_the_mark_is_a_stray_and_another_forks_is_not(
    proc: Proc, watch: StrayTracker
) -> None:
    # Given two orphans, which the kernel gives to the loader
    proc.add(200, parent=LOADER, mark=proc.folder)
    proc.add(201, parent=LOADER, mark=proc.folder.with_name("other"))
    # Then
    assert found(watch) == [200]


def test_forks_of_other_slots_are_examined_once(proc: Proc, watch: StrayTracker) -> None:
    # When
    for _ in range(3):
        watch.strays()
    # Then
    assert proc.read_paths.count(f"{OTHER}/maps") == 1


def test_a_process_that_is_on_its_way_is_given_a_moment(
    proc: Proc, watch: StrayTracker, clock: FakeClock
) -> None:
    # Given
    proc.add(200, parent=FORK)
    clock.at(0.05, lambda: proc.end(200))
    # Then
    assert found(watch) == []
    assert clock.now - 1000.0 == pytest.approx(0.05, abs=0.02)


def test_one_that_stays_is_reported_after_a_tenth_of_a_second(
    proc: Proc, watch: StrayTracker, clock: FakeClock
) -> None:
    # Given
    proc.add(200, parent=FORK)
    # When
    (stray,) = watch.strays()
    # Then
    assert (stray.pid, stray.ticks, stray.parent, stray.command) == (200, 2000, FORK, "sleep 60")
    assert clock.now - 1000.0 == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    "helper", [b"multiprocessing.resource_tracker", b"multiprocessing.forkserver"]
)
def test_helpers_of_multiprocessing_are_no_strays(
    proc: Proc, watch: StrayTracker, helper: bytes
) -> None:
    # Given
    proc.add(200, parent=FORK, command=b"python\0-c\0from " + helper + b" import main;main(4)\0")
    # Then
    assert found(watch) == []


def test_a_reused_process_id_is_another_process(proc: Proc, clock: FakeClock) -> None:
    # Given a process that was there at first, and a later one of the same number
    proc.add(200, parent=FORK)
    watch = StrayTracker(proc.folder, FORK, clock)
    proc.ticks[200] = 2999
    # Then
    assert found(watch) == [200]


def test_a_long_command_is_cut(proc: Proc, watch: StrayTracker) -> None:
    # Given
    proc.add(200, parent=FORK, command=b"x" * 5000)
    # When
    (stray,) = watch.strays()
    # Then
    assert len(stray.command) == 201


# -- the end of strays -------------------------------------------------------------------


def stray(pid: int) -> Stray:
    return Stray(pid, pid * 10)


def test_a_stray_that_ends_on_request_is_not_killed(proc: Proc, clock: FakeClock) -> None:
    # Given
    proc.add(200, parent=FORK)
    # When
    end([stray(200)], clock)
    # Then
    assert proc.signals == [(0.0, 200, signal.SIGTERM)]
    assert clock.waits == []


def test_a_stray_that_does_not_is_killed_half_a_second_later(proc: Proc, clock: FakeClock) -> None:
    # Given
    proc.add(200, parent=FORK)
    proc.add(201, parent=FORK)
    proc.stubborn.add(201)
    # When
    end([stray(200), stray(201)], clock)
    # Then
    asked, killed = proc.signals[:2], proc.signals[2:]
    assert [(pid, number) for _, pid, number in asked] == [
        (200, signal.SIGTERM),
        (201, signal.SIGTERM),
    ]
    assert [(pid, number) for _, pid, number in killed] == [(201, signal.SIGKILL)]
    assert killed[0][0] == pytest.approx(0.5, abs=0.03)


def test_all_that_bear_the_mark_of_a_folder_above_theirs_are_ended(
    proc: Proc, clock: FakeClock
) -> None:
    # Given a process of no fork beside two forks
    proc.add(300, parent=1)
    # When
    number = end_marked(proc.folder.parent, clock)
    # Then
    assert number == 2
    assert sorted(proc.parents) == [LOADER, 300]


def test_a_folder_with_a_longer_name_is_another(proc: Proc, clock: FakeClock) -> None:
    # Given
    proc.add(200, parent=1, mark=proc.folder.with_name("fork-2"))
    # When / Then
    assert end_marked(proc.folder, clock) == 1
    assert 200 in proc.parents
