"""Slots back off one by one: as many as the server has no room for, and any that gets no databases,
longer each time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.worker.health.slot_backoff import (
    LONGEST_PAUSE,
    Permits,
    SlotBackoff,
    backing_off,
    backoff_seconds,
)
from dct_celery.worker.host.preparation import slots_that_fit


def test_each_pause_is_twice_as_long_up_to_a_limit() -> None:
    assert [backoff_seconds(n) for n in (1, 2, 3, 4, 5, 500)] == [
        2,
        4,
        8,
        16,
        LONGEST_PAUSE,
        LONGEST_PAUSE,
    ]


def test_a_pause_is_seen_by_others_and_ends(tmp_path: Path) -> None:
    # Given
    backoff = SlotBackoff(tmp_path / "1")
    # When
    backoff.begin("no room", now=100.0)
    # Then
    assert backoff.lasts(101.9)
    assert backing_off(tmp_path, 101.9) == ["no room"]
    assert not backoff.lasts(102.0)
    assert backing_off(tmp_path, 102.0) == []


def test_a_success_makes_the_next_pause_a_first_one(tmp_path: Path) -> None:
    # Given
    backoff = SlotBackoff(tmp_path / "1")
    assert [backoff.begin("no room", now=0.0) for _ in range(3)] == [2, 4, 8]
    # When
    backoff.succeeded()
    # Then
    assert backing_off(tmp_path, 1.0) == []
    assert backoff.begin("no room", now=0.0) == 2


def test_as_many_slots_work_as_there_are_permits(tmp_path: Path) -> None:
    # Given
    slots = [Permits(tmp_path, 2) for _ in range(4)]
    # Then
    assert [slot.have() for slot in slots] == [True, True, False, False]
    assert slots[0].have()
    slots[0].give_back()
    assert slots[3].have()
    assert not slots[0].have()
    for slot in slots:
        slot.give_back()


@pytest.mark.parametrize(
    ("free", "aliases", "fit"),
    [(100, 1, 4), (10, 1, 4), (9, 1, 3), (4, 1, 1), (2, 1, 1), (12, 2, 2), (4, 2, 1)],
)
def test_slots_fit_by_their_connections(free: int, aliases: int, fit: int) -> None:
    assert slots_that_fit(4, free, aliases) == fit
