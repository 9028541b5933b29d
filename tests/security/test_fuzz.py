"""A few examples for every door; `python -m tests.security.fuzz` plays as many as one likes."""

from __future__ import annotations

import pytest

from tests.security.fuzz import DOORS, play


@pytest.mark.parametrize("door", sorted(DOORS))
def test_a_door_lets_through_only_valid_messages(door: str) -> None:
    play(door, 150)
