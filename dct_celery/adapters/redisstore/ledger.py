"""The ledger port on Redis: one typed method per Lua verb."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.client import script, text, translating
from dct_celery.core.model import Chunk
from dct_celery.ports import STALL_MS, Claim, StreamEntry

_VERBS = ("open_run", "offer", "claim", "renew", "append", "complete", "release", "reap", "cancel", "tell")


@translating
class RedisLedger:
    """Ledger of one run. Every method raises StoreUnavailable when the store does not answer or refuses."""

    def __init__(self, client: redis.Redis, run: str) -> None:
        self._client = client
        self._keys = keys.RunKeys(run)
        self._verbs: dict[str, Any] = {name: script(client, name) for name in _VERBS}

    def open_run(self, owner: str, spec: str, ttl_seconds: int = keys.RUN_TTL) -> bool:
        return bool(self._verbs["open_run"](keys=[self._keys.run], args=[owner, spec, ttl_seconds]))

    def spec(self) -> str | None:
        return self._field("spec")

    def publish_manifest(self, manifest: str) -> None:
        # Not for a run that the store has forgotten: the field alone would be a key without an end.
        if self._client.exists(self._keys.run):
            self._client.hset(self._keys.run, "manifest", manifest)

    def manifest(self) -> str | None:
        return self._field("manifest")

    def offer(self, chunk: Chunk) -> None:
        payload = json.dumps(chunk.to_dict(), separators=(",", ":"))
        self._verbs["offer"](keys=[self._keys.run, self._keys.chunk(chunk.id)], args=[chunk.attempt, payload])

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        # The client sends a command again when its answer does not come; the token shows the ledger that it is the same one.
        token = secrets.token_hex(8)
        reply = self._verbs["claim"](keys=self._all(chunk), args=[chunk, attempt, lease_ms, worker, slot, token])
        if text(reply[0]) != "ok":
            return Claim(text(reply[0]))
        return Claim("ok", int(reply[1]), Chunk.from_dict(json.loads(reply[2])))

    def renew(self, chunk: str, fence: int, lease_ms: int) -> str:
        return text(self._verbs["renew"](keys=self._all(chunk)[:3], args=[chunk, fence, lease_ms]))

    def append(self, chunk: str, fence: int, attempt: int, seq: int, records: str, lease_ms: int) -> str:
        return text(self._verbs["append"](keys=self._all(chunk), args=[chunk, fence, attempt, seq, records, lease_ms]))

    def complete(self, chunk: str, fence: int, attempt: int, seq: int, summary: str) -> str:
        return text(self._verbs["complete"](keys=self._all(chunk), args=[chunk, fence, attempt, seq, summary]))

    def release(self, chunk: str, fence: int, attempt: int, seq: int, reason: str) -> str:
        return text(self._verbs["release"](keys=self._all(chunk), args=[chunk, fence, attempt, seq, reason]))

    def reap(self) -> list[str]:
        names = [self._keys.run, self._keys.leases, self._keys.events]
        expired = self._verbs["reap"](keys=names, args=[self._keys.chunk_prefix, STALL_MS])
        return [text(chunk) for chunk in expired]

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

    def refused(self) -> int:
        return int(self._field("refused") or 0)

    def extend(self, ttl_seconds: int = keys.RUN_TTL) -> None:
        self._expire(ttl_seconds)

    def close(self) -> None:
        if self._client.exists(self._keys.run):
            self._client.hset(self._keys.run, "state", "closed")
        self._expire(keys.CLOSED_TTL)
        for name in self._client.scan_iter(match=f"{_escape(self._keys.chunk_prefix)}*", count=1000):
            self._client.expire(name, keys.CLOSED_TTL)

    def _expire(self, seconds: int) -> None:
        pipe = self._client.pipeline(transaction=False)
        for name in (self._keys.run, self._keys.leases, self._keys.events, self._keys.acks):
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
    )
