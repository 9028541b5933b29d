"""What every blob store promises: what was put is there, byte for byte, and the rest is known to be missing."""

from __future__ import annotations

from dct_celery.adapters.redisstore import blobs as real
from tests.contract.conftest import Store


def test_what_was_put_comes_back_byte_for_byte(store: Store) -> None:
    # Given
    blobs = {"d1": b"", "d2": bytes(range(256)) * 100, "d3": "é".encode()}
    # When
    store.blobs().put(blobs.items())
    # Then
    assert store.blobs().get(["d3", "d1", "d2"]) == blobs


def test_only_what_is_not_there_is_missing(store: Store) -> None:
    # Given
    store.blobs().put([("d1", b"one")])
    # Then
    assert store.blobs().missing(["d1", "d2", "d3"]) == {"d2", "d3"}
    assert store.blobs().missing([]) == set()


def test_what_is_not_there_is_left_out(store: Store) -> None:
    # Given
    store.blobs().put([("d1", b"one")])
    # Then
    assert store.blobs().get(["d1", "d2"]) == {"d1": b"one"}
    assert store.blobs().get([]) == {}


def test_nothing_and_the_same_may_be_put(store: Store) -> None:
    # When
    store.blobs().put([])
    store.blobs().put([("d1", b"one"), ("d1", b"one")])
    # Then
    assert store.blobs().get(["d1"]) == {"d1": b"one"}


def test_more_than_goes_into_one_round_trip_is_no_matter(store: Store) -> None:
    # Given
    many = {f"d{number}": b"%d" % number for number in range(real._BATCH_KEYS + 1)}
    # When
    store.blobs().put(many.items())
    # Then
    assert store.blobs().missing([*many, "other"]) == {"other"}
    assert store.blobs().get(list(many)) == many
