"""Claims about `worker.host.host`: which runs a worker keeps, and how often it polls."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.ports import Announced
from dct_celery.protocol.workers import RunStage
from dct_celery.worker.folders.work_folder import WorkFolder
from dct_celery.worker.host import host as hosts
from dct_celery.worker.host.host import Host, pause_after
from tests.support.factories import NONCE, OTHER_KEY, pool_door
from tests.support.fake_clock import FakeClock
from tests.support.memory_ledger import MemoryRegistry, MemoryStore

RUN = "run-one"


def test_a_poll_that_takes_long_is_followed_by_a_longer_pause() -> None:
    assert [pause_after(seconds) for seconds in (0.0, 0.005, 0.05, 0.1)] == [
        hosts.POLL,
        hosts.POLL,
        0.5,
        1.0,
    ]


def test_a_store_that_stood_still_is_polled_again_before_the_worker_counts_as_gone() -> None:
    assert pause_after(15.0) + hosts.BEAT < hosts.HORIZON / 2


class Keeper:
    """Of a run; it is wanted until a test says otherwise."""

    state = RunStage.READY
    fit = 1

    def __init__(self, _: object, announced: Announced, *__: object) -> None:
        self.nonce, self.announced, self.seen_at = announced.announcement.nonce, announced, 0.0
        self.wanted, self.ended = True, False

    done, stale = True, False

    @property
    def epoch(self) -> int:
        return self.announced.epoch

    def hear(self, announced: Announced) -> None:
        self.announced = announced

    def still_wanted(self) -> bool:
        return self.wanted

    def backing_off(self) -> list[str]:
        return []

    def start(self) -> None:
        self.started = True

    def end(self) -> None:
        self.ended = True


class Scene:
    """A worker's host without its thread, on a store in memory."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.registry = MemoryRegistry(self.store, "pool", pool_door())
        self._folder = folder
        self.restart()

    def restart(self) -> None:
        services: Any = Mock(
            clock=FakeClock(),
            registry=self.registry,
            folder=WorkFolder(self._folder),
            door=pool_door(),
        )
        self.host = Host(services, 1)

    def announce(self, *, epoch: int = 1, nonce: str = NONCE) -> None:
        self.registry.announce(RUN, nonce, 60, epoch)

    def end_the_run(self) -> None:
        """Its dispatcher withdraws and closes it, and the worker sees that."""
        self.registry.withdraw(RUN)
        self.supervisor.wanted = False
        self.poll()

    def poll(self) -> None:
        """Twice: what has ended is forgotten with the second poll."""
        self.host._poll()
        self.host._poll()

    @property
    def supervisor(self) -> Any:
        return self.host._supervisors[RUN]

    @property
    def keeps(self) -> list[tuple[str, int]]:
        """(nonce, epoch) of each run that is kept."""
        return [
            (supervisor.nonce, supervisor.epoch)
            for supervisor in self.host._supervisors.values()
            if not supervisor.ended
        ]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(hosts, "RunSupervisor", Keeper)
    monkeypatch.setattr(hosts, "about", lambda settings: {})
    return Scene(tmp_path)


def test_a_run_that_is_announced_is_kept_and_followed_into_its_next_epoch(scene: Scene) -> None:
    # Given
    scene.announce()
    scene.poll()
    assert scene.keeps == [(NONCE, 1)]
    # When
    scene.announce(epoch=2)
    scene.poll()
    # Then
    assert scene.keeps == [(NONCE, 2)]


@pytest.mark.parametrize("restarted", [False, True], ids=["going on", "restarted"])
def test_a_run_that_has_ended_is_not_brought_back_by_what_was_recorded_of_it(
    scene: Scene, restarted: bool
) -> None:
    # Given
    scene.announce()
    scene.poll()
    scene.end_the_run()
    if restarted:
        scene.restart()
    # When its announcement is put there again
    scene.announce()
    scene.poll()
    # Then
    assert scene.keeps == []
    # And a dispatcher that takes it up again has a newer epoch
    scene.announce(epoch=2)
    scene.poll()
    assert scene.keeps == [(NONCE, 2)]


def test_another_run_of_the_same_name_ends_the_one_before(scene: Scene) -> None:
    # Given
    scene.announce()
    scene.poll()
    # When
    scene.announce(nonce="f" * 16)
    scene.poll()
    scene.poll()
    # Then
    assert scene.keeps == [("f" * 16, 1)]
    # And the one before does not come back
    scene.end_the_run()
    scene.announce()
    scene.poll()
    assert scene.keeps == []


def test_a_run_without_the_key_is_not_kept(scene: Scene) -> None:
    # Given
    MemoryRegistry(scene.store, "pool", pool_door(OTHER_KEY)).announce(RUN, NONCE, 60)
    # When
    scene.poll()
    # Then
    assert scene.keeps == []
