"""What every timing store promises: the last sample of each test, per project."""

from __future__ import annotations

from dct_celery.adapters.redisstore import blobs as real
from tests.contract.conftest import Store


def test_samples_are_kept_and_the_last_one_counts(store: Store) -> None:
    # Given
    store.timings().save({"a.T.é": "1.5 1", "a.T.y": "2 1"})
    # When
    store.timings().save({"a.T.y": "3 2"})
    # Then
    assert store.timings().load() == {"a.T.é": "1.5 1", "a.T.y": "3 2"}


def test_a_project_without_samples_has_none(store: Store) -> None:
    # When
    store.timings("one").save({})
    store.timings("one").save({"a": "1 1"})
    # Then
    assert store.timings("two").load() == {}


def test_odd_ids_survive(store: Store) -> None:
    # Given
    odd = {"test_\udcff": "1 1", "test\n\x00": "1 1", "": "1 1"}
    # When
    store.timings().save(odd)
    # Then
    assert store.timings().load() == odd


def test_more_than_fits_one_round_trip_is_split(store: Store) -> None:
    # Given
    many = {f"t{number}": "1 1" for number in range(real._BATCH_KEYS + 1)}
    # When
    store.timings().save(many)
    # Then
    assert store.timings().load() == many
