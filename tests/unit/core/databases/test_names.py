"""Claims about `core.databases.names`: always recognised, never too long, never ambiguous."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.databases.names import (
    MAX_BYTES,
    OURS,
    clone_name,
    queue_name,
    run_token,
    slug,
    template_name,
)

TEXT = st.text(max_size=40)
WORDS = st.text("abAB01_-@.", max_size=20)
RUNS = st.from_regex(r"[a-z0-9][a-z0-9-]{5,25}", fullmatch=True)
NUMBERS = st.integers(0, 10**6)
HEX = st.text("0123456789abcdef", min_size=16, max_size=64)


@given(TEXT, NUMBERS, RUNS, TEXT, NUMBERS)
def test_every_clone_name_is_ours_and_fits(
    worker: str, slot: int, run: str, alias: str, number: int
) -> None:
    # When
    name = clone_name(worker, slot, run, alias, number)
    # Then
    assert OURS.match(name)
    assert len(name.encode()) <= MAX_BYTES


@given(HEX, TEXT, st.booleans(), TEXT)
def test_every_template_name_is_ours_and_fits(
    fingerprint: str, alias: str, flushed: bool, project: str
) -> None:
    # When
    name = template_name(fingerprint, alias, flushed=flushed, project=project)
    # Then
    assert OURS.match(name)
    assert len(name.encode()) <= MAX_BYTES


CLONES = st.tuples(WORDS, st.integers(0, 12), st.just("run-one"), WORDS, st.integers(0, 12))


@given(CLONES, CLONES)
def test_two_clones_never_share_a_name(
    one: tuple[str, int, str, str, int], two: tuple[str, int, str, str, int]
) -> None:
    assert (clone_name(*one) == clone_name(*two)) == (one == two)


@given(WORDS, WORDS, st.booleans(), st.booleans())
def test_two_templates_never_share_a_name(one: str, two: str, emptied: bool, other: bool) -> None:
    # When
    names = [
        template_name("a" * 64, one, flushed=emptied),
        template_name("a" * 64, two, flushed=other),
    ]
    # Then
    assert (names[0] == names[1]) == ((one, emptied) == (two, other))


@given(TEXT)
def test_no_text_can_pass_for_the_hash_of_another(text: str) -> None:
    # Given
    hashed = slug(text, 14)
    # Then
    assert hashed == text or slug(hashed, 14) != hashed


@pytest.mark.parametrize("text", ["default", "replica_2", "builda"])
def test_a_plain_short_alias_stays_readable(text: str) -> None:
    assert slug(text, 14) == text


@pytest.mark.parametrize(
    "name",
    [
        "bookshop",
        "test_",
        "test_ab",
        "Test_abc",
        "test_abc\n",
        "test_abc;",
        "test_" + "a" * 59,
        " test_abc",
        "test_äbc",
    ],
)
def test_what_we_cannot_have_made_is_not_ours(name: str) -> None:
    assert not OURS.match(name)


def test_two_runs_have_different_tokens_and_queues() -> None:
    assert run_token("run-one") != run_token("run-two")
    assert queue_name("run-one") == "dct.run.run-one"
