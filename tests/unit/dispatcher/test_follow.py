"""Claims about a dispatcher whose run is cancelled by somebody else, or whose store is away for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from dct_celery import ports
from dct_celery.core import events as ev
from dct_celery.core.model import Chunk, Need, Outcome, Phase
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.follow import Follower
from dct_celery.dispatcher.journal import Journal
from dct_celery.dispatcher.standing import StandingRun
from dct_celery.errors import ConfigError, StoreUnavailable
from dct_celery.ports import WorkerInfo
from tests.support.factories import group, make_manifest
from tests.support.memory_ledger import MemoryLedger, MemoryRegistry, MemoryStore
from tests.support.runs import Run, finished


class Scene:
    """A follower on a store in memory; `sleep` moves its clock."""

    def __init__(self, folder: Path, store: MemoryStore | None = None, slots: int = 1) -> None:
        store = self.store = store or MemoryStore()
        self.folder = folder
        self.now = 100.0
        self.ledger = MemoryLedger(store, "one")
        self.ledger.open_run("me", "{}")
        self.run = Run(make_manifest(group("app.tests.A", count=2)), slots)
        self.machine = self.run.machine
        registry = MemoryRegistry(store, "ci")
        registry.beat(WorkerInfo("build-a", "h", 1, "0", 1, ""), 3600)
        services: Any = Mock(
            run="one", owner="me", ledger=self.ledger, registry=registry, state_folder=folder,
            clock=lambda: self.now, sleep=self._sleep, interrupted=lambda: False, fleet_trouble=str, fall_back=None, broker=str,
        )  # fmt: skip
        services.settings = Mock(timeout=0, queue_timeout=60, fallback_after=60)
        fleet = Fleet("one", "ci", "0", 1, "", last_usable=self.now)
        self.standing = StandingRun(services, "spec", lambda: None)
        self.follower = Follower(services, self.machine, fleet, self.standing, lambda: cast(Any, None))
        self.services = services

    def journal(self, *, go_on: bool = False) -> Journal:
        return Journal(self.folder, "one", "head", go_on=go_on)

    def follow(self) -> None:
        self.follower.follow(self.journal)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds or 0.01


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    if scene.follower._journal is not None:
        scene.follower._journal.close()


def test_a_run_cancelled_by_somebody_else_ends_with_every_test_accounted_for(scene: Scene) -> None:
    # Given
    scene.follower.step()
    assert scene.machine.stop is None
    # When
    scene.ledger.cancel("somebody wants it so")
    scene.follow()
    # Then
    verdicts = scene.machine.verdicts.values()
    assert {(verdict.outcome, verdict.reason) for verdict in verdicts} == {(Outcome.NOT_RUN, "somebody wants it so")}
    assert scene.machine.exit_code() == 2


def test_a_run_that_stopped_by_itself_keeps_its_own_reason(scene: Scene) -> None:
    # Given
    cast(Any, scene.follower)._services.interrupted = lambda: True
    # When
    scene.follow()
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
    scene.follow()
    # Then
    assert scene.machine.stop is not None
    assert scene.machine.stop.reason == "somebody wants it so"
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
    assert offered[0] == "c9"
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


# -- a store that forgets, and another dispatcher --------------------------------------


def begun(scene: Scene) -> ports.Held:
    """The first chunk is claimed, and half of what it ran is journalled."""
    scene.follower._journal = scene.journal()
    scene.follower.step()
    (chunk,) = scene.run.offers
    scene.ledger.offer(chunk)
    claim = scene.ledger.claim(chunk.id, chunk.attempt, worker="build-a", slot=1, lease_ms=5000)
    held = ports.Held(chunk.id, chunk.attempt, claim.fence, claim.epoch)
    scene.ledger.append(held, 1, json.dumps([finished(0)]), 5000)
    scene.follower.step()
    assert list(scene.machine.verdicts) == [0]
    return held


def test_a_store_that_lost_the_run_has_it_back_and_the_holder_goes_on(scene: Scene) -> None:
    # Given
    held = begun(scene)
    # When
    scene.store.runs.clear()
    scene.now += 1
    scene.follower.step()
    # Then
    assert (scene.ledger.state(), scene.ledger.epoch()) == ("open", 2)
    assert scene.ledger.acknowledged([f"{held.chunk}.1"]) == [1]
    assert scene.ledger.append(held, 2, json.dumps([finished(1)]), 5000) == "moved"
    assert scene.ledger.append(replace(held, epoch=2), 2, json.dumps([finished(1)]), 5000) == "ok"
    scene.follower.step()
    assert sorted(scene.machine.verdicts) == [0, 1]


def test_a_store_that_is_another_process_is_not_trusted(scene: Scene) -> None:
    # Given
    begun(scene)
    # When: a replica took its place, which may lag
    scene.store.incarnation = "second"
    scene.now += 2
    scene.follower.step()
    # Then
    assert scene.ledger.epoch() == 2
    scene.now += 2
    scene.follower.step()
    assert scene.ledger.epoch() == 2


def test_the_stream_of_a_new_epoch_is_not_folded_twice(scene: Scene) -> None:
    # Given
    begun(scene)
    scene.store.runs.clear()
    scene.now += 1
    scene.follower.step()
    journal = scene.follower._journal
    assert journal is not None
    before = len(list(journal.replay()))
    # When: it comes upon what it has put back itself
    scene.follower.step()
    # Then
    assert all(entry.epoch == 2 for entry in list(journal.replay())[before:])


@pytest.mark.parametrize("whole", [True, False], ids=["store whole", "store wiped"])
def test_another_dispatcher_knows_what_the_first_one_knew(scene: Scene, tmp_path: Path, whole: bool) -> None:
    # Given
    held = begun(scene)
    assert scene.follower._journal is not None
    scene.follower._journal.close()
    second = Scene(tmp_path, scene.store, slots=0)
    if not whole:
        scene.store.runs.clear()
    # When
    adoption = second.ledger.adopt("you", dead=True)
    assert adoption.status == ("ok" if whole else "none")
    second.standing.epoch = adoption.epoch
    second.services.owner = "you"
    second.follower.catch_up(second.journal(go_on=True), whole=whole)
    # Then
    assert list(second.machine.verdicts) == [0]
    assert [(chunk.id, lease and lease.fence) for chunk, lease, _ in second.machine.standing()] == [(held.chunk, held.fence)]
    assert second.ledger.renew(held, 5000) == "ok"
    assert second.follower._journal is not None
    second.follower._journal.close()


def test_a_journal_that_cannot_be_written_acknowledges_nothing_and_stops_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    held = begun(scene)

    def full(entries: object) -> dict[str, int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scene.follower._journal, "append", full)
    # When
    scene.ledger.append(held, 2, json.dumps([finished(1)]), 5000)
    scene.follower.step()
    # Then
    assert sorted(scene.machine.verdicts) == [0, 1]
    assert scene.ledger.acknowledged([f"{held.chunk}.1"]) == [1]
    warning = scene.services.console.warn.call_args.args[0]
    assert "cannot be written (No space left on device); the run goes on without it" in warning


def test_a_chunk_that_its_worker_left_to_others_is_published_again(scene: Scene) -> None:
    # Given
    scene.follower.step()
    (chunk,) = scene.run.offers
    scene.ledger.offer(replace(chunk, attempt=2, avoid="build-a"))
    assert scene.ledger.claim(chunk.id, 2, worker="build-a", slot=1, lease_ms=1000).status == "avoid"
    publish = cast(Any, scene.follower)._services.queue.publish
    before = publish.call_count
    # When
    scene.follower.step()
    # Then
    assert publish.call_count == before + 1
    assert publish.call_args.args[0]["chunk"] == chunk.id


def test_another_machine_learns_from_a_store_that_was_wiped_what_came_before_that(scene: Scene, tmp_path: Path) -> None:
    # Given a run that was put back, and a dispatcher without its journal
    held = begun(scene)
    scene.store.runs.clear()
    scene.now += 1
    scene.follower.step()
    folder = tmp_path / "elsewhere"
    second = Scene(folder, scene.store, slots=0)
    # When
    second.standing.epoch = second.follower._epoch = second.ledger.adopt("you", dead=True).epoch
    second.services.owner = "you"
    second.follower.catch_up(second.journal(), whole=True)
    # Then
    assert second.standing.epoch == 2
    assert list(second.machine.verdicts) == [0]
    assert [(chunk.id, lease and lease.fence) for chunk, lease, _ in second.machine.standing()] == [(held.chunk, held.fence)]
    assert second.follower._journal is not None
    second.follower._journal.close()


@pytest.mark.parametrize("verb", ["restore", "upload"])
def test_a_run_that_was_put_back_in_part_is_put_back_again(scene: Scene, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    # Given a store that goes away again in the midst of it
    begun(scene)
    done: list[str] = []
    failures = iter([StoreUnavailable("gone again")])

    def flaky(*_: object) -> None:
        if error := next(failures, None):
            raise error
        done.append(verb)

    monkeypatch.setattr(
        scene.ledger if verb == "restore" else scene.standing, "restore" if verb == "restore" else "_upload", flaky
    )
    # When
    scene.store.runs.clear()
    for _ in range(3):
        scene.now += 1
        scene.follower.step()
    # Then
    assert done == [verb]


def test_code_that_cannot_be_sent_again_ends_no_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    begun(scene)

    def changed() -> None:
        raise ConfigError("a.py changed while it was read")

    monkeypatch.setattr(scene.standing, "_upload", changed)
    # When
    scene.store.runs.clear()
    scene.now += 1
    scene.follower.step()
    # Then
    assert scene.ledger.epoch() == 2
    assert "a.py changed while it was read" in str(scene.services.console.warn.call_args_list)


def test_a_store_that_was_away_for_long_is_no_reason_to_miss_the_workers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given: no slot holds a lease
    scene.follower._journal = scene.journal()
    scene.follower.step()
    read, reopened = scene.ledger.read, scene.store.beating

    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("gone")

    # When it comes back empty after 100 s, and knows its workers a moment later
    monkeypatch.setattr(scene.ledger, "read", away)
    for _ in range(10):
        scene.now += 10
        scene.follower.step()
    monkeypatch.setattr(scene.ledger, "read", read)
    workers = dict(reopened["ci:workers"])
    reopened["ci:workers"].clear()
    for _ in range(3):
        scene.follower.step()
    reopened["ci:workers"].update(workers)
    scene.follower.step()
    # Then
    assert scene.machine.stop is None


def test_a_store_that_goes_away_while_checks_are_awaited_is_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given: every test has passed
    lease = scene.run.claim()
    scene.run.record(lease, finished(0), finished(1))
    scene.run.send(ev.Completed(lease, 1.0))
    scene.follower.step()
    read, end = scene.ledger.read, scene.now + 30

    def away(*args: Any, **kwargs: Any) -> Any:
        if scene.now < end:
            scene.now += 1
            raise StoreUnavailable("gone")
        scene.follower.words.checked = True
        return read(*args, **kwargs)

    # When
    monkeypatch.setattr(scene.ledger, "read", away)
    scene.follow()
    # Then
    assert scene.machine.stop is None


def test_a_store_that_does_not_come_back_ends_the_wait_for_checks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given: every test has passed
    lease = scene.run.claim()
    scene.run.record(lease, finished(0), finished(1))
    scene.run.send(ev.Completed(lease, 1.0))

    def away(*_: Any, **__: Any) -> Any:
        scene.now += 1
        raise StoreUnavailable("gone")

    # When
    monkeypatch.setattr(scene.ledger, "read", away)
    scene.follow()
    # Then
    assert scene.machine.stop is not None
    assert "the store did not come back" in scene.machine.stop.reason
    assert scene.machine.exit_code() == 7
