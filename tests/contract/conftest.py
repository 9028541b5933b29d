"""The store in two makes, fake and real: whatever a contract claims, it claims of both."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
import redis

from dct_celery import ports
from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.blobs import RedisBlobs, RedisTimings
from dct_celery.adapters.redisstore.client import connect
from dct_celery.adapters.redisstore.ledger import RedisLedger
from dct_celery.adapters.redisstore.registry import RedisRegistry
from tests.support.memory_ledger import MemoryBlobs, MemoryLedger, MemoryRegistry, MemoryStore, MemoryTimings


class Store(Protocol):
    """Makes the ports of one store. Every name is unused in each test."""

    run: str

    def ledger(self, run: str = "") -> ports.Ledger: ...
    def registry(self, pool: str = "pool", *, tends: bool = True) -> ports.Registry: ...
    def blobs(self) -> ports.BlobStore: ...
    def timings(self, project: str = "project") -> ports.TimingStore: ...
    def let_leases_run_out(self) -> None: ...
    def pass_time(self, ms: int) -> None:
        """The store's clock goes on, as far as the run's leases can tell."""

    def set_clock_back(self, ms: int) -> None: ...

    def let_beats_run_out(self, pool: str = "pool") -> None: ...
    def pass_time_untended(self, ms: int, pool: str = "pool") -> None:
        """The store's clock goes on, as far as the pool's registry can tell."""

    def forget_run(self) -> None:
        """All keys of the run vanish, as at the end of their lifetime."""


class FakeStore:
    def __init__(self) -> None:
        self.run = "run-one"
        self._store = MemoryStore()

    def ledger(self, run: str = "") -> MemoryLedger:
        return MemoryLedger(self._store, run or self.run)

    def registry(self, pool: str = "pool", *, tends: bool = True) -> MemoryRegistry:
        return MemoryRegistry(self._store, pool, tends=tends)

    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs(self._store)

    def timings(self, project: str = "project") -> MemoryTimings:
        return MemoryTimings(self._store, project)

    def let_leases_run_out(self) -> None:
        for run in self._store.runs.values():
            for slip in run.slips.values():
                slip.until = 1

    def pass_time(self, ms: int) -> None:
        self._store.clock.ms += ms

    def set_clock_back(self, ms: int) -> None:
        self._store.clock.ms -= ms

    def let_beats_run_out(self, pool: str = "pool") -> None:
        for members in self._store.beating.values():
            for life in members.values():
                life.until = 1

    def pass_time_untended(self, ms: int, pool: str = "pool") -> None:
        self._store.clock.ms += ms

    def forget_run(self) -> None:
        self._store.runs.clear()


class RealStore:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._token = secrets.token_hex(6)
        self.run = f"run-{self._token}"

    def ledger(self, run: str = "") -> RedisLedger:
        return RedisLedger(self._client, f"{run}{self._token}" if run else self.run)

    def registry(self, pool: str = "pool", *, tends: bool = True) -> RedisRegistry:
        return RedisRegistry(self._client, f"{pool}{self._token}", tends=tends)

    def blobs(self) -> RedisBlobs:
        return RedisBlobs(self._client)

    def timings(self, project: str = "project") -> RedisTimings:
        return RedisTimings(self._client, f"{project}{self._token}")

    def pass_time(self, ms: int) -> None:
        names = keys.RunKeys(self.run)
        self._client.hincrby(names.run, "reaped", -ms)
        members: Any = self._client.zrange(names.leases, 0, -1)
        for member in members:
            self._client.zincrby(names.leases, -ms, member)
        for name in self._client.keys(f"{names.chunk_prefix}*"):
            if self._client.hexists(name, "until"):
                self._client.hincrby(name, "until", -ms)

    def set_clock_back(self, ms: int) -> None:
        self.pass_time(-ms)

    def let_leases_run_out(self) -> None:
        self._age(keys.RunKeys(self.run).leases)

    def let_beats_run_out(self, pool: str = "pool") -> None:
        for members, *_ in self._beating(pool):
            self._age(members)

    def pass_time_untended(self, ms: int, pool: str = "pool") -> None:
        for members, _, horizons in self._beating(pool):
            if self._client.hexists(horizons, ""):
                self._client.hincrby(horizons, "", -ms)
            names: Any = self._client.zrange(members, 0, -1)
            for name in names:
                self._client.zincrby(members, -ms, name)

    def _beating(self, pool: str) -> tuple[tuple[str, str, str], ...]:
        return keys.pool_runs(f"{pool}{self._token}"), keys.pool_workers(f"{pool}{self._token}")

    def forget_run(self) -> None:
        self._client.delete(*self._client.keys(f"dct:{{{self.run}}}:*"))

    def _age(self, key: str) -> None:
        members: Any = self._client.zrange(key, 0, -1)
        for member in members:
            self._client.zadd(key, {member: 1}, xx=True)


@pytest.fixture(params=["fake", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Either make; no key of the real one may be left without an end."""
    if request.param == "fake":
        yield FakeStore()
        return
    with connect(request.getfixturevalue("valkey_url")) as client:
        yield RealStore(client)
        ours = list(client.scan_iter("dct:*", count=1000))
        immortal = [name for name in ours if client.ttl(name) == -1]
        if ours:
            client.delete(*ours)
        assert immortal == [], "keys without a lifetime"
