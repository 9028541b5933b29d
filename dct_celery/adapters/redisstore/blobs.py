"""The blob and timing ports on Redis."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.client import text, translating

#: Bytes or commands per round trip.
_BATCH_BYTES = 1024 * 1024
_BATCH_KEYS = 1000


@translating
class RedisBlobs:
    """Blobs as zlib level 1: source text shrinks to a third at little cost, and the standard library has it everywhere."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def missing(self, digests: Sequence[str]) -> set[str]:
        absent: set[str] = set()
        for start in range(0, len(digests), _BATCH_KEYS):
            batch = digests[start : start + _BATCH_KEYS]
            pipe = self._client.pipeline(transaction=False)
            for digest in batch:
                pipe.expire(keys.blob(digest), keys.BLOB_TTL)  # answers 0 for what is not there
            absent.update(digest for digest, alive in zip(batch, pipe.execute(), strict=True) if not alive)
        return absent

    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        pipe = self._client.pipeline(transaction=False)
        size = 0
        for digest, content in blobs:
            packed = zlib.compress(content, 1)
            pipe.set(keys.blob(digest), packed, ex=keys.BLOB_TTL)
            size += len(packed)
            if size > _BATCH_BYTES:
                pipe.execute()
                size = 0
        pipe.execute()

    def get(self, digests: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, len(digests), 200):
            batch = digests[start : start + 200]
            values: Any = self._client.mget([keys.blob(digest) for digest in batch])
            found.update(
                {digest: zlib.decompress(value) for digest, value in zip(batch, values, strict=True) if value is not None}
            )
        return found


@translating
class RedisTimings:
    """Timings of one project: a hash of sample texts."""

    def __init__(self, client: redis.Redis, project: str) -> None:
        self._client = client
        self._key = keys.timings(project)

    def load(self) -> dict[str, str]:
        values: Any = self._client.hgetall(self._key)
        return {text(name): text(value) for name, value in values.items()}

    def save(self, samples: Mapping[str, str]) -> None:
        items = list(samples.items())
        pipe = self._client.pipeline(transaction=False)
        for start in range(0, len(items), _BATCH_KEYS):
            pipe.hset(self._key, mapping=dict(items[start : start + _BATCH_KEYS]))
        if items:
            pipe.expire(self._key, keys.TIMINGS_TTL)
        pipe.execute()
