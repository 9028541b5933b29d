"""Claims about a dispatcher whose run is cancelled from elsewhere, or whose store is away for a
while.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from dct_celery.core.model import Chunk, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.view import RunView
from dct_celery.dispatcher.event_loop import EventLoop
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.journal import Journal
from dct_celery.dispatcher.stored_run import StoredRun
from dct_celery.errors import ConfigError, StoreUnavailable
from dct_celery.ports import WorkerInfo
from dct_celery.ports.reporting import Stopping, TestJudged, Ticked, WorkersChanged
from dct_celery.protocol.runs import ChunkHint
from dct_celery.protocol.workers import RefusedReport, RunStage
from tests.support import streams
from tests.support.factories import (
    KEY_ID,
    NONCE,
    OTHER_KEY,
    fences,
    group,
    make_manifest,
    make_spec,
    pool_door,
    run_door,
)
from tests.support.memory_ledger import (
    Life,
    MemoryLedger,
    MemoryRegistry,
    MemoryStore,
    StoredFields,
)
from tests.support.reporters import Listener
from tests.support.runs import Run, as_sent, completed, finished

PASSED = Outcome.PASSED
ME, YOU = "a" * 16, "b" * 16


class Scene:
    """A loop on a store in memory; `sleep` moves its clock."""

    def __init__(
        self,
        folder: Path,
        store: MemoryStore | None = None,
        slots: int = 1,
        count: int = 2,
        size: int = 0,
    ) -> None:
        """`count` tests, in classes of `size`; without it in one."""
        store = self.store = store or MemoryStore()
        self.folder = folder
        self.now = 100.0
        self.door = run_door("run-one")
        self.ledger = MemoryLedger(store, "run-one", self.door)
        self.ledger.open_run(ME, make_spec("run-one"))
        size = size or count
        groups = [group(f"app.tests.{'ABCDEFGHIJKL'[n]}", count=size) for n in range(count // size)]
        self.run = Run(make_manifest(*groups), slots)
        self.machine = self.run.machine
        registry = self.registry = MemoryRegistry(store, "pool", pool_door())
        registry.beat(WorkerInfo("build-a", "h", max(slots, 1), "0", 1, KEY_ID, (KEY_ID,)), 3600)
        services: Any = Mock(
            run="run-one", nonce=NONCE, owner=ME, door=self.door, ledger=self.ledger,
            registry=registry, state_folder=folder,
            clock=lambda: self.now, sleep=self._sleep, interrupted=lambda: False,
            fleet_failure=str, fall_back=None, broker=str,
        )  # fmt: skip
        self.reporter = Listener()
        services.report = self.reporter.take
        services.hint = lambda text: ""
        services.settings = Mock(pool="pool", timeout=0, queue_timeout=60, fallback_after=60)
        fleet = Fleet("run-one", "pool", "0", 1, KEY_ID, last_usable=self.now)
        self.stored_run = StoredRun(services, make_spec("run-one"), lambda: None)
        view = RunView.of(self.machine.manifest, lambda index: 1.0, reruns=False, now=self.now)
        self.view = view
        self.loop = EventLoop(
            services, self.machine, fleet, self.stored_run, view, lambda: cast(Any, None)
        )
        self.services = services

    def journal(self, *, go_on: bool = False) -> Journal:
        return Journal(self.folder, "run-one", "head", self.door, go_on=go_on)

    def follow(self) -> None:
        self.loop.follow(self.journal)

    def close(self) -> None:
        if self.loop._journal is not None:
            self.loop._journal.close()

    def _sleep(self, seconds: float) -> None:
        self.now += seconds or 0.01


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.close()


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Scene]:
    """Of a class of four tests."""
    scene = Scene(tmp_path, count=4)
    yield scene
    scene.close()


def test_a_run_cancelled_from_elsewhere_ends_with_every_test_accounted_for(scene: Scene) -> None:
    # Given
    scene.loop.step()
    assert scene.machine.stop is None
    # When
    scene.ledger.cancel("somebody wants it so")
    scene.follow()
    # Then
    verdicts = scene.machine.verdicts.values()
    assert {(verdict.outcome, verdict.reason) for verdict in verdicts} == {
        (Outcome.NOT_RUN, "somebody wants it so")
    }
    assert scene.machine.exit_code() == 2


def test_a_run_that_stopped_by_itself_keeps_its_own_reason(scene: Scene) -> None:
    # Given
    cast(Any, scene.loop)._services.interrupted = lambda: True
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
    scene.run.send(completed(lease))
    scene.loop.step()
    assert scene.machine.finished
    # When
    scene.ledger.cancel("somebody wants it so")
    scene.follow()
    # Then
    assert scene.machine.stop is not None
    assert scene.machine.stop.reason == "somebody wants it so"
    assert scene.machine.exit_code() == 2


def test_what_the_store_could_not_take_is_done_when_it_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a store that takes no writes
    commit = scene.ledger.commit

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("out of memory")

    monkeypatch.setattr(scene.ledger, "commit", away)
    (chunk,) = scene.run.offers
    scene.loop._act([ev.Offer(chunk)])
    for _ in range(5):
        scene.loop.step()
    assert fences(scene.ledger, [chunk.id]) == [None]
    # When
    monkeypatch.setattr(scene.ledger, "commit", commit)
    scene.loop.step()
    # Then
    assert fences(scene.ledger, [chunk.id]) == [0]
    assert len(warnings(scene)) == 1


def test_what_a_round_has_to_write_goes_out_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given three slots, two of which have claimed their chunks
    scene = Scene(tmp_path, slots=3, count=12, size=1)
    scene.loop._journal = scene.journal()
    first, second, _ = scene.run.offers
    scene.loop._act([ev.Offer(chunk) for chunk in scene.run.offers])
    scene.loop.step()
    lease = scene.ledger.claim(first.id, 1, worker="build-a", slot=1, lease_ms=5000).lease
    assert lease is not None
    scene.ledger.claim(second.id, 1, worker="build-a", slot=2, lease_ms=5000)
    scene.ledger.append(lease, len(first.indices), as_sent(*map(finished, first.indices)), 5000)
    written: list[tuple[int, dict[str, int]]] = []
    commit = scene.ledger.commit

    def counted(offers: list[Chunk], acknowledged: dict[str, int], *, exhausted: bool) -> None:
        written.append((len(offers), dict(acknowledged)))
        commit(offers, acknowledged, exhausted=exhausted)

    monkeypatch.setattr(scene.ledger, "commit", counted)
    publish = scene.services.queue.publish
    publish.reset_mock()
    # When
    scene.loop.step()
    # Then
    assert written == [(2, {lease.key: len(first.indices)})]
    assert [len(call.args) for call in publish.call_args_list] == [2]
    # When nothing has happened since
    scene.loop.step()
    # Then
    assert len(written) == 1
    scene.close()


def test_acknowledgements_wait_for_an_offer_and_not_for_long(four: Scene) -> None:
    # Given
    scene = four
    held = begun(scene)
    scene.now += 5
    scene.ledger.append(held, 2, as_sent(finished(1)), 5000)
    scene.loop.step()
    assert scene.ledger.acknowledged([held.key]) == [2]
    # When
    scene.ledger.append(held, 3, as_sent(finished(2)), 5000)
    scene.loop.step()
    # Then
    assert scene.ledger.acknowledged([held.key]) == [2]
    # When
    scene.loop._act([ev.Offer(replace(scene.run.offers[0], id="c9"))])
    scene.loop.step()
    # Then
    assert scene.ledger.acknowledged([held.key]) == [3]
    # When
    scene.ledger.append(held, 4, as_sent(finished(3)), 5000)
    scene.loop.step()
    scene.now += 1
    scene.loop.step()
    # Then
    assert scene.ledger.acknowledged([held.key]) == [4]


def test_what_a_dispatcher_has_journalled_the_next_one_acknowledges(
    four: Scene, tmp_path: Path
) -> None:
    # Given a dispatcher that died between journal and store
    held = begun(four)
    four.now += 5
    four.loop.step()
    four.ledger.append(held, 2, as_sent(finished(1)), 5000)
    four.loop.step()
    four.ledger.append(held, 3, as_sent(finished(2)), 5000)
    four.loop.step()
    assert four.ledger.acknowledged([held.key]) == [2]
    assert four.loop._journal is not None
    four.loop._journal.close()
    # When
    second = Scene(tmp_path, four.store, slots=0, count=4)
    second.stored_run.epoch = second.loop._epoch = second.ledger.adopt(YOU, dead=True).epoch
    second.services.owner = YOU
    second.loop.catch_up(second.journal(go_on=True), whole=True)
    # Then
    assert second.ledger.acknowledged([held.key]) == [3]
    second.close()


def test_when_the_first_test_failed_is_known_where_it_was_seen(four: Scene, tmp_path: Path) -> None:
    # Given a failure under a dispatcher that died
    held = begun(four)
    four.now += 5
    four.ledger.append(held, 2, as_sent(finished(1, "failed")), 5000)
    four.loop.step()
    assert four.loop.first_failure == four.now
    assert four.loop._journal is not None
    four.loop._journal.close()
    # When another one goes on, and sees a second failure
    second = Scene(tmp_path, four.store, slots=0, count=4)
    second.stored_run.epoch = second.loop._epoch = second.ledger.adopt(YOU, dead=True).epoch
    second.services.owner = YOU
    second.loop.catch_up(second.journal(go_on=True), whole=True)
    four.ledger.append(held, 3, as_sent(finished(2, "failed")), 5000)
    second.loop.step()
    # Then it does not take that for the first
    assert second.loop.first_failure == 0.0
    second.close()


def test_nothing_is_published_again_while_the_stream_is_ahead(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a chunk that no slot has claimed, and a stream of which each read finds a whole page
    scene.loop._journal = scene.journal()
    scene.registry.beat(
        WorkerInfo("build-a", "h", 1, "0", 1, KEY_ID, (KEY_ID,), {"run-one": RunStage.READY}), 3600
    )
    scene.loop.step()
    publish = scene.services.queue.publish
    publish.reset_mock()
    monkeypatch.setattr("dct_celery.dispatcher.event_loop._PAGE", 1)
    # When
    for _ in range(10):
        stored(scene).add({"k": "moonbeam"})
        poll(scene)
    # Then
    assert publish.call_count == 0
    # When it is read to its end
    for _ in range(5):
        poll(scene)
    # Then
    assert publish.call_count == 1


@pytest.mark.parametrize(("answer", "looks"), [(0.0, 10), (0.1, 4), (0.5, 2)])
def test_a_store_that_is_far_away_is_polled_less_often(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, answer: float, looks: int
) -> None:
    # Given a store of which each answer takes so many seconds
    scene.loop._journal = scene.journal()
    seen: list[float] = []
    reap = scene.ledger.reap

    def slow() -> list[str]:
        seen.append(scene.now)
        scene.now += answer
        return reap()

    monkeypatch.setattr(scene.ledger, "reap", slow)
    # When
    end = scene.now + 2.0
    while scene.now < end:
        scene.loop.step()
    # Then: never so seldom that the leases' clock would be held to have stood still
    assert abs(len(seen) - looks) <= 2
    assert max((later - earlier for earlier, later in pairwise(seen)), default=0.0) < 2.0


def test_an_interrupt_counts_though_the_store_is_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("gone")

    for verb in ("read", "cancel", "reap", "state"):
        monkeypatch.setattr(scene.ledger, verb, away)
    cast(Any, scene.loop)._services.interrupted = lambda: True
    # When
    scene.loop.step()
    # Then
    assert scene.machine.stop is not None
    assert scene.machine.stop.reason == "interrupted"


# -- a store that forgets, and another dispatcher --------------------------------------


def begun(scene: Scene) -> LeaseRef:
    """The first chunk is claimed, and half of what it ran is journalled."""
    scene.loop._journal = scene.journal()
    scene.loop.step()
    (chunk,) = scene.run.offers
    scene.ledger.commit([chunk])
    claim = scene.ledger.claim(chunk.id, chunk.attempt, worker="build-a", slot=1, lease_ms=5000)
    assert claim.lease is not None
    scene.ledger.append(claim.lease, 1, as_sent(finished(0)), 5000)
    scene.loop.step()
    assert list(scene.machine.verdicts) == [0]
    return claim.lease


def test_a_store_that_lost_the_run_has_it_back_and_the_holder_goes_on(scene: Scene) -> None:
    # Given
    held = begun(scene)
    # When
    scene.store.runs.clear()
    scene.now += 1
    scene.loop.step()
    # Then
    assert (scene.ledger.state(), scene.ledger.epoch()) == ("open", 2)
    assert scene.ledger.acknowledged([f"{held.chunk}.1"]) == [1]
    assert scene.ledger.append(held, 2, as_sent(finished(1)), 5000) == "moved"
    assert scene.ledger.append(replace(held, epoch=2), 2, as_sent(finished(1)), 5000) == "ok"
    scene.loop.step()
    assert sorted(scene.machine.verdicts) == [0, 1]


def test_a_store_that_is_another_process_is_not_trusted(scene: Scene) -> None:
    # Given
    begun(scene)
    # When: a replica took its place, which may lag
    scene.store.incarnation = "second"
    scene.now += 2
    scene.loop.step()
    # Then
    assert scene.ledger.epoch() == 2
    scene.now += 2
    scene.loop.step()
    assert scene.ledger.epoch() == 2


def test_the_stream_of_a_new_epoch_is_not_folded_twice(scene: Scene) -> None:
    # Given
    begun(scene)
    scene.store.runs.clear()
    scene.now += 1
    scene.loop.step()
    journal = scene.loop._journal
    assert journal is not None
    before = len(list(journal.replay()))
    # When: it comes upon what it has put back itself
    scene.loop.step()
    # Then
    assert all(entry.epoch == 2 for entry in list(journal.replay())[before:])


@pytest.mark.parametrize("whole", [True, False], ids=["store whole", "store wiped"])
def test_another_dispatcher_knows_what_the_first_one_knew(
    scene: Scene, tmp_path: Path, whole: bool
) -> None:
    # Given
    held = begun(scene)
    assert scene.loop._journal is not None
    scene.loop._journal.close()
    second = Scene(tmp_path, scene.store, slots=0)
    if not whole:
        scene.store.runs.clear()
    # When
    adoption = second.ledger.adopt(YOU, dead=True)
    assert adoption.answer == ("ok" if whole else "none")
    second.stored_run.epoch = adoption.epoch
    second.services.owner = YOU
    second.loop.catch_up(second.journal(go_on=True), whole=whole)
    # Then
    assert list(second.machine.verdicts) == [0]
    assert [
        (chunk.id, lease and lease.fence) for chunk, lease, _ in second.machine.outstanding()
    ] == [(held.chunk, held.fence)]
    assert second.ledger.renew(held, 5000) == "ok"
    second.close()


def test_a_journal_that_cannot_be_written_acknowledges_nothing_and_stops_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    held = begun(scene)

    def full(entries: object) -> dict[str, int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scene.loop._journal, "append", full)
    # When
    scene.ledger.append(held, 2, as_sent(finished(1)), 5000)
    scene.loop.step()
    # Then
    assert sorted(scene.machine.verdicts) == [0, 1]
    assert scene.ledger.acknowledged([f"{held.chunk}.1"]) == [1]
    warning = warnings(scene)[-1]
    assert "cannot be written (No space left on device); the run goes on without it" in warning


def test_a_chunk_that_its_worker_left_to_others_is_published_again(scene: Scene) -> None:
    # Given
    scene.loop.step()
    (chunk,) = scene.run.offers
    scene.ledger.commit([replace(chunk, attempt=2, avoid_worker="build-a")])
    assert (
        scene.ledger.claim(chunk.id, 2, worker="build-a", slot=1, lease_ms=1000).answer == "avoid"
    )
    publish = cast(Any, scene.loop)._services.queue.publish
    before = publish.call_count
    # When
    scene.loop.step()
    # Then
    assert publish.call_count == before + 1
    assert scene.door.unseal(ChunkHint, publish.call_args.args[0]).chunk == chunk.id


def test_another_machine_learns_from_a_store_that_was_wiped_what_came_before_that(
    scene: Scene, tmp_path: Path
) -> None:
    # Given a run that was put back, and a dispatcher without its journal
    held = begun(scene)
    scene.store.runs.clear()
    scene.now += 1
    scene.loop.step()
    folder = tmp_path / "elsewhere"
    second = Scene(folder, scene.store, slots=0)
    # When
    second.stored_run.epoch = second.loop._epoch = second.ledger.adopt(YOU, dead=True).epoch
    second.services.owner = YOU
    second.loop.catch_up(second.journal(), whole=True)
    # Then
    assert second.stored_run.epoch == 2
    assert list(second.machine.verdicts) == [0]
    assert [
        (chunk.id, lease and lease.fence) for chunk, lease, _ in second.machine.outstanding()
    ] == [(held.chunk, held.fence)]
    second.close()


@pytest.mark.parametrize("verb", ["restore", "upload"])
def test_a_run_that_was_put_back_in_part_is_put_back_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    # Given a store that goes away again in the midst of it
    begun(scene)
    done: list[str] = []
    failures = iter([StoreUnavailable("gone again")])

    def flaky(*_: object) -> None:
        if error := next(failures, None):
            raise error
        done.append(verb)

    monkeypatch.setattr(
        scene.ledger if verb == "restore" else scene.stored_run,
        "restore" if verb == "restore" else "_upload",
        flaky,
    )
    # When
    scene.store.runs.clear()
    for _ in range(3):
        scene.now += 1
        scene.loop.step()
    # Then
    assert done == [verb]


def test_code_that_cannot_be_sent_again_ends_no_run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    begun(scene)

    def changed() -> None:
        raise ConfigError("a.py changed while it was read")

    monkeypatch.setattr(scene.stored_run, "_upload", changed)
    # When
    scene.store.runs.clear()
    scene.now += 1
    scene.loop.step()
    # Then
    assert scene.ledger.epoch() == 2
    assert "a.py changed while it was read" in str(warnings(scene))


def test_a_store_that_was_away_for_long_is_no_reason_to_miss_the_workers(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: no slot holds a lease
    scene.loop._journal = scene.journal()
    scene.loop.step()
    read, reopened = scene.ledger.read, scene.store.beating

    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("gone")

    # When it comes back empty after 100 s, and knows its workers a moment later
    monkeypatch.setattr(scene.ledger, "read", away)
    for _ in range(10):
        scene.now += 10
        scene.loop.step()
    monkeypatch.setattr(scene.ledger, "read", read)
    workers = dict(reopened["pool:workers"])
    reopened["pool:workers"].clear()
    for _ in range(3):
        scene.loop.step()
    reopened["pool:workers"].update(workers)
    scene.loop.step()
    # Then
    assert scene.machine.stop is None


def test_a_store_that_goes_away_while_checks_are_awaited_is_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: every test has passed
    lease = scene.run.claim()
    scene.run.record(lease, finished(0), finished(1))
    scene.run.send(completed(lease))
    scene.loop.step()
    read, end = scene.ledger.read, scene.now + 30

    def away(*args: Any, **kwargs: Any) -> Any:
        if scene.now < end:
            scene.now += 1
            raise StoreUnavailable("gone")
        scene.loop.worker_reports.checked = True
        return read(*args, **kwargs)

    # When
    monkeypatch.setattr(scene.ledger, "read", away)
    scene.follow()
    # Then
    assert scene.machine.stop is None


def test_a_store_that_does_not_come_back_ends_the_wait_for_checks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: every test has passed
    lease = scene.run.claim()
    scene.run.record(lease, finished(0), finished(1))
    scene.run.send(completed(lease))

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


# -- a stream that was tampered with --------------------------------------------------


def warnings(scene: Scene) -> list[str]:
    return scene.reporter.warnings


def stored(scene: Scene) -> StoredFields:
    return scene.store.runs["run-one"]


def poll(scene: Scene) -> None:
    """A round in which the registry and the store are polled as well."""
    scene.now += 1
    scene.loop.step()


def test_an_untrusted_entry_is_reported_once_and_ignored(scene: Scene) -> None:
    # Given
    held = begun(scene)
    forged = {**streams.recorded(scene.door, held, 2, finished(1, "failed")), "d": "[]"}
    # When: thirty forged entries of two kinds, and a true one behind them
    for _ in range(15):
        stored(scene).add(forged)
        stored(scene).add({"k": "moonbeam", "e": "1"})
    scene.ledger.append(held, 2, as_sent(finished(1)), 5000)
    scene.loop.step()
    # Then
    assert {index: verdict.outcome for index, verdict in scene.machine.verdicts.items()} == {
        0: PASSED,
        1: PASSED,
    }
    assert warnings(scene) == [
        "the run's event stream: an entry is not signed; it is ignored",
        "the run's event stream: an entry is of an unknown kind; it is ignored",
    ]
    # And never again
    stored(scene).add(forged)
    scene.loop.step()
    assert len(warnings(scene)) == 2
    assert scene.loop._journal is not None
    assert [entry.fields["k"] for entry in scene.loop._journal.replay()] == [
        "offered",
        "claimed",
        "records",
        "records",
    ]


def test_reading_goes_on_after_a_page_of_forged_entries(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    held = begun(scene)
    monkeypatch.setattr("dct_celery.dispatcher.event_loop._PAGE", 10)
    for _ in range(25):
        stored(scene).add({"k": "moonbeam"})
    scene.ledger.append(held, 2, as_sent(finished(1)), 5000)
    # When
    for _ in range(3):
        scene.loop.step()
    # Then
    assert sorted(scene.machine.verdicts) == [0, 1]


def test_a_worker_without_a_lease_gets_no_verdict_though_it_has_the_key(scene: Scene) -> None:
    # Given: a worker of ours that is at fault
    held = begun(scene)
    stray = replace(held, fence=held.fence + 1)
    # When
    stored(scene).add(streams.recorded(scene.door, stray, 1, finished(1, "failed")))
    scene.loop.step()
    # Then
    assert list(scene.machine.verdicts) == [0]
    assert scene.machine.strays == 1


@pytest.mark.parametrize("lost", ["records", "records before records"])
def test_what_is_missing_from_an_attempt_is_asked_for_again(four: Scene, lost: str) -> None:
    # Given an entry of the stream that was removed
    scene = four
    held = begun(scene)
    scene.ledger.append(held, 2, as_sent(finished(1)), 5000)
    stored(scene).events.pop()
    if lost == "records before records":
        scene.ledger.append(held, 3, as_sent(finished(2)), 5000)
    else:
        scene.ledger.end(held, 2, ev.ChunkCompleted(left=(2, 3)))
    # When
    poll(scene)
    # Then: nothing after the gap counts, and the run is put back
    assert list(scene.machine.verdicts) == [0]
    assert scene.machine.busy == 1
    assert (scene.ledger.epoch(), scene.stored_run.epoch) == (2, 2)
    assert warnings(scene) == [
        f"the store has lost events of chunk {held.chunk}; the run goes on in it from the journal,"
        " as epoch 2"
    ]
    # When: its worker learns of that, and sends what is not acknowledged
    assert scene.ledger.append(held, 4, as_sent(finished(3)), 5000) == "moved"
    assert scene.ledger.acknowledged([held.key]) == [1]
    now = replace(held, epoch=2)
    assert scene.ledger.append(now, 4, as_sent(finished(1), finished(2), finished(3)), 5000) == "ok"
    assert scene.ledger.end(now, 4, ev.ChunkCompleted()) == "ok"
    poll(scene)
    # Then
    assert sorted(scene.machine.verdicts) == [0, 1, 2, 3]
    assert scene.machine.busy == 0
    assert scene.ledger.acknowledged([held.key]) == [5]
    assert scene.ledger.epoch() == 2
    assert len(warnings(scene)) == 1


def test_records_that_come_twice_are_no_gap(four: Scene) -> None:
    # Given
    scene = four
    held = begun(scene)
    # When: sent again from an earlier number, all of it or more
    scene.ledger.append(held, 2, as_sent(finished(0), finished(1)), 5000)
    scene.ledger.append(held, 1, as_sent(finished(0)), 5000)
    scene.ledger.append(held, 3, as_sent(finished(2)), 5000)
    poll(scene)
    # Then
    assert sorted(scene.machine.verdicts) == [0, 1, 2]
    assert scene.ledger.epoch() == 1


def test_another_dispatcher_finds_the_gap_that_the_first_one_had(
    scene: Scene, tmp_path: Path
) -> None:
    # Given a dispatcher that died before it saw that something is missing
    held = begun(scene)
    assert scene.loop._journal is not None
    scene.loop._journal.close()
    scene.ledger.append(held, 2, as_sent(finished(1)), 5000)
    stored(scene).events.pop()
    scene.ledger.end(held, 2, ev.ChunkCompleted())
    # When
    second = Scene(tmp_path, scene.store, slots=0)
    second.stored_run.epoch = second.loop._epoch = second.ledger.adopt(YOU, dead=True).epoch
    second.services.owner = YOU
    second.loop.catch_up(second.journal(go_on=True), whole=True)
    assert second.machine.busy == 1
    poll(second)
    # Then
    assert second.ledger.epoch() == 2
    assert second.ledger.end(replace(held, epoch=2), 2, ev.ChunkCompleted()) == "ok"
    second.close()


def test_a_journal_with_damaged_lines_is_replayed_without_them(
    scene: Scene, tmp_path: Path
) -> None:
    # Given
    begun(scene)
    assert scene.loop._journal is not None
    scene.loop._journal.close()
    path = scene.loop._journal.path
    head, *lines = path.read_text().splitlines(keepends=True)
    path.write_text(head + "damage\n" + "".join(lines))
    # When
    second = Scene(tmp_path, scene.store, slots=0)
    second.stored_run.epoch = second.ledger.adopt(YOU, dead=True).epoch
    second.services.owner = YOU
    second.loop.catch_up(second.journal(go_on=True), whole=True)
    # Then
    assert list(second.machine.verdicts) == [0]
    assert warnings(second) == [f"skipped 1 damaged line of {path}"]
    second.close()


def test_a_forged_order_to_stop_stops_nothing(scene: Scene) -> None:
    # Given
    held = begun(scene)
    # When
    stored(scene).state, stored(scene).reason = "cancelled", "forged"
    poll(scene)
    # Then
    assert scene.machine.stop is None
    assert (scene.ledger.state(), scene.ledger.epoch()) == ("open", 2)
    assert scene.ledger.renew(held, 5000) == "ok"


def test_a_forged_fence_is_corrected_once_the_stream_is_read_to_its_end(
    scene: Scene,
) -> None:
    # Given
    held = begun(scene)
    # When
    stored(scene).slips[held.chunk].fence = 999
    for _ in range(15):
        poll(scene)
    # Then
    assert (scene.ledger.epoch(), fences(scene.ledger, [held.chunk])) == (2, [held.fence])
    assert [
        line for line in warnings(scene) if "has something else of the run" in line
    ] == warnings(scene)
    assert len(warnings(scene)) == 1


def test_untrusted_entries_of_the_registry_are_reported(scene: Scene) -> None:
    # Given
    scene.loop._journal = scene.journal()
    scene.store.beating["pool:workers"]["build-x"] = Life(
        scene.store.clock.ms + 60_000, 60_000, "what"
    )
    # When
    for _ in range(3):
        poll(scene)
    # Then
    assert warnings(scene) == ["the registry of workers: an entry is not signed; it is ignored"]


# -- no worker takes the run -----------------------------------------------------------


def wait(scene: Scene, seconds: float) -> None:
    for _ in range(int(seconds / 0.5)):
        scene.now += 0.5
        scene.loop.step()


def beat(scene: Scene, name: str, *keys: str) -> None:
    door = pool_door(*keys)
    ids = door.keyring.ids
    MemoryRegistry(scene.store, "pool", door).beat(
        WorkerInfo(name, "h", 1, "0", 1, ids[0], ids), 3600
    )


def test_reasons_that_no_retry_fixes_end_the_run_with_4_and_each_is_reported_once(
    scene: Scene,
) -> None:
    # Given: three workers, two reasons
    scene.loop._journal = scene.journal()
    beat(scene, "build-b")
    beat(scene, "build-x", OTHER_KEY)
    for name in ("build-a", "build-b"):
        scene.ledger.report(
            name,
            RefusedReport(
                "has Django 4.2, the dispatcher 5.2", "a diff\nof two lines", permanent=True
            ),
        )
    # When
    wait(scene, 3)
    assert scene.machine.stop is None, "another worker may come"
    wait(scene, 3)
    # Then
    stop = scene.machine.stop
    assert stop is not None
    assert stop.exit_code == 4
    assert (
        stop.reason
        == "no worker of pool 'pool' takes the run: build-a, build-b: has Django 4.2, the"
        " dispatcher 5.2; build-x: has another signing key, or none: set the same"
        " DCT_SIGNING_KEY_FILE on both sides"
    )
    said = [line for line in warnings(scene) if "refuses" in line]
    assert said == [
        "build-a refuses the run: has Django 4.2, the dispatcher 5.2\n    a diff\n    of two lines",
        "build-b refuses the run for the same reason",
    ]


def test_a_pool_of_unfit_workers_alone_ends_the_run_with_4(scene: Scene) -> None:
    # Given
    scene.loop._journal = scene.journal()
    scene.store.beating["pool:workers"].clear()
    beat(scene, "build-x", OTHER_KEY)
    # When
    wait(scene, 6)
    # Then
    assert scene.machine.stop is not None
    assert scene.machine.stop.exit_code == 4
    assert "another signing key" in scene.machine.stop.reason


def test_reasons_that_may_pass_end_the_run_with_7(scene: Scene) -> None:
    # Given
    scene.loop._journal = scene.journal()
    scene.ledger.report("build-a", RefusedReport("could not get the code"))
    # When
    wait(scene, 4)
    # Then
    assert scene.machine.stop is not None
    assert scene.machine.stop.exit_code == 7


def test_one_worker_that_may_still_take_part_keeps_the_run_waiting(scene: Scene) -> None:
    # Given
    scene.loop._journal = scene.journal()
    beat(scene, "build-b")
    scene.ledger.report("build-a", RefusedReport("has Django 4.2", permanent=True))
    # When
    wait(scene, 10)
    # Then
    assert scene.machine.stop is None


@pytest.mark.parametrize(
    "broker", ["", "id-2|redis://other"], ids=["another key", "another broker"]
)
def test_slots_of_this_machine_take_a_run_that_a_pool_of_unfit_workers_does_not(
    scene: Scene, broker: str
) -> None:
    # Given --local-fallback
    scene.loop._journal = scene.journal()
    scene.store.beating["pool:workers"].clear()
    door = pool_door() if broker else pool_door(OTHER_KEY)
    ids = door.keyring.ids
    unfit = WorkerInfo("build-x", "h", 1, "0", 1, ids[0], ids, broker=broker)
    MemoryRegistry(scene.store, "pool", door).beat(unfit, 3600)
    scene.loop._fleet.broker = "id-1|redis://ours"
    scene.services.broker = lambda: "id-1|redis://ours"
    scene.services.settings.fallback_after = 15

    def start() -> int:
        beat(scene, "local")
        return 1

    scene.services.fall_back = start
    # When
    wait(scene, 20)
    # Then
    assert scene.machine.stop is None
    assert any("one slot of this machine takes the run" in line for line in warnings(scene))


# -- what reporters and `dct status` get -------------------------------------------------


def test_verdicts_reach_the_view_and_the_reporters(scene: Scene) -> None:
    # When
    begun(scene)
    poll(scene)
    # Then
    assert [event.verdict.entry.index for event in scene.reporter.all(TestJudged)] == [0]
    assert scene.view.newest is not None
    assert (scene.view.done, scene.view.connected, len(scene.view.busy)) == (1, 1, 1)
    assert scene.reporter.all(Ticked)[-1].view is scene.view
    assert [event.workers for event in scene.reporter.all(WorkersChanged)] == [("build-a",)]


def test_a_report_on_the_way_leaves_twenty_times_its_own_cost_to_the_run(scene: Scene) -> None:
    # Given one that takes two seconds
    scene.loop._journal = scene.journal()
    at: list[float] = []

    def slow() -> Any:
        at.append(scene.now)
        scene.now += 2
        return None

    scene.loop._partial = slow
    # When
    for _ in range(240):
        scene.now += 0.5
        scene.loop.step()
    # Then
    assert at[0] - 100.0 < 11
    assert 42 <= at[1] - at[0] < 44


def test_a_summary_in_the_store_says_where_to_read_on(scene: Scene) -> None:
    # When
    begun(scene)
    scene.now += 3
    scene.loop.step()
    # Then
    summary = scene.ledger.summary()
    assert summary is not None
    assert summary.view().counts == {PASSED: 1}
    assert (summary.epoch, summary.after) == (1, scene.loop._after)
    assert summary.after != "0"


def test_a_run_in_which_nothing_happened_writes_no_second_summary(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    begun(scene)
    scene.now += 3
    scene.loop.step()
    # When
    written: list[object] = []
    monkeypatch.setattr(scene.ledger, "publish_summary", written.append)
    scene.now += 30
    scene.loop.step()
    # Then
    assert written == []


def test_a_run_that_stops_says_how_much_was_running(four: Scene) -> None:
    # Given
    scene = four
    begun(scene)
    # When
    scene.services.interrupted = lambda: True
    scene.loop.step()
    # Then
    assert scene.reporter.all(Stopping) == [Stopping("interrupted", 1)]
    assert scene.view.waiting == "stopping"


def test_a_run_without_a_worker_says_what_it_waits_for(scene: Scene) -> None:
    # Given
    scene.loop._journal = scene.journal()
    scene.store.beating["pool:workers"].clear()
    # When
    poll(scene)
    # Then
    assert scene.view.waiting == "waiting for a worker of pool 'pool'; none is connected"
    # When one comes
    beat(scene, "build-b")
    poll(scene)
    # Then
    assert scene.view.waiting == "waiting for build-b to begin"


def test_a_run_that_has_used_most_of_its_time_says_so_once(scene: Scene) -> None:
    # Given
    scene.services.settings.timeout = 100
    # When
    for _ in range(3):
        scene.loop.step()
        scene.now += 41
    # Then
    named = [text for text in scene.reporter.warnings if "near its limit" in text]
    assert named == ["near its limit: run run-one: 82.0 s, 82% of its 100 s"]
