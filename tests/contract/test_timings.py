"""What every timing store promises: the last sample of each test, per project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dct_celery.adapters.local_timings import FileTimings
from dct_celery.adapters.redisstore import blobs as real
from dct_celery.ports import TimingStore
from tests.contract.conftest import Store

Of = Callable[[str], TimingStore]


@pytest.fixture(params=["store", "file"])
def timings(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Of:
    """The timings of a project."""
    if request.param == "file":
        return lambda project: FileTimings(tmp_path, project)
    return store.timings


def test_samples_are_kept_and_the_last_one_counts(timings: Of) -> None:
    # Given
    timings("shop").save({"a.T.é": "1.5 1", "a.T.y": "2 1"})
    # When
    timings("shop").save({"a.T.y": "3 2"})
    # Then
    assert timings("shop").load() == {"a.T.é": "1.5 1", "a.T.y": "3 2"}


def test_a_project_without_samples_has_none(timings: Of) -> None:
    # When
    timings("one").save({})
    timings("one").save({"a": "1 1"})
    # Then
    assert timings("two").load() == {}


def test_odd_ids_survive(timings: Of) -> None:
    # Given
    odd = {"test_\udcff": "1 1", "test\n\x00": "1 1", "": "1 1"}
    # When
    timings("shop").save(odd)
    # Then
    assert timings("shop").load() == odd


def test_more_than_fits_one_round_trip_is_split(timings: Of) -> None:
    # Given
    many = {f"t{number}": "1 1" for number in range(real._BATCH_KEYS + 1)}
    # When
    timings("shop").save(many)
    # Then
    assert timings("shop").load() == many
