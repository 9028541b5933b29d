"""The ledger port on Redis: one typed method per Lua verb."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis

from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.client import script, text, translating
from dct_celery.core.model import Chunk
from dct_celery.errors import Superseded
from dct_celery.ports import (
    ABANDONED_MS,
    AVOID_MS,
    DISPATCHER_LEASE_MS,
    STALL_MS,
    Adoption,
    Claim,
    Held,
    Standing,
    StreamEntry,
)  # fmt: skip

_VERBS = (
    "open_run", "offer", "claim", "renew", "append", "complete", "release", "reap", "cancel", "tell", "adopt", "reopen", "abandon"
)  # fmt: skip
#: Room between the fences of two epochs.
_FENCES = 1_000_000


@translating
class RedisLedger:
    """Ledger of one run. Every method raises StoreUnavailable when the store does not answer or refuses."""

    def __init__(self, client: redis.Redis, run: str) -> None:
        self._client = client
        self._run = run
        self._keys = keys.RunKeys(run)
        self._verbs: dict[str, Any] = {name: script(client, name) for name in _VERBS}
        #: Of the dispatcher that uses this ledger; a slot's has none.
        self._owner = ""

    def open_run(self, owner: str, spec: str, ttl_seconds: int = keys.RUN_TTL) -> bool:
        self._owner = owner
        args = [owner, spec, ttl_seconds, self.incarnation()]
        return bool(self._verbs["open_run"](keys=[self._keys.run], args=args))

    def adopt(self, owner: str, *, dead: bool) -> Adoption:
        self._owner = owner
        reply = self._verbs["adopt"](keys=[self._keys.run], args=[owner, DISPATCHER_LEASE_MS, int(dead)])
        status = text(reply[0])
        if status == "ok":
            return Adoption("ok", int(reply[1]), text(reply[2]))
        return Adoption(status, wait_ms=int(reply[1]) if status == "held" else 0)

    def reopen(
        self,
        owner: str,
        epoch: int,
        fields: Mapping[str, str],
        standing: Sequence[Standing],
        acknowledged: Mapping[str, int],
    ) -> bool:
        self._owner = owner
        run = {**fields, "fence": epoch * _FENCES, "refused": self.refused()}
        head = [owner, epoch, self.incarnation(), keys.RUN_TTL, json.dumps(run), json.dumps(acknowledged)]
        names = [self._keys.run, self._keys.leases, self._keys.events, self._keys.acks]
        chunks = [self._keys.chunk(one.chunk.id) for one in standing]
        rows = [field for one in standing for field in _row(one)]
        return bool(self._verbs["reopen"](keys=[*names, *chunks], args=[*head, *rows]))

    def restore(self, entries: Iterable[StreamEntry]) -> None:
        for batch in _batched(entries, 500):
            pipe = self._client.pipeline(transaction=False)
            for entry in batch:
                pipe.xadd(self._keys.events, _fields(entry))
            pipe.execute()
        self._client.expire(self._keys.events, keys.RUN_TTL)

    def epoch(self) -> int:
        return int(self._field("epoch") or 0)

    def silence(self) -> float:
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.hget(self._keys.run, "reaped")
        (seconds, micros), reaped = pipe.execute()
        return float(max(seconds + micros / 1e6 - int(reaped) / 1000, 0.0)) if reaped else 0.0

    def incarnation(self) -> str:
        try:
            facts: Any = self._client.info("server")
        except redis.exceptions.NoPermissionError:
            return ""
        return str(facts.get("run_id", ""))

    def abandon(self) -> bool:
        if not self._verbs["abandon"](keys=[self._keys.run], args=[ABANDONED_MS]):
            return False
        self._expire_all(keys.ABANDONED_TTL)
        return True

    def spec(self) -> str | None:
        return self._field("spec")

    def publish_manifest(self, manifest: str) -> None:
        # Not for a run that the store has forgotten: the field alone would be a key without an end.
        if self._client.exists(self._keys.run):
            self._client.hset(self._keys.run, "manifest", manifest)

    def manifest(self) -> str | None:
        return self._field("manifest")

    def publish_head(self, head: bytes) -> None:
        self._client.set(self._keys.head, head, ex=keys.RUN_TTL)

    def head(self) -> bytes | None:
        value: Any = self._client.get(self._keys.head)
        return value if isinstance(value, bytes) else None

    def offer(self, chunk: Chunk) -> None:
        names = [self._keys.run, self._keys.chunk(chunk.id), self._keys.events]
        arguments = [self._owner, chunk.id, chunk.attempt, _payload(chunk), chunk.avoid, AVOID_MS]
        self._mine(self._verbs["offer"](keys=names, args=arguments))

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        # The client sends a command again when its answer does not come; the token shows the ledger that it is the same one.
        token = secrets.token_hex(8)
        reply = self._verbs["claim"](keys=self._all(chunk), args=[chunk, attempt, lease_ms, worker, slot, token])
        if text(reply[0]) != "ok":
            return Claim(text(reply[0]))
        return Claim("ok", int(reply[1]), Chunk.from_dict(json.loads(reply[2])), int(reply[3]))

    def renew(self, held: Held, lease_ms: int) -> str:
        return text(self._verbs["renew"](keys=self._all(held.chunk)[:3], args=[held.chunk, held.fence, lease_ms]))

    def append(self, held: Held, seq: int, records: str, lease_ms: int) -> str:
        args = [held.chunk, held.fence, held.attempt, seq, records, lease_ms, held.epoch]
        return text(self._verbs["append"](keys=self._all(held.chunk), args=args))

    def complete(self, held: Held, seq: int, summary: str) -> str:
        return self._end("complete", held, seq, summary)

    def release(self, held: Held, seq: int, reason: str) -> str:
        return self._end("release", held, seq, reason)

    def _end(self, verb: str, held: Held, seq: int, body: str) -> str:
        args = [held.chunk, held.fence, held.attempt, seq, body, held.epoch]
        return text(self._verbs[verb](keys=self._all(held.chunk), args=args))

    def reap(self) -> list[str]:
        names = [self._keys.run, self._keys.leases, self._keys.events]
        expired = self._mine(self._verbs["reap"](keys=names, args=[self._keys.chunk_prefix, STALL_MS, self._owner]))
        return [text(chunk) for chunk in expired]

    def _mine(self, reply: Any) -> Any:
        if reply in (b"superseded", "superseded"):
            raise Superseded(f"run {self._run} was adopted by another dispatcher (dct attach); this one leaves it alone")
        return reply

    def tell(self, worker: str, message: Mapping[str, Any]) -> None:
        self._verbs["tell"](keys=[self._keys.run, self._keys.events], args=[worker, json.dumps(message)])

    def read(self, after: str, *, block_ms: int, count: int = 500) -> list[StreamEntry]:
        reply: Any = self._client.xread({self._keys.events: after}, count=count, block=block_ms or None)
        return [_entry(text(id_), fields) for _, rows in reply or () for id_, fields in rows]

    def acknowledge(self, positions: Mapping[str, int]) -> None:
        if positions:
            pipe = self._client.pipeline(transaction=False)
            pipe.hset(self._keys.acks, mapping=dict[Any, Any](positions))
            pipe.expire(self._keys.acks, keys.RUN_TTL)
            pipe.execute()

    def acknowledged(self, keys_: Sequence[str]) -> list[int]:
        if not keys_:
            return []
        values: Any = self._client.hmget(self._keys.acks, list(keys_))
        return [int(value or 0) for value in values]

    def cancel(self, reason: str) -> None:
        self._verbs["cancel"](keys=[self._keys.run], args=[reason])

    def state(self) -> str:
        return self._field("state") or "none"

    def reason(self) -> str:
        return self._field("reason") or ""

    def refused(self) -> int:
        return int(self._field("refused") or 0)

    def extend(self, ttl_seconds: int = keys.RUN_TTL) -> None:
        self._expire(ttl_seconds)

    def close(self) -> None:
        if self._client.exists(self._keys.run):
            self._client.hset(self._keys.run, "state", "closed")
        self._expire_all(keys.CLOSED_TTL)

    def _expire_all(self, seconds: int) -> None:
        self._expire(seconds)
        for name in self._client.scan_iter(match=f"{_escape(self._keys.chunk_prefix)}*", count=1000):
            self._client.expire(name, seconds)

    def _expire(self, seconds: int) -> None:
        pipe = self._client.pipeline(transaction=False)
        for name in (self._keys.run, self._keys.leases, self._keys.events, self._keys.acks, self._keys.head):
            pipe.expire(name, seconds)
        pipe.execute()

    def _all(self, chunk: str) -> list[str]:
        return [self._keys.run, self._keys.chunk(chunk), self._keys.leases, self._keys.events]

    def _field(self, name: str) -> str | None:
        value: Any = self._client.hget(self._keys.run, name)
        return None if value is None else text(value)


def _escape(pattern: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in pattern)


def _entry(id_: str, fields: Mapping[Any, Any]) -> StreamEntry:
    named = {text(name): text(value) for name, value in fields.items()}
    data = named.get("d")
    return StreamEntry(
        id=id_,
        kind=named["k"],
        chunk=named.get("c", ""),
        attempt=int(named.get("a") or 0),
        fence=int(named.get("f") or 0),
        worker=named.get("w", ""),
        slot=int(named.get("s") or 0),
        seq=int(named.get("q") or 0),
        data=json.loads(data) if data else None,
        epoch=int(named.get("e") or 1),
    )


def _fields(entry: StreamEntry) -> dict[Any, Any]:
    """Inverse of `_entry`."""
    fields: dict[Any, Any] = {"k": entry.kind, "e": entry.epoch, "c": entry.chunk, "a": entry.attempt, "f": entry.fence}
    fields |= {"w": entry.worker, "s": entry.slot, "q": entry.seq}
    return fields if entry.data is None else {**fields, "d": json.dumps(entry.data)}


def _payload(chunk: Chunk) -> str:
    return json.dumps(chunk.to_dict(), separators=(",", ":"))


def _row(one: Standing) -> list[Any]:
    """What `reopen.lua` takes of one chunk."""
    state = "leased" if one.fence else "queued"
    holder = json.dumps([one.worker, one.slot])
    return [one.chunk.id, _payload(one.chunk), one.chunk.attempt, state, one.fence, holder, one.lease_ms]


def _batched(entries: Iterable[StreamEntry], size: int) -> Iterator[list[StreamEntry]]:
    entries = iter(entries)
    while batch := list(itertools.islice(entries, size)):
        yield batch
