"""A store that is slow, full, or drops its connections costs a run time.

No lease is lost for it, and no test runs twice.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from dct_celery.adapters.embedded import EmbeddedValkey
from tests.acceptance.stream import chunks, entries, wait_for_records
from tests.conftest import SERVER_ENVIRONMENT, started
from tests.support.fleet import Fleet
from tests.support.projects import make_project, sleeping

#: Seconds.
LEASE = 5


@pytest.fixture(scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    folder = tmp_path_factory.mktemp("store")
    with started(lambda: EmbeddedValkey.start(folder, environ=SERVER_ENVIRONMENT)) as store:
        yield store


@pytest.fixture(scope="module")
def own_fleet(
    tmp_path_factory: pytest.TempPathFactory, own_store: EmbeddedValkey
) -> Iterator[Fleet]:
    """Two slots on a store of their own."""
    with Fleet(tmp_path_factory.mktemp("fleet"), own_store.url) as fleet:
        fleet.worker(slots=2, DCT_LEASE_SECONDS=str(LEASE))
        yield fleet


def stands_still(store: EmbeddedValkey, client: redis.Redis) -> None:
    """Twice, and each time for less than a lease."""
    for _ in range(2):
        os.kill(store.pid, signal.SIGSTOP)
        time.sleep(0.6 * LEASE)
        os.kill(store.pid, signal.SIGCONT)
        time.sleep(0.5)


def answers_nobody(store: EmbeddedValkey, client: redis.Redis) -> None:
    client.client_pause(int(600 * LEASE))
    time.sleep(0.6 * LEASE)


def is_full(store: EmbeddedValkey, client: redis.Redis) -> None:
    """For longer than a lease."""
    client.config_set("maxmemory", 1)
    time.sleep(1.6 * LEASE)
    client.config_set("maxmemory", 0)


def drops_its_connections(store: EmbeddedValkey, client: redis.Redis) -> None:
    for _ in range(25):
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)
        time.sleep(0.15)


@pytest.mark.parametrize("trouble", [stands_still, answers_nobody, is_full, drops_its_connections])
def test_a_store_in_trouble_costs_time_and_no_lease(
    trouble: Callable[[EmbeddedValkey, redis.Redis], None],
    own_fleet: Fleet,
    own_store: EmbeddedValkey,
    place: Path,
) -> None:
    # Given
    running = own_fleet.start(make_project(place, sleeping(20, 2, 0.25)), "--chunk-seconds", "0.6")
    wait_for_records(own_fleet, running)
    # When
    client: Any = own_fleet.client
    trouble(own_store, client)
    start = time.monotonic()
    finished = running.finish()
    # Then
    print(f"ended {time.monotonic() - start:.1f} s after it")
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 40
    assert entries(own_fleet, running, "expired") == []
    claimed = chunks(own_fleet, running, "claimed")
    assert len(claimed) == len(set(claimed))
    own_fleet.assert_tidy()
