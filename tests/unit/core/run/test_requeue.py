"""What comes back from a chunk goes out again, first of all and whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.model import Chunk, Manifest, Need, Phase
from dct_celery.core.plan.planner import Planner, atoms
from dct_celery.core.plan.timings import Estimates
from tests.support.factories import group, make_atom, make_manifest, suites

FREE: frozenset[str] = frozenset()
SLOTS = st.integers(1, 9)


def _planner_and_chunk(*locks: str) -> tuple[Planner, Chunk]:
    planner = Planner([make_atom(number, 0.25, locks=locks) for number in range(100)])
    chunk = planner.next_chunk(10, FREE)
    assert chunk is not None
    assert chunk.indices == (0, 1, 2, 3, 4)
    return planner, chunk


def test_what_is_given_back_comes_next_as_a_new_attempt() -> None:
    # Given
    planner, chunk = _planner_and_chunk()
    before = planner.remaining_seconds
    # When
    retry = planner.requeue(chunk, (4, 3), fresh_process=True)
    # Then
    assert planner.remaining_seconds == before + 0.5
    assert planner.next_chunk(10, FREE) is retry
    assert (retry.id, retry.indices, retry.attempt, retry.fresh_process) == ("c2", (3, 4), 2, True)
    assert (retry.phase, retry.need, retry.locks) == (chunk.phase, chunk.need, chunk.locks)
    assert retry.estimate == 0.5
    following = planner.next_chunk(10, FREE)
    assert following is not None
    assert (following.id, following.attempt) == ("c3", 1)


def test_the_last_given_back_comes_first() -> None:
    # Given
    planner, chunk = _planner_and_chunk()
    # When
    retries = [planner.requeue(chunk, (index,), fresh_process=False) for index in (0, 1)]
    # Then
    assert [planner.next_chunk(10, FREE), planner.next_chunk(10, FREE)] == retries[::-1]


def test_what_is_given_back_waits_for_its_lock() -> None:
    # Given
    planner, chunk = _planner_and_chunk("port:1")
    while planner.next_chunk(10, FREE):
        pass
    # When
    retry = planner.requeue(chunk, (0,), fresh_process=True)
    # Then
    assert planner.next_chunk(10, frozenset({"port:1"})) is None
    assert planner.next_chunk(10, FREE) is retry
    assert planner.next_chunk(10, FREE) is None


@pytest.mark.parametrize("indices", [(), (7,), (0, 7)])
def test_only_a_part_of_a_chunk_can_be_given_back(indices: tuple[int, ...]) -> None:
    # Given
    planner, chunk = _planner_and_chunk()
    # When / Then
    with pytest.raises(ValueError, match="cannot requeue"):
        planner.requeue(chunk, indices, fresh_process=True)


@pytest.mark.parametrize(("indices", "need"), [((0, 1, 2), Need.PRISTINE), ((1, 2), Need.FLUSHED)])
def test_after_the_first_transactional_test_its_class_goes_on_with_flushed_data(
    indices: tuple[int, ...], need: Need
) -> None:
    # Given
    manifest = make_manifest(group("a.T", Phase.TRANSACTIONAL, 3))
    planner = Planner(atoms(manifest, Estimates({})))
    chunk = planner.next_chunk(1, FREE)
    assert chunk is not None
    # When
    retry = planner.requeue(chunk, indices, fresh_process=True)
    # Then
    assert retry.need is need


def test_isolated_tests_given_back_still_need_pristine_data() -> None:
    # Given
    planner, chunk = _planner_and_chunk()
    # When
    retry = planner.requeue(chunk, (3,), fresh_process=True)
    # Then
    assert retry.need is Need.PRISTINE


@given(suites(), SLOTS, st.randoms(use_true_random=False))
def test_what_comes_back_is_not_lost_and_not_doubled(
    suite: tuple[Manifest, Estimates], slots: int, chance: random.Random
) -> None:
    # Given
    manifest, estimates = suite
    planner = Planner(atoms(manifest, estimates))
    done: list[int] = []
    # When
    while (chunk := planner.next_chunk(slots, FREE)) is not None:
        keep = chance.randint(0, len(chunk.indices)) if chunk.attempt < 3 else len(chunk.indices)
        done += chunk.indices[:keep]
        if chunk.indices[keep:]:
            planner.requeue(chunk, chunk.indices[keep:], fresh_process=True)
    # Then
    assert sorted(done) == list(range(len(manifest)))
