"""What every blob store promises.

What was put is there, byte for byte, and the rest is known to be missing.
"""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
import redis

from dct_celery.adapters.redisstore import blobs as real
from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.client import connect
from dct_celery.core.ids import digest_of
from tests.contract.conftest import Store

_ONE = digest_of(b"one")
_NOTHING = digest_of(b"nobody has put this")


def named(*contents: bytes) -> dict[str, bytes]:
    return {digest_of(content): content for content in contents}


def sizes(blobs: dict[str, bytes]) -> dict[str, int]:
    return {digest: len(content) for digest, content in blobs.items()}


def test_what_was_put_comes_back_byte_for_byte(store: Store) -> None:
    # Given
    blobs = named(b"", bytes(range(256)) * 100, "é".encode())
    # When
    store.blobs().put(blobs.items())
    # Then
    assert store.blobs().get(sizes(blobs)) == blobs


def test_only_what_is_not_there_is_missing(store: Store) -> None:
    # Given
    store.blobs().put([(_ONE, b"one")])
    # Then
    assert store.blobs().missing([_ONE, "d2", "d3"]) == {"d2", "d3"}
    assert store.blobs().missing([]) == set()


def test_what_is_not_there_is_left_out(store: Store) -> None:
    # Given
    store.blobs().put([(_ONE, b"one")])
    # Then
    assert store.blobs().get({_ONE: 3, _NOTHING: 10}) == {_ONE: b"one"}
    assert store.blobs().get({}) == {}


def test_a_file_of_a_run_is_neither_code_nor_of_another_run(store: Store) -> None:
    """A run drops its files when it has ended; a file may have the content of one of the code."""
    # Given
    for blobs in (store.blobs(), store.blobs("run-a"), store.blobs("run-b")):
        blobs.put([(_ONE, b"one")])
    # When
    store.blobs("run-a").drop([_ONE])
    # Then
    assert store.blobs("run-a").get({_ONE: 3}) == {}
    assert store.blobs("run-b").get({_ONE: 3}) == store.blobs().get({_ONE: 3}) == {_ONE: b"one"}


def test_nothing_and_the_same_may_be_put(store: Store) -> None:
    # When
    store.blobs().put([])
    store.blobs().put([(_ONE, b"one"), (_ONE, b"one")])
    # Then
    assert store.blobs().get({_ONE: 3}) == {_ONE: b"one"}


def test_more_than_fits_one_round_trip_is_split(store: Store) -> None:
    # Given
    many = named(*(b"%d" % number for number in range(real._BATCH_KEYS + 1)))
    # When
    store.blobs().put(many.items())
    # Then
    assert store.blobs().missing([*many, "other"]) == {"other"}
    assert store.blobs().get(sizes(many)) == many


def test_a_bound_need_not_be_the_exact_size(store: Store) -> None:
    # Given
    store.blobs().put([(_ONE, b"one")])
    # Then
    assert store.blobs().get({_ONE: 1000}) == {_ONE: b"one"}


@pytest.mark.parametrize("content", [b"", b"eno", b"one more"])
def test_a_blob_that_does_not_match_its_digest_is_dropped_and_can_be_sent_again(
    store: Store, content: bytes
) -> None:
    # Given
    store.blobs().put([(_ONE, content)])
    # When
    assert store.blobs().get({_ONE: 3}) == {}
    # Then
    assert store.blobs().missing([_ONE]) == {_ONE}
    store.blobs().put([(_ONE, b"one")])
    assert store.blobs().get({_ONE: 3}) == {_ONE: b"one"}


def test_what_is_larger_than_it_may_be_is_dropped(store: Store) -> None:
    # Given
    store.blobs().put([(_ONE, b"one")])
    # When / Then
    assert store.blobs().get({_ONE: 2}) == {}
    assert store.blobs().missing([_ONE]) == {_ONE}


def test_a_request_for_blobs_reaches_the_dispatcher_of_its_tree_once(store: Store) -> None:
    # Given
    store.blobs().want("tree-a", ["d1", "d2"])
    store.blobs().want("tree-a", ["d2", "d3"])
    store.blobs().want("tree-a", [])
    # Then
    assert store.blobs().wanted("tree-b") == set()
    assert store.blobs().wanted("tree-a") == {"d1", "d2", "d3"}
    assert store.blobs().wanted("tree-a") == set()


# -- what others put into a Redis ------------------------------------------------------


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with connect(valkey_url) as client:
        yield client


@pytest.mark.parametrize(
    "packed",
    [
        b"\0",
        b"garbage",
        zlib.compress(b"one")[:-1],
        zlib.compress(b"one") + b"x",
        zlib.compress(b"two"),
        zlib.compress(b"one" * 9),
    ],
)
def test_bytes_that_are_not_the_blob_are_dropped(client: redis.Redis, packed: bytes) -> None:
    # Given
    client.set(keys.blob(_ONE), packed, ex=60)
    # When / Then
    assert real.RedisBlobs(client).get({_ONE: 3}) == {}
    assert not client.exists(keys.blob(_ONE))


def test_another_kind_of_value_is_dropped_and_stops_nothing(client: redis.Redis) -> None:
    # Given
    client.delete(keys.blob(_ONE), keys.wanted("tree"))
    client.rpush(keys.blob(_ONE), "x")
    client.set(keys.wanted("tree"), "x", ex=60)
    # When / Then
    assert real.RedisBlobs(client).get({_ONE: 3}) == {}
    assert not client.exists(keys.blob(_ONE))
    assert real.RedisBlobs(client).wanted("tree") == set()
    client.delete(keys.wanted("tree"))


def test_a_good_blob_that_came_meanwhile_is_not_dropped(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a dispatcher that sends it again between the check and the drop
    blobs = real.RedisBlobs(client)
    client.set(keys.blob(_ONE), zlib.compress(b"eno", 1), ex=60)
    unpacked = real._unpacked

    def slowly(packed: bytes, size: int) -> bytes | None:
        blobs.put([(_ONE, b"one")])
        return unpacked(packed, size)

    monkeypatch.setattr(real, "_unpacked", slowly)
    # When
    assert blobs.get({_ONE: 3}) == {}
    # Then
    assert blobs.missing([_ONE]) == set()
    client.delete(keys.blob(_ONE))


def test_a_blob_that_unpacks_to_gigabytes_costs_no_memory(client: redis.Redis) -> None:
    # Given
    packer = zlib.compressobj(9)
    piece = bytes(1024 * 1024)
    client.set(
        keys.blob(_ONE),
        b"".join(packer.compress(piece) for _ in range(1024)) + packer.flush(),
        ex=60,
    )
    # When
    tracemalloc.start()
    found = real.RedisBlobs(client).get({_ONE: 10_000})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Then
    assert found == {}
    assert peak < 1_000_000
    assert not client.exists(keys.blob(_ONE))


def test_requests_that_are_no_text_are_ignored(client: redis.Redis) -> None:
    # Given
    client.sadd(keys.wanted("tree"), b"\xff", "d1")
    # When / Then
    assert "d1" in real.RedisBlobs(client).wanted("tree")
