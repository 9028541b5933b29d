"""Claims about what a worker consumes, and about the watchdog that sees whether it does."""

from __future__ import annotations

import contextlib
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.adapters.celeryqueue.consumer import RUNS, RunQueues, Runs
from dct_celery.adapters.celeryqueue.watchdog import MOST_RESTARTS, PATIENCE, Suspicion
from dct_celery.core.address import parse


def restarts(
    suspicion: Suspicion, until: float, *, start: float = 0.0, waiting: int = 3, idle: bool = True
) -> list[float]:
    """When it wants a restart, with one check a second."""
    times = [start + second for second in range(int(until - start) + 1)]
    return [now for now in times if suspicion.check(now, waiting=waiting, idle=idle)]


class TestSuspicion:
    def test_messages_that_wait_beside_idle_slots_end_its_patience(self) -> None:
        assert restarts(Suspicion(), 7) == [PATIENCE]

    def test_nothing_waiting_or_no_idle_slot_raises_no_suspicion(self) -> None:
        assert restarts(Suspicion(), 100, waiting=0) == restarts(Suspicion(), 100, idle=False) == []

    def test_patience_starts_again_with_each_message(self) -> None:
        # Given
        suspicion = Suspicion()
        assert restarts(suspicion, 4) == []
        # When
        suspicion.heard()
        # Then
        assert restarts(suspicion, 9, start=5) == []
        assert suspicion.check(5 + PATIENCE, waiting=1, idle=True)

    def test_each_restart_waits_longer_and_there_is_a_last_one(self) -> None:
        # When
        times = restarts(Suspicion(), 2000)
        # Then
        assert len(times) == MOST_RESTARTS
        assert [b - a for a, b in itertools.pairwise(times)] == [3 * PATIENCE, 9 * PATIENCE]

    def test_a_message_after_a_restart_clears_the_count(self) -> None:
        # Given
        suspicion = Suspicion()
        restarts(suspicion, 2000)
        # When
        suspicion.heard()
        # Then
        assert restarts(suspicion, 2010, start=2001) == [2001 + PATIENCE]


class Broker:
    """The parent of a step, as far as the step uses it; remembers its calls."""

    def __init__(self, runs: Runs, url: str) -> None:
        self.queues: dict[str, Any] = {}
        self.removed: list[str] = []
        self.app = SimpleNamespace(broker=parse(url), amqp=SimpleNamespace(queues=self))
        setattr(self.app, RUNS, runs)
        self.kept: list[tuple[str, int]] = []
        client = SimpleNamespace(pexpire=lambda name, ms: self.kept.append((name, ms)))
        # The channel's own client waits for messages on its connection: nothing else may ask there.
        channel = SimpleNamespace(
            queue_delete=self.removed.append,
            queue_purge=self.removed.append,
            client=None,
            conn_or_acquire=lambda: contextlib.nullcontext(client),
        )
        self.task_consumer = SimpleNamespace(channel=channel)

    def add(self, queue: Any) -> None: ...
    def pop(self, name: str, default: object) -> None: ...
    def add_task_queue(self, queue: Any) -> None:
        self.queues[queue.name] = queue

    def cancel_task_queue(self, name: str) -> None:
        del self.queues[name]


@pytest.mark.parametrize("url", ["redis://h/0", "amqp://h//"])
class TestRunQueues:
    def scene(self, url: str) -> tuple[set[str], set[str], Broker, RunQueues]:
        ready: set[str] = set()
        active: set[str] = set()
        broker = Broker(Runs(lambda: set(ready), lambda: set(active)), url)
        return ready, active, broker, RunQueues(broker)

    def test_it_consumes_the_runs_that_the_worker_is_ready_for(self, url: str) -> None:
        # Given
        ready, active, broker, step = self.scene(url)
        ready |= {"a", "b"}
        active |= ready
        step._follow(broker, 0.0)
        # When
        ready.discard("a")
        step._follow(broker, 1.0)
        # Then
        assert list(broker.queues) == ["dct.run.b"]
        assert broker.removed == []

    def test_a_queue_is_removed_when_its_run_has_been_gone_for_a_while_and_not_when_it_only_pauses(
        self, url: str
    ) -> None:
        # Given
        ready, active, broker, step = self.scene(url)
        ready.add("a")
        active.add("a")
        step._follow(broker, 0.0)
        # When the worker backs off, then the run goes
        ready.clear()
        step._follow(broker, 100.0)
        assert broker.removed == []
        active.clear()
        step._follow(broker, 104.0)
        assert broker.removed == []
        step._follow(broker, 106.0)
        step._follow(broker, 200.0)
        # Then
        assert broker.removed == ["dct.run.a"]

    def test_a_request_of_the_watchdog_ends_the_connection(self, url: str) -> None:
        # Given
        _, _, broker, step = self.scene(url)
        step._runs.restart = "silent"
        # Then
        with pytest.raises(ConnectionResetError, match="silent"):
            step._poll(broker)


def test_a_list_of_redis_lasts_as_long_as_a_worker_follows_its_run() -> None:
    # Given
    ready = {"a"}
    broker = Broker(Runs(lambda: set(ready), lambda: {"a"}), "redis://h/0")
    step = RunQueues(broker)
    # When
    for second in range(100, 160):
        step._follow(broker, float(second))
    # Then
    assert set(broker.kept) == {("dct.run.a", 60_000)}
    assert len(broker.kept) == 4
    # When
    ready.clear()
    step._follow(broker, 1000.0)
    # Then
    assert len(broker.kept) == 4


def test_a_queue_that_rabbitmq_took_away_is_asked_for_again() -> None:
    # Given
    ready = {"a"}
    broker = Broker(Runs(lambda: set(ready), lambda: set(ready)), "amqp://h//")
    step = RunQueues(broker)
    step._follow(broker, 0.0)
    first = broker.queues["dct.run.a"]
    # When
    first.when_deleted()
    step._deleted["a"] = 0.0
    step._follow(broker, 0.5)
    assert broker.queues["dct.run.a"] is first
    step._follow(broker, 1.5)
    # Then
    assert broker.queues["dct.run.a"] is not first
