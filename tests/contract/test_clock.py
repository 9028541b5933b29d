"""Contract of `ports.Clock`: the system's clock and the fake."""

from __future__ import annotations

import threading
import time

import pytest

from dct_celery.adapters.clock import SystemClock
from dct_celery.ports import Clock
from tests.support.fake_clock import FakeClock

MOMENT = 0.002


@pytest.fixture(params=[SystemClock, FakeClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


def test_sleep_takes_its_time_on_both_clocks(clock: Clock) -> None:
    # Given
    monotonic, wall = clock.monotonic(), clock.wall()
    # When
    clock.sleep(MOMENT)
    # Then
    assert clock.monotonic() - monotonic >= MOMENT - 1e-6
    assert clock.wall() - wall >= MOMENT / 2


def test_a_signal_that_is_set_is_not_waited_for(clock: Clock) -> None:
    # Given
    signal = threading.Event()
    signal.set()
    began = clock.monotonic()
    # Then
    assert clock.wait(signal, 60.0)
    assert clock.monotonic() - began < 30.0


def test_a_signal_that_is_not_set_is_waited_for_so_long_and_no_longer(clock: Clock) -> None:
    # Given
    began = clock.monotonic()
    # Then
    assert not clock.wait(threading.Event(), MOMENT)
    assert MOMENT - 1e-3 <= clock.monotonic() - began < 30.0


def test_the_systems_clock_is_the_machines() -> None:
    assert abs(SystemClock().wall() - time.time()) < 5
    assert abs(SystemClock().monotonic() - time.monotonic()) < 5


def test_what_is_planned_on_the_fake_happens_in_its_order_and_may_set_the_signal() -> None:
    # Given
    clock, signal, seen = FakeClock(0.0), threading.Event(), list[tuple[str, float]]()
    clock.at(2.0, lambda: (seen.append(("second", clock.now)), signal.set()))
    clock.at(1.0, lambda: seen.append(("first", clock.now)))
    clock.at(9.0, lambda: seen.append(("too late", clock.now)))
    # When / Then
    assert clock.wait(signal, 5.0)
    assert seen == [("first", 1.0), ("second", 2.0)]
    assert clock.now == 2.0
