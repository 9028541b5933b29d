"""The store in two makes, fake and real: whatever a contract claims, it claims of both."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pytest
import redis

from dct_celery import ports
from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.blobs import RedisBlobs, RedisTimings
from dct_celery.adapters.redisstore.client import connect
from dct_celery.adapters.redisstore.ledger import RedisLedger
from dct_celery.adapters.redisstore.registry import RedisRegistry
from dct_celery.protocol.door import Door
from tests.support.factories import pool_door
from tests.support.memory_ledger import (
    Life,
    MemoryBlobs,
    MemoryLedger,
    MemoryRegistry,
    MemoryStore,
    MemoryTimings,
)

NONCE = "0123456789abcdef"


class Store(Protocol):
    """Makes the ports of one store.

    Every name is unused in each test. `door`: another key, another run.
    """

    run: str

    def ledger(self, run: str = "", door: Door | None = None) -> ports.Ledger: ...
    def registry(
        self, pool: str = "pool", *, tends: bool = True, door: Door | None = None
    ) -> ports.Registry: ...
    def blobs(self, run: str = "") -> ports.BlobStore: ...
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

    # What an attacker with the store's password can do.

    def now_ms(self) -> int: ...
    def field(self, name: str) -> str:
        """Of the run; empty where it has none."""

    def write(self, **fields: str) -> None:
        """Fields of the run."""

    def chunk(self, chunk: str, name: str) -> str: ...
    def write_chunk(self, chunk: str, **fields: str) -> None: ...
    def stream(self) -> list[dict[str, str]]: ...
    def write_stream(self, fields: Mapping[str, str]) -> None: ...
    def entry(self, kind: str, name: str, pool: str = "pool") -> str:
        """What a member ("runs", "workers") says of itself."""

    def write_entries(self, kind: str, entries: Mapping[str, str], pool: str = "pool") -> None:
        """Alive for a minute, as far as the store can tell."""


class FakeStore:
    def __init__(self) -> None:
        self.run = "run-one"
        self._store = MemoryStore()

    def ledger(self, run: str = "", door: Door | None = None) -> MemoryLedger:
        name = run or self.run
        return MemoryLedger(self._store, name, door or pool_door().of_run(name, NONCE))

    def registry(
        self, pool: str = "pool", *, tends: bool = True, door: Door | None = None
    ) -> MemoryRegistry:
        return MemoryRegistry(self._store, pool, door or pool_door(), tends=tends)

    def blobs(self, run: str = "") -> MemoryBlobs:
        return MemoryBlobs(self._store, run)

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

    def now_ms(self) -> int:
        return self._store.clock.ms

    def field(self, name: str) -> str:
        return str(getattr(self._store.runs[self.run], name) or "")

    def write(self, **fields: str) -> None:
        self._set(self._store.runs[self.run], fields)

    def chunk(self, chunk: str, name: str) -> str:
        return str(getattr(self._store.runs[self.run].slips[chunk], name))

    def write_chunk(self, chunk: str, **fields: str) -> None:
        self._set(self._store.runs[self.run].slips[chunk], fields)

    @staticmethod
    def _set(thing: Any, fields: Mapping[str, str]) -> None:
        for name, value in fields.items():
            setattr(thing, name, type(getattr(thing, name) or value)(value))

    def stream(self) -> list[dict[str, str]]:
        return [fields for _, fields in self._store.runs[self.run].events]

    def write_stream(self, fields: Mapping[str, str]) -> None:
        self._store.runs[self.run].add(fields)

    def entry(self, kind: str, name: str, pool: str = "pool") -> str:
        return self._store.beating[f"{pool}:{kind}"][name].says

    def write_entries(self, kind: str, entries: Mapping[str, str], pool: str = "pool") -> None:
        members = self._store.beating.setdefault(f"{pool}:{kind}", {})
        for name, says in entries.items():
            members[name] = Life(self._store.clock.ms + 60_000, 60_000, says)


class RealStore:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._token = secrets.token_hex(6)
        self.run = f"run-{self._token}"
        self._keys = keys.RunKeys(self.run)

    def ledger(self, run: str = "", door: Door | None = None) -> RedisLedger:
        name = f"{run}{self._token}" if run else self.run
        return RedisLedger(self._client, name, door or pool_door().of_run(name, NONCE))

    def registry(
        self, pool: str = "pool", *, tends: bool = True, door: Door | None = None
    ) -> RedisRegistry:
        return RedisRegistry(self._client, f"{pool}{self._token}", door or pool_door(), tends=tends)

    def blobs(self, run: str = "") -> RedisBlobs:
        return RedisBlobs(self._client, run)

    def timings(self, project: str = "project") -> RedisTimings:
        return RedisTimings(self._client, f"{project}{self._token}")

    def pass_time(self, ms: int) -> None:
        names = self._keys
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
        self._age(self._keys.leases)

    def let_beats_run_out(self, pool: str = "pool") -> None:
        for members, *_ in self._beating(pool).values():
            self._age(members)

    def pass_time_untended(self, ms: int, pool: str = "pool") -> None:
        for members, _, horizons in self._beating(pool).values():
            if self._client.hexists(horizons, ""):
                self._client.hincrby(horizons, "", -ms)
            names: Any = self._client.zrange(members, 0, -1)
            for name in names:
                self._client.zincrby(members, -ms, name)

    def _beating(self, pool: str) -> dict[str, tuple[str, str, str]]:
        name = f"{pool}{self._token}"
        return {"runs": keys.pool_runs(name), "workers": keys.pool_workers(name)}

    def forget_run(self) -> None:
        self._client.delete(*self._client.keys(f"dct:{{{self.run}}}:*"))

    def _age(self, key: str) -> None:
        members: Any = self._client.zrange(key, 0, -1)
        for member in members:
            self._client.zadd(key, {member: 1}, xx=True)

    def now_ms(self) -> int:
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def field(self, name: str) -> str:
        value: Any = self._client.hget(self._keys.run, name)
        return (value or b"").decode()

    def write(self, **fields: str) -> None:
        self._client.hset(self._keys.run, mapping=dict[Any, Any](fields))

    def chunk(self, chunk: str, name: str) -> str:
        value: Any = self._client.hget(self._keys.chunk(chunk), name)
        return (value or b"").decode()

    def write_chunk(self, chunk: str, **fields: str) -> None:
        self._client.hset(self._keys.chunk(chunk), mapping=dict[Any, Any](fields))

    def stream(self) -> list[dict[str, str]]:
        rows: Any = self._client.xrange(self._keys.events)
        return [
            {name.decode(): value.decode() for name, value in fields.items()} for _, fields in rows
        ]

    def write_stream(self, fields: Mapping[str, str]) -> None:
        self._client.xadd(self._keys.events, dict[Any, Any](fields))
        self._client.expire(self._keys.events, 600)

    def entry(self, kind: str, name: str, pool: str = "pool") -> str:
        value: Any = self._client.hget(self._beating(pool)[kind][1], name)
        return (value or b"").decode()

    def write_entries(self, kind: str, entries: Mapping[str, str], pool: str = "pool") -> None:
        members, says, horizons = self._beating(pool)[kind]
        until = self.now_ms() + 60_000
        pipe = self._client.pipeline(transaction=False)
        pipe.zadd(members, dict.fromkeys(entries, until))
        pipe.hset(says, mapping=dict[Any, Any](entries))
        pipe.hset(horizons, mapping=dict[Any, Any](dict.fromkeys(entries, 60_000)))
        for name in (members, says, horizons):
            pipe.expire(name, 600)
        pipe.execute()


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
