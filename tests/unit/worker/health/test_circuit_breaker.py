"""A broken worker backs off, longer each time, and is fit again after one success."""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.worker.health.circuit_breaker import (
    FAILURES,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    CircuitBreaker,
    FailureLog,
)
from tests.support.fake_clock import FakeClock


class TickingClock(FakeClock):
    """A second passes with each reading."""

    def wall(self) -> float:
        self.now += 1.0
        return super().wall()


@pytest.fixture
def failures(tmp_path: Path) -> FailureLog:
    return FailureLog(tmp_path / "failures", TickingClock())


def test_a_few_failures_are_no_reason_to_back_off(failures: FailureLog) -> None:
    # Given
    breaker = CircuitBreaker(failures)
    # When
    for _ in range(FAILURES - 1):
        failures.note("no room on the server")
    # Then
    assert breaker.backing_off(0.0) == ""


def test_failures_in_a_row_are_a_reason_and_the_last_is_named(failures: FailureLog) -> None:
    # Given
    breaker = CircuitBreaker(failures)
    # When
    for number in range(FAILURES):
        failures.note(f"trouble {number}")
    # Then
    assert breaker.backing_off(0.0).endswith(f"trouble {FAILURES - 1}")
    assert breaker.backing_off(FIRST_PAUSE - 0.1)
    assert breaker.backing_off(FIRST_PAUSE + 0.1) == ""


def test_a_success_in_between_resets_the_count(failures: FailureLog) -> None:
    # Given
    breaker = CircuitBreaker(failures)
    for _ in range(FAILURES - 1):
        failures.note("no room on the server")
    # When
    failures.clear()
    failures.note("no room on the server")
    # Then
    assert breaker.backing_off(0.0) == ""


def test_a_trial_that_fails_makes_the_next_pause_longer_up_to_a_limit(failures: FailureLog) -> None:
    # Given
    breaker = CircuitBreaker(failures)
    for _ in range(FAILURES):
        failures.note("no room on the server")
    now, pauses = 0.0, []
    # When
    for _ in range(6):
        start = now
        assert breaker.backing_off(now)
        while breaker.backing_off(now):
            now += 0.5
        pauses.append(now - start)
        failures.note("no room on the server")
    # Then
    assert pauses == [5.0, 10.0, 20.0, 40.0, LONGEST_PAUSE, LONGEST_PAUSE]


def test_a_trial_that_goes_well_ends_it(failures: FailureLog) -> None:
    # Given
    breaker = CircuitBreaker(failures)
    for _ in range(FAILURES):
        failures.note("no room on the server")
    assert breaker.backing_off(0.0)
    # When
    failures.clear()
    assert breaker.backing_off(FIRST_PAUSE + 1) == ""
    failures.note("no room on the server")
    # Then
    assert breaker.backing_off(FIRST_PAUSE + 2) == ""


def test_two_failures_at_the_same_moment_are_two(tmp_path: Path) -> None:
    # Given
    clock = FakeClock()
    # When
    for _ in range(2):
        FailureLog(tmp_path, clock).note("no room on the server")
    # Then
    assert len(FailureLog(tmp_path, clock).reasons()) == 2
