"""Claims about `core.databases.clone_state`: a chunk starts as it would in a sequential run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.databases.clone_state import CloneState
from dct_celery.core.model import Chunk, Need, Phase

PRISTINE = CloneState()
FLUSHED = CloneState(("default",))
ISOLATED = Chunk("c1", (0,), Phase.ISOLATED, Need.PRISTINE)
NO_DATABASE = Chunk("c2", (1,), Phase.NO_DATABASE, Need.ANY)
FIRST_TRANSACTIONAL = Chunk("c3", (2,), Phase.TRANSACTIONAL, Need.PRISTINE, flushes=("default",))
TRANSACTIONAL = Chunk(
    "c4", (3,), Phase.TRANSACTIONAL, Need.FLUSHED, flushed=("default",), flushes=("default",)
)
UNMANAGED = Chunk("c5", (4,), Phase.UNMANAGED, Need.PRISTINE)
UNMANAGED_FLUSHED = replace(UNMANAGED, need=Need.FLUSHED, flushed=("default",))
CHUNKS = [ISOLATED, NO_DATABASE, FIRST_TRANSACTIONAL, TRANSACTIONAL, UNMANAGED, UNMANAGED_FLUSHED]
STATES = [
    PRISTINE,
    FLUSHED,
    *(
        CloneState(flushed, phase)
        for flushed in ((), ("default",))
        for phase in (Phase.TRANSACTIONAL, Phase.UNMANAGED)
    ),
]


@pytest.mark.parametrize("chunk", [ISOLATED, NO_DATABASE])
def test_tests_that_roll_back_leave_the_clone_as_it_was(chunk: Chunk) -> None:
    assert PRISTINE.after(chunk) == PRISTINE
    assert PRISTINE.after(chunk).suits(ISOLATED)


@pytest.mark.parametrize(
    "spender", [FIRST_TRANSACTIONAL, TRANSACTIONAL, UNMANAGED, UNMANAGED_FLUSHED]
)
def test_a_spent_clone_never_suits_an_isolated_test(spender: Chunk) -> None:
    assert not PRISTINE.after(spender).suits(ISOLATED)


@pytest.mark.parametrize("state", STATES)
def test_a_chunk_that_asks_for_a_fresh_fork_gets_one(state: CloneState) -> None:
    assert not any(state.suits(replace(chunk, fresh_process=True)) for chunk in CHUNKS)


@pytest.mark.parametrize("state", STATES)
def test_tests_without_databases_run_anywhere(state: CloneState) -> None:
    assert state.suits(NO_DATABASE)


def test_a_transactional_test_goes_on_where_one_has_flushed() -> None:
    # When
    state = PRISTINE.after(FIRST_TRANSACTIONAL)
    # Then
    assert state == CloneState(("default",), Phase.TRANSACTIONAL)
    assert state.suits(TRANSACTIONAL)


def test_the_first_transactional_test_finds_what_the_migrations_left() -> None:
    assert PRISTINE.suits(FIRST_TRANSACTIONAL)
    assert not FLUSHED.suits(FIRST_TRANSACTIONAL)
    assert not PRISTINE.suits(TRANSACTIONAL)


def test_a_transactional_test_that_flushes_nothing_spends_the_clone_all_the_same() -> None:
    # When
    state = PRISTINE.after(replace(FIRST_TRANSACTIONAL, flushes=()))
    # Then
    assert not state.suits(FIRST_TRANSACTIONAL)


def test_no_transactional_test_runs_on_what_an_unmanaged_one_left() -> None:
    assert not FLUSHED.after(UNMANAGED_FLUSHED).suits(TRANSACTIONAL)


def test_unmanaged_tests_see_what_those_before_them_left() -> None:
    assert PRISTINE.after(UNMANAGED).suits(UNMANAGED)
    assert FLUSHED.after(TRANSACTIONAL).suits(UNMANAGED_FLUSHED)
    assert not FLUSHED.suits(UNMANAGED)


@given(st.lists(st.sampled_from(CHUNKS)))
def test_what_was_flushed_is_never_full_again(chunks: list[Chunk]) -> None:
    # Given
    state = PRISTINE
    for chunk in chunks:
        # When
        after = state.after(chunk)
        # Then
        assert set(after.flushed) >= set(state.flushed)
        state = after
