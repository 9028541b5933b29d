"""What every registry promises: who beats is there, who stops beating is not."""

from __future__ import annotations

from dataclasses import replace

from dct_celery.ports import Registry, WorkerInfo
from dct_celery.protocol.workers import RunStage
from tests.contract.conftest import Store
from tests.support.factories import KEY_ID, NONCE, make_spec

WORKER = WorkerInfo(
    "build-a@é", "host-1", 4, "0.1.0", 1, KEY_ID, (KEY_ID,), {"run-one": RunStage.READY}, 2
)


def workers(registry: Registry) -> list[WorkerInfo]:
    """As they were when they beat."""
    return [replace(info, expires_ms=0) for info in registry.workers()]


def runs(registry: Registry) -> dict[str, int]:
    """Epochs of those that are announced."""
    return {name: announced.epoch for name, announced in registry.active_runs().items()}


def test_a_worker_that_beats_is_registered_with_all_that_it_reports(store: Store) -> None:
    # When
    store.registry().beat(WORKER, 60)
    # Then
    assert workers(store.registry()) == [WORKER]


def test_the_last_beat_of_a_worker_counts(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.beat(WORKER, 60)
    # When
    registry.beat(replace(WORKER, busy=4), 60)
    # Then
    assert [worker.busy for worker in workers(registry)] == [4]


def test_a_worker_that_stops_beating_is_gone_and_may_come_back(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.beat(WORKER, 60)
    registry.announce("run-one", NONCE, 60)
    # When
    store.let_beats_run_out()
    # Then
    assert workers(registry) == []
    assert runs(registry) == {}
    # When
    registry.beat(WORKER, 60)
    # Then
    assert workers(registry) == [WORKER]


def test_an_expiry_in_the_past_registers_nothing(store: Store) -> None:
    # When
    store.registry().announce("run-one", NONCE, 0)
    # Then
    assert runs(store.registry()) == {}


def test_a_worker_that_leaves_is_gone_at_once(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.beat(WORKER, 60)
    registry.beat(replace(WORKER, name="build-b"), 60)
    # When
    registry.leave("build-b")
    registry.leave("never-there")
    # Then
    assert workers(registry) == [WORKER]


def test_runs_are_announced_and_withdrawn(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.announce("run-one", NONCE, 60)
    registry.announce("run-two", NONCE, 120)
    assert runs(registry) == {"run-one": 1, "run-two": 1}
    # When
    registry.withdraw("run-one")
    registry.withdraw("never-there")
    # Then
    assert runs(registry) == {"run-two": 1}


def test_pools_do_not_see_each_other(store: Store) -> None:
    # When
    store.registry("one").beat(WORKER, 60)
    store.registry("one").announce("run-one", NONCE, 60)
    # Then
    assert workers(store.registry("two")) == []
    assert runs(store.registry("two")) == {}


def test_no_worker_expires_while_none_could_beat(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.beat(WORKER, 10)
    registry.announce("run-one", NONCE, 60)
    assert workers(registry) == [WORKER]
    # When
    store.pass_time_untended(150_000)
    # Then: whichever is read first
    assert runs(registry) == {"run-one": 1}
    assert workers(registry) == [WORKER]


def test_the_first_beat_after_a_stall_expires_no_other_worker(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.beat(WORKER, 10)
    registry.beat(replace(WORKER, name="build-b"), 10)
    # When
    store.pass_time_untended(60_000)
    registry.beat(WORKER, 10)
    # Then
    assert {worker.name for worker in workers(registry)} == {WORKER.name, "build-b"}


def test_a_stall_extends_no_entry_beyond_a_whole_horizon(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.beat(WORKER, 10)
    store.pass_time_untended(60_000)
    assert workers(registry) == [WORKER]
    # When: so often that no pause is a stall
    for _ in range(6):
        store.pass_time_untended(1_900)
        seen = workers(registry)
    # Then
    assert seen == []


def test_time_that_is_tended_counts(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.beat(WORKER, 5)
    # When
    for _ in range(3):
        store.pass_time_untended(1_900)
        seen = workers(registry)
    # Then
    assert seen == []


def test_a_single_read_shows_no_expired_worker_and_removes_none(store: Store) -> None:
    # Given
    registry = store.registry()
    registry.beat(WORKER, 10)
    # When
    store.pass_time_untended(60_000)
    # Then
    assert workers(store.registry(tends=False)) == []
    assert workers(registry) == [WORKER]


def test_open_runs_are_listed_in_turns(store: Store) -> None:
    # Given
    assert store.ledger().open_run("a" * 16, make_spec("run-one"), 60)
    closed = store.ledger("closed")
    assert closed.open_run("a" * 16, make_spec("run-one"), 60)
    closed.close()
    # When
    first, second = store.registry().open_runs(0.5), store.registry().open_runs(0.5)
    # Then
    assert store.run in first
    assert not any(run.startswith("closed") for run in first)
    assert second == []
