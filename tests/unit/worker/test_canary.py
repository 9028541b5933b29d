"""What a database server in trouble did is told from what a test did."""

from __future__ import annotations

import pytest

from dct_celery.errors import DatabaseError
from dct_celery.worker.canary import LOOK_SECONDS, Canary
from tests.support.memory_database import MemoryDatabases, MemoryServer


def test_a_server_that_is_as_it_was_is_no_trouble() -> None:
    # Given
    canary = Canary([MemoryServer()])
    canary.remember()
    # Then
    assert canary.trouble() == ""


def test_a_restart_is_trouble_until_it_is_remembered() -> None:
    # Given
    world = MemoryDatabases()
    canary = Canary([MemoryServer(), MemoryServer(world)])
    canary.remember()
    # When
    world.life += 1
    # Then
    assert canary.trouble() == "memory:0 was restarted"
    assert not canary.away()
    canary.remember()
    assert canary.trouble() == ""


def test_a_server_that_does_not_answer_is_trouble_and_away() -> None:
    # Given
    world = MemoryDatabases()
    canary = Canary([MemoryServer(world)])
    canary.remember()
    # When
    world.down = True
    # Then
    assert "does not answer" in canary.trouble()
    assert canary.away()


def test_nobody_waits_for_a_server_when_there_is_nothing_to_wait_for_any_more() -> None:
    # Given
    world = MemoryDatabases(down=True)
    # Then
    assert not Canary([MemoryServer(world)]).wait(60.0, give_up=lambda: True)
    world.down = False
    assert Canary([MemoryServer(world)]).wait(0.0, give_up=lambda: False)


def test_who_waits_is_told_of_a_server_that_is_gone_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    now = [100.0]
    monkeypatch.setattr("dct_celery.worker.canary.time.monotonic", lambda: now[0])
    world = MemoryDatabases()
    canary = Canary([MemoryServer(world)])
    canary.remember()
    world.down = True
    # When
    canary.watch()
    now[0] += LOOK_SECONDS
    # Then
    with pytest.raises(DatabaseError, match="does not answer"):
        canary.watch()
