"""Claims about `worker.host.host`: its rounds, its reports, and how it begins and ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dct_celery.errors import StoreUnavailable
from dct_celery.ports import Announced
from dct_celery.protocol.workers import RunStage, WorkerInfo
from dct_celery.settings import Settings
from dct_celery.worker.folders.work_folder import WorkFolder
from dct_celery.worker.health.circuit_breaker import FailureLog
from dct_celery.worker.host import host as hosts
from dct_celery.worker.host.host import AWAY, BEAT, POLL, Host
from tests.support.factories import NONCE, make_spec, pool_door, run_door
from tests.support.fake_clock import FakeClock
from tests.support.memory_ledger import MemoryLedger, MemoryRegistry, MemoryStore

RUN = "run-one"


class Registry(MemoryRegistry):
    """Notes the beats; may be away."""

    away = False

    def __init__(self, store: MemoryStore, clock: FakeClock) -> None:
        super().__init__(store, "pool", pool_door())
        self._host_clock = clock
        self.beats: list[float] = []
        self.said: list[WorkerInfo] = []
        self.left: list[str] = []

    def active_runs(self) -> dict[str, Announced]:
        if self.away:
            raise StoreUnavailable("gone")
        return super().active_runs()

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        self.beats.append(self._host_clock.now)
        self.said.append(info)
        super().beat(info, horizon_seconds)

    def leave(self, name: str) -> None:
        self.left.append(name)


class Keeper:
    """Of a run that is ready as soon as it is kept."""

    def __init__(self, services: Any, announced: Announced, slots: int, ready: Any) -> None:
        self.announced, self.nonce, self.epoch = (
            announced,
            announced.announcement.nonce,
            announced.epoch,
        )
        self.state, self.fit, self.ended, self.stale, self.done = (
            RunStage.READY,
            slots,
            False,
            False,
            True,
        )
        self.started, self.joined, self.seen_at, self.reasons = False, -1.0, 0.0, list[str]()

    def start(self) -> None:
        self.started = True

    def hear(self, announced: Announced) -> None: ...

    def still_wanted(self) -> bool:
        return False

    def backing_off(self) -> list[str]:
        return self.reasons

    @property
    def working(self) -> int:
        return self.fit - len(self.reasons)

    def end(self) -> None:
        self.ended = True

    def join(self, timeout: float) -> None:
        self.joined = timeout


class CollectorThread:
    """Notes that it is started and stopped."""

    def __init__(self, services: object) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def soon(self) -> None:
        self.calls.append("soon")

    def stop(self) -> None:
        self.calls.append("stop")


class Thread:
    """Never runs."""

    def __init__(self, **_: object) -> None:
        self.started = False

    def start(self) -> None:
        self.started = True

    def join(self, timeout: float) -> None: ...


class Scene:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.store = FakeClock(), MemoryStore()
        self.registry = Registry(self.store, self.clock)
        self.folder = WorkFolder(folder / "work")
        self.strays: list[Path] = []
        for name, fake in (
            ("RunSupervisor", Keeper),
            ("CollectorThread", CollectorThread),
            ("about", lambda settings: {"python": "3.11"}),
        ):
            monkeypatch.setattr(hosts, name, fake)
        monkeypatch.setattr(threading, "Thread", Thread)
        monkeypatch.setattr(
            hosts, "end_marked", lambda folder, clock: self.strays.append(folder) or 0
        )
        self.busy = 0
        services: Any = type("Services", (), {})()
        services.clock, services.registry, services.folder, services.door = (
            self.clock,
            self.registry,
            self.folder,
            pool_door(),
        )
        services.name, services.host, services.settings = "build-a@host", "host", Settings()
        services.ledger = lambda run, door: MemoryLedger(self.store, run, run_door(run))
        services.broker = lambda: "id|redis://h"
        self.host: Any = Host(services, 4, lambda: self.busy)

    def announce(self) -> Any:
        """A run, which the host keeps from its next round on."""
        self.registry.announce(RUN, NONCE, 60)
        self.host._round()
        return self.host._supervisors[RUN]

    def run_for(self, seconds: float) -> None:
        self.clock.at(seconds, self.host._stop.set)
        self.host._loop()
        self.host._stop.clear()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, monkeypatch)
    yield scene
    if hasattr(scene.host, "_lock"):
        scene.host._lock.close()


# -- rounds ------------------------------------------------------------------------------


def test_the_registry_is_read_often_and_written_once_a_second(scene: Scene) -> None:
    # When
    scene.run_for(5.05)
    # Then
    first, *others = scene.clock.waits
    assert (first, set(others)) == (0.0, {POLL})
    gaps = [
        later - earlier
        for earlier, later in zip(scene.registry.beats, scene.registry.beats[1:], strict=False)
    ]
    assert len(scene.registry.beats) == 6
    assert all(BEAT <= gap <= BEAT + 0.11 for gap in gaps)


def test_a_run_is_kept_and_started_once(scene: Scene) -> None:
    # When
    supervisor = scene.announce()
    scene.run_for(3.0)
    # Then
    assert scene.host._supervisors == {RUN: supervisor}
    assert supervisor.started
    assert scene.host.ready() == scene.host.active() == {RUN}


def test_a_store_that_is_away_is_asked_less_often_and_no_run_is_given_up_for_it(
    scene: Scene,
) -> None:
    # Given
    supervisor = scene.announce()
    supervisor.stale = True
    scene.registry.away = True
    scene.clock.waits.clear()
    # When
    scene.run_for(3.0)
    # Then
    assert set(scene.clock.waits[1:]) == {AWAY}
    assert not supervisor.ended
    assert supervisor.seen_at >= scene.clock.now - 1.0


def test_a_store_that_is_back_gets_a_beat_at_once(scene: Scene) -> None:
    # Given
    scene.registry.away = True
    scene.run_for(10.0)
    # When
    scene.registry.away = False
    back = scene.clock.now
    scene.run_for(1.0)
    # Then
    assert scene.registry.beats[0] <= back + AWAY
    assert not scene.host._away


def test_a_store_that_is_away_is_reported_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    # Given
    scene.registry.away = True
    # When
    scene.run_for(10.0)
    # Then
    assert [record.message for record in caplog.records] == ["gone; trying again"]


def test_a_fault_of_our_own_ends_no_worker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(scene.host, "_poll", lambda: 1 // 0)
    # When / Then
    scene.run_for(1.0)
    assert len(scene.clock.waits) > 5


def test_a_run_without_worker_and_dispatcher_is_closed_after_its_time(scene: Scene) -> None:
    # Given
    ledger = MemoryLedger(scene.store, RUN, run_door())
    ledger.open_run("01234567", make_spec())
    scene.store.clock.ms += int((hosts.FORGOTTEN - 1) * 1000)
    scene.run_for(2.0)
    assert scene.store.runs[RUN].state == "open"
    # When
    scene.store.clock.ms += int((hosts.TURN + 1) * 1000)
    scene.run_for(2.0)
    # Then
    assert scene.store.runs[RUN].state == "closed"


# -- what it says ------------------------------------------------------------------------


def test_a_beat_describes_the_worker_and_what_it_runs(scene: Scene) -> None:
    # Given
    scene.busy = 9  # messages that wait are no busy slots
    scene.announce()
    # When
    (info,) = scene.registry.said
    # Then
    assert (info.name, info.host, info.slots, info.busy) == ("build-a@host", "host", 4, 4)
    assert info.runs == {RUN: RunStage.READY}
    assert info.wall == round(scene.clock.wall(), 3)
    assert (info.about, info.broker) == ({"python": "3.11"}, "id|redis://h")


def test_slots_that_back_off_are_not_counted_and_a_worker_whose_slots_all_do_backs_off(
    scene: Scene,
) -> None:
    # Given
    supervisor = scene.announce()
    # When
    supervisor.reasons = ["no room"]
    scene.run_for(1.5)
    some = scene.registry.said[-1]
    supervisor.reasons = ["no room"] * 4
    scene.run_for(1.5)
    all_of_them = scene.registry.said[-1]
    # Then
    assert (some.slots, some.backing_off) == (3, "")
    assert (all_of_them.slots, all_of_them.backing_off) == (
        1,
        "backs off, since no slot gets its databases: no room",
    )
    assert scene.host.ready() == set()


def test_a_broken_worker_offers_no_run_until_its_pause_is_over(scene: Scene) -> None:
    # Given
    scene.announce()
    for _ in range(3):
        FailureLog(scene.folder.failures, scene.clock).note("the loader died")
    # When
    scene.run_for(1.0)
    backing_off = scene.host.ready()
    scene.run_for(6.0)
    # Then
    assert (backing_off, scene.host.ready()) == (set(), {RUN})
    assert scene.host.active() == {RUN}


# -- beginning and end -------------------------------------------------------------------


def test_nothing_happens_before_the_start(scene: Scene) -> None:
    assert not scene.folder.base.exists()
    assert scene.host._collecting.calls == []
    assert not scene.host._thread.started


def test_the_start_clears_what_a_killed_worker_left(scene: Scene) -> None:
    # Given
    scene.folder.run("run-old").create()
    scene.folder.draining.touch()
    FailureLog(scene.folder.failures, scene.clock).note("of yesterday")
    # When
    scene.host.start()
    # Then
    assert list(scene.folder.runs.iterdir()) == []
    assert not scene.folder.draining.exists()
    assert FailureLog(scene.folder.failures, scene.clock).reasons() == []
    assert scene.strays == [scene.folder.runs]
    assert scene.host._thread.started


def test_a_folder_that_another_worker_uses_is_refused_and_left_as_it_is(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    scene.host.start()
    scene.folder.run("run-theirs").create()
    other = Scene(tmp_path, monkeypatch)
    # When / Then
    with pytest.raises(SystemExit, match="another worker uses"):
        other.host.start()
    other.host._lock.close()
    assert scene.folder.run("run-theirs").path.is_dir()


def test_a_worker_that_stops_ends_its_runs_and_leaves(scene: Scene) -> None:
    # Given
    supervisor = scene.announce()
    # When
    scene.host.stop()
    # Then
    assert supervisor.ended
    assert supervisor.joined == 30.0
    assert scene.registry.left == ["build-a@host"]
    assert scene.host._collecting.calls == ["stop"]


def test_a_worker_that_stops_without_its_store_does_not_wait_for_it(scene: Scene) -> None:
    # When
    scene.host.stop()
    # Then
    assert scene.registry.left == []


def test_a_worker_that_is_stopped_passes_it_on_to_its_slots(scene: Scene) -> None:
    # Given
    scene.host.start()
    # When
    scene.host.drain()
    # Then
    assert scene.folder.draining.exists()
