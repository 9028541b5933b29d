"""Claims about a dispatcher whose run is cancelled by somebody else, or whose store is away for a while."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from dct_celery.core import events as ev
from dct_celery.core.model import Chunk, Need, Outcome, Phase
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.follow import Follower
from dct_celery.errors import StoreUnavailable
from dct_celery.ports import WorkerInfo
from tests.support.factories import group, make_manifest
from tests.support.memory_ledger import MemoryLedger, MemoryRegistry, MemoryStore
from tests.support.runs import Run, finished


class Scene:
    """A follower on a store in memory; `sleep` moves its clock."""

    def __init__(self, folder: Path) -> None:
        store = MemoryStore()
        self.now = 100.0
        self.ledger = MemoryLedger(store, "one")
        self.ledger.open_run("me", "{}")
        self.run = Run(make_manifest(group("app.tests.A", count=2)))
        self.machine = self.run.machine
        registry = MemoryRegistry(store, "ci")
        registry.beat(WorkerInfo("build-a", "h", 1, "0", 1, ""), 3600)
        services: Any = Mock(
            run="one", ledger=self.ledger, registry=registry, state_folder=folder,
            clock=lambda: self.now, sleep=self._sleep, interrupted=lambda: False, fleet_trouble=str,
        )  # fmt: skip
        services.settings = Mock(timeout=0, queue_timeout=60)
        fleet = Fleet("one", "ci", "0", 1, "", last_usable=self.now)
        self.follower = Follower(services, self.machine, fleet, lambda: cast(Any, None))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds or 0.01


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.follower._journal.close()


def test_a_run_cancelled_by_somebody_else_ends_with_every_test_accounted_for(scene: Scene) -> None:
    # Given
    scene.follower.step()
    assert scene.machine.stop is None
    # When
    scene.ledger.cancel("somebody wants it so")
    scene.follower.follow()
    # Then
    verdicts = scene.machine.verdicts.values()
    assert {(verdict.outcome, verdict.reason) for verdict in verdicts} == {(Outcome.NOT_RUN, "cancelled by dct cancel")}
    assert scene.machine.exit_code() == 2


def test_a_run_that_stopped_by_itself_keeps_its_own_reason(scene: Scene) -> None:
    # Given
    cast(Any, scene.follower)._services.interrupted = lambda: True
    # When
    scene.follower.follow()
    # Then
    assert scene.ledger.state() == "cancelled"
    assert scene.machine.stop is not None
    assert scene.machine.stop.reason == "interrupted"


def test_a_run_that_only_waits_for_its_system_checks_is_cancelled_too(scene: Scene) -> None:
    # Given: every test has passed
    lease = scene.run.claim()
    scene.run.record(lease, finished(0), finished(1))
    scene.run.send(ev.Completed(lease, 1.0))
    scene.follower.step()
    assert scene.machine.finished
    # When
    scene.ledger.cancel("somebody wants it so")
    scene.follower.follow()
    # Then
    assert scene.machine.stop is not None
    assert scene.machine.stop.reason == "cancelled by dct cancel"
    assert scene.machine.exit_code() == 2


def test_what_the_store_could_not_take_is_done_when_it_is_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a store that takes no offers
    offered: list[str] = []

    def away(chunk: Chunk) -> None:
        raise StoreUnavailable("out of memory")

    monkeypatch.setattr(scene.ledger, "offer", away)
    with pytest.raises(StoreUnavailable):
        scene.follower._act([ev.Offer(Chunk("c9", (0,), Phase.ISOLATED, Need.PRISTINE))])
    for _ in range(5):
        scene.follower.step()
    # When
    monkeypatch.setattr(scene.ledger, "offer", lambda chunk: offered.append(chunk.id))
    scene.follower.step()
    # Then
    assert offered == ["c9"]
    assert cast(Any, scene.follower)._services.console.warn.call_count == 1


def test_an_interrupt_counts_though_the_store_is_away(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("gone")

    for verb in ("read", "cancel", "reap", "state"):
        monkeypatch.setattr(scene.ledger, verb, away)
    cast(Any, scene.follower)._services.interrupted = lambda: True
    # When
    scene.follower.step()
    # Then
    assert scene.machine.stop is not None
    assert scene.machine.stop.reason == "interrupted"
