"""An outage of a database server is told apart from a fault of a test."""

from __future__ import annotations

import pytest

from dct_celery.errors import DatabaseError
from dct_celery.worker.databases.server_probe import POLL_SECONDS, ServerProbe
from tests.support.fake_clock import FakeClock
from tests.support.memory_database import MemoryDatabases, MemoryServer


def test_a_server_that_is_as_it_was_has_no_outage() -> None:
    # Given
    probe = ServerProbe([MemoryServer()], FakeClock())
    probe.remember()
    # Then
    assert probe.outage() == ""


def test_a_restart_is_an_outage_until_it_is_remembered() -> None:
    # Given
    world = MemoryDatabases()
    probe = ServerProbe([MemoryServer(), MemoryServer(world)], FakeClock())
    probe.remember()
    # When
    world.life += 1
    # Then
    assert probe.outage() == "memory:0 was restarted"
    assert not probe.away()
    probe.remember()
    assert probe.outage() == ""


def test_a_server_that_does_not_answer_has_an_outage_and_is_away() -> None:
    # Given
    world = MemoryDatabases()
    probe = ServerProbe([MemoryServer(world)], FakeClock())
    probe.remember()
    # When
    world.down = True
    # Then
    assert "does not answer" in probe.outage()
    assert probe.away()


def test_a_server_is_not_waited_for_once_its_caller_gives_up() -> None:
    # Given
    world = MemoryDatabases(down=True)
    # Then
    assert not ServerProbe([MemoryServer(world)], FakeClock()).wait(60.0, give_up=lambda: True)
    world.down = False
    assert ServerProbe([MemoryServer(world)], FakeClock()).wait(0.0, give_up=lambda: False)


def test_a_caller_that_waits_learns_of_a_server_that_is_gone() -> None:
    # Given
    clock = FakeClock()
    world = MemoryDatabases()
    probe = ServerProbe([MemoryServer(world)], clock)
    probe.remember()
    world.down = True
    # When
    probe.watch()
    clock.now += POLL_SECONDS
    # Then
    with pytest.raises(DatabaseError, match="does not answer"):
        probe.watch()


def test_a_server_that_comes_back_in_time_is_waited_for() -> None:
    # Given
    clock, world = FakeClock(), MemoryDatabases(down=True)
    clock.at(3.2, lambda: setattr(world, "down", False))
    # Then
    assert ServerProbe([MemoryServer(world)], clock).wait(60.0, give_up=lambda: False)
    assert clock.waits == [0.5] * 7


def test_a_server_that_stays_away_is_given_up_when_the_time_is_over() -> None:
    # Given
    clock = FakeClock()
    # Then
    assert not ServerProbe([MemoryServer(MemoryDatabases(down=True))], clock).wait(
        2.0, give_up=lambda: False
    )
    assert clock.now == pytest.approx(1002.5)
