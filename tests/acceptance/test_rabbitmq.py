"""RabbitMQ as the broker.

The same verdicts as on Redis, whatever happens to it, and nothing left behind in it.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from dct_celery.core.databases.names import queue_name
from tests.acceptance.stream import chunks, ledger_of, wait_for_records
from tests.support.fleet import Fleet, Running, until
from tests.support.projects import make_project, sleeping
from tests.support.rabbitmq import EmbeddedRabbitMQ


@pytest.fixture
def rabbit_fleet(
    tmp_path: Path, fleet_store: str, rabbitmq_server: EmbeddedRabbitMQ
) -> Iterator[Fleet]:
    with Fleet(tmp_path / "fleet", fleet_store, broker=rabbitmq_server.url) as fleet:
        yield fleet


def queue_is_there(fleet: Fleet, running: Running) -> bool:
    with (
        Connection(fleet.broker, connect_timeout=5) as connection,
        contextlib.suppress(*connection.channel_errors),
    ):
        channel: Any = connection.default_channel
        channel.queue_declare(queue_name(running.run), passive=True)
        return True
    return False


def test_a_run_and_a_cancelled_run_leave_no_queue_and_no_reconnect(
    rabbit_fleet: Fleet, place: Path
) -> None:
    # Given
    worker = rabbit_fleet.worker(slots=2)
    project = make_project(place, sleeping(6, 3, 0.1))
    # When
    whole = rabbit_fleet.start(project, "--chunk-seconds", "0.5")
    wait_for_records(rabbit_fleet, whole)
    there = queue_is_there(rabbit_fleet, whole)
    finished = whole.finish()
    # Then
    assert there
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 18
    assert not queue_is_there(rabbit_fleet, whole)
    # When
    stopped = rabbit_fleet.start(
        make_project(place.with_name("long"), sleeping(8, 4, 0.5)), "--chunk-seconds", "1"
    )
    wait_for_records(rabbit_fleet, stopped)
    command = [sys.executable, "-m", "dct_celery.cli", "cancel", stopped.run]
    subprocess.run(
        command, env=rabbit_fleet.environment({}), cwd=rabbit_fleet.folder, check=True, timeout=60
    )
    # Then
    finished = stopped.finish()
    assert finished.code == 2, finished
    assert set(finished.outcomes().values()) == {"passed", "not_run"}
    assert not queue_is_there(rabbit_fleet, stopped)
    rabbit_fleet.assert_tidy()
    assert "onnection to broker lost" not in worker.log.read_text()


def test_what_a_killed_worker_held_is_delivered_again_and_no_test_counts_twice(
    rabbit_fleet: Fleet, place: Path
) -> None:
    # Given
    doomed = rabbit_fleet.worker("build-a", slots=2, DCT_LEASE_SECONDS="3")
    running = rabbit_fleet.start(make_project(place, sleeping(8, 2, 0.3)), "--chunk-seconds", "0.6")
    wait_for_records(rabbit_fleet, running)
    # When: its messages are not acknowledged, so the broker gives them to the next
    doomed.process.send_signal(signal.SIGKILL)
    rabbit_fleet.worker("build-b", slots=2)
    finished = running.finish()
    # Then
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 16
    assert not queue_is_there(rabbit_fleet, running)


def test_a_restart_of_the_broker_mid_run_costs_no_verdict_and_no_second_attempt(
    rabbit_fleet: Fleet, place: Path, rabbitmq_server: EmbeddedRabbitMQ
) -> None:
    # Given
    worker = rabbit_fleet.worker(slots=2)
    running = rabbit_fleet.start(
        make_project(place, sleeping(10, 2, 0.4)), "--chunk-seconds", "0.8"
    )
    wait_for_records(rabbit_fleet, running)
    # When
    rabbitmq_server.crash()
    rabbitmq_server.go_on()
    finished = running.finish()
    # Then
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 20
    claimed = chunks(rabbit_fleet, running, "claimed")
    assert len(claimed) == len(set(claimed))
    assert worker.process.poll() is None
    # A worker that was reconnecting when the run ended may have declared it once more; then it goes
    # by itself.
    until(lambda: not queue_is_there(rabbit_fleet, running), 75, what="the end of the queue")


def test_the_queue_of_a_run_whose_dispatcher_is_dead_goes_with_the_run(
    rabbit_fleet: Fleet, place: Path
) -> None:
    # Given
    rabbit_fleet.worker()
    running = rabbit_fleet.start(make_project(place, sleeping(4, 2, 0.4)), "--chunk-seconds", "0.4")
    wait_for_records(rabbit_fleet, running)
    # When: what the workers do a minute later themselves is done at once
    running.process.send_signal(signal.SIGKILL)
    ledger_of(rabbit_fleet, running).close()
    rabbit_fleet.registry.withdraw(running.run)
    # Then
    seconds = until(lambda: not queue_is_there(rabbit_fleet, running), 20, what="end of the queue")
    print(f"gone after {seconds:.1f} s")
