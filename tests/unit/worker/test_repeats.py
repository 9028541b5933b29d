"""A warning that says the same is printed once in a while."""

from __future__ import annotations

import logging

import pytest

from dct_celery.worker.repeats import QUIET_SECONDS, RepeatedWarnings


def record(
    text: str, at: float, name: str = "dct_celery.worker", level: int = logging.WARNING
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, __file__, 1, "lease: %s", (text,), None)
    made.created = at
    return made


@pytest.fixture
def repeats() -> RepeatedWarnings:
    return RepeatedWarnings()


def test_the_same_warning_is_left_out_for_a_while(repeats: RepeatedWarnings) -> None:
    # Given
    assert repeats.filter(record("no store", 100.0))
    # When, Then
    assert not repeats.filter(record("no store", 101.0))
    assert repeats.filter(record("no disk", 101.0))


def test_the_next_one_says_how_many_were_left_out(repeats: RepeatedWarnings) -> None:
    # Given
    for at in (100.0, 101.0, 102.0):
        repeats.filter(record("no store", at))
    late = record("no store", 100.0 + QUIET_SECONDS)
    # When
    passed = repeats.filter(late)
    # Then
    assert passed
    assert late.getMessage() == "lease: no store (2 times more since)"


@pytest.mark.parametrize(
    "made",
    [
        record("no store", 101.0, name="celery.worker"),
        record("no store", 101.0, level=logging.ERROR),
        record("no store", 101.0, level=logging.INFO),
        record("no store", 99.0),
    ],
    ids=["another's", "an error", "an information", "a clock set back"],
)
def test_what_is_no_repeated_warning_of_ours_passes(
    repeats: RepeatedWarnings, made: logging.LogRecord
) -> None:
    # Given
    repeats.filter(record("no store", 100.0))
    # When, Then
    assert repeats.filter(made)
