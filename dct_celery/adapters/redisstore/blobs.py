"""The blob and timing ports on Redis."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis

from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.client import script, text, translating
from dct_celery.core.ids import digest_of

#: Most bytes or commands per round trip.
_BATCH_BYTES = 1024 * 1024
_BATCH_KEYS = 1000
_BATCH_GETS = 200
#: Most bytes of content that one round trip brings, where it brings several blobs.
_BATCH_CONTENT = 32 * 1024 * 1024
#: Digests that are requested at a time, and the lifetime of a request in seconds.
_WANTED = 1000
_WANTED_TTL = 120


@translating
class RedisBlobs:
    """Blobs, compressed with zlib level 1.

    It shrinks source text to a third at little cost and is in every standard library.
    """

    def __init__(self, client: redis.Redis, run: str = "") -> None:
        """`run`: only files that this run has sent; empty for what all runs share."""
        self._client = client
        self._run = run
        self._drop = script(client, "dropblob")

    def missing(self, digests: Sequence[str]) -> set[str]:
        absent: set[str] = set()
        for start in range(0, len(digests), _BATCH_KEYS):
            batch = digests[start : start + _BATCH_KEYS]
            pipe = self._client.pipeline(transaction=False)
            for digest in batch:
                pipe.expire(self._key(digest), keys.BLOB_TTL)  # answers 0 for a missing key
            absent.update(
                digest for digest, alive in zip(batch, pipe.execute(), strict=True) if not alive
            )
        return absent

    def put(self, blobs: Iterable[tuple[str, bytes]], seconds: int = keys.BLOB_TTL) -> None:
        pipe = self._client.pipeline(transaction=False)
        size = 0
        for digest, content in blobs:
            packed = zlib.compress(content, 1)
            pipe.set(self._key(digest), packed, ex=seconds)
            size += len(packed)
            if size > _BATCH_BYTES:
                pipe.execute()
                size = 0
        pipe.execute()

    def drop(self, digests: Iterable[str]) -> None:
        if names := [self._key(digest) for digest in digests]:
            self._client.unlink(*names)

    def get(self, sizes: Mapping[str, int]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for batch in _batches(sizes):
            pipe = self._client.pipeline(transaction=False)
            for digest in batch:
                # Never more than a content of this size can need, whatever is stored there.
                pipe.getrange(self._key(digest), 0, _longest(sizes[digest]))
            for digest, packed in zip(batch, pipe.execute(raise_on_error=False), strict=True):
                content = _unpacked(packed, sizes[digest]) if isinstance(packed, bytes) else None
                if content is not None and digest_of(content) == digest:
                    found[digest] = content
                elif isinstance(packed, redis.ResponseError) and "WRONGTYPE" not in str(packed):
                    raise packed
                elif packed != b"":  # empty for a missing key
                    # Only if unchanged: another process may have sent a good copy meanwhile.
                    self._drop(
                        keys=[self._key(digest)],
                        args=[packed if isinstance(packed, bytes) else b""],
                    )
        return found

    def _key(self, digest: str) -> str:
        return keys.blob(digest, self._run)

    def want(self, tree: str, digests: Iterable[str]) -> None:
        asked = sorted(digests)[:_WANTED]
        if asked:
            pipe = self._client.pipeline(transaction=False)
            pipe.sadd(keys.wanted(tree), *asked)
            pipe.expire(keys.wanted(tree), _WANTED_TTL)
            pipe.execute()

    def wanted(self, tree: str) -> set[str]:
        try:
            members: Any = self._client.spop(keys.wanted(tree), _WANTED)
        except redis.ResponseError:
            return set()  # the key holds something else; not worth failing a run
        return {member.decode("ascii", "replace") for member in members or ()}


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    content = 0
    for digest, size in sizes.items():
        if batch and (len(batch) >= _BATCH_GETS or content + size > _BATCH_CONTENT):
            yield batch
            batch, content = [], 0
        batch.append(digest)
        content += size
    if batch:
        yield batch


def _longest(size: int) -> int:
    """Upper bound of the compressed size."""
    return size + size // 1000 + 100


def _unpacked(packed: bytes, size: int) -> bytes | None:
    """The content, if it is complete and at most this long; never inflates more than that."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, size + 1)
    except zlib.error:
        return None
    return content if unpacker.eof and len(content) <= size and not unpacker.unused_data else None


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
