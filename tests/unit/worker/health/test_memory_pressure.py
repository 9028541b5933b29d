"""A slot stands back while memory is short, and comes back when there is enough."""

from __future__ import annotations

import pytest

from dct_celery.machine import Machine
from dct_celery.worker.health.memory_pressure import PAUSE, MemoryPressure

MIB = 2**20


class Kernel:
    """A machine of 4,000 MiB."""

    free = 1000

    def look(self) -> Machine:
        if self.free < 0:
            raise OSError("no /proc")
        return Machine(4, 4000 * MIB, self.free * MIB)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_below_a_twentieth_it_stands_back_and_says_how_much_there_is(kernel: Kernel) -> None:
    # Given
    pressure = MemoryPressure(kernel.look)
    assert pressure.reason(0.0) == ""
    # When
    kernel.free = 150
    # Then
    assert pressure.reason(PAUSE) == "150 MiB of 3.9 GiB of memory are free"


def test_it_comes_back_once_twice_of_that_is_free(kernel: Kernel) -> None:
    # Given
    pressure = MemoryPressure(kernel.look)
    kernel.free = 150
    assert pressure.reason(0.0)
    # When / Then
    kernel.free = 390
    assert pressure.reason(PAUSE)
    kernel.free = 410
    assert pressure.reason(2 * PAUSE) == ""


def test_it_does_not_look_all_the_time(kernel: Kernel) -> None:
    # Given
    pressure = MemoryPressure(kernel.look)
    pressure.reason(0.0)
    kernel.free = 1
    # When / Then
    assert pressure.reason(PAUSE / 2) == ""


def test_an_exempt_slot_never_stands_back(kernel: Kernel) -> None:
    # Given
    kernel.free = 1
    # When / Then
    assert MemoryPressure(kernel.look, exempt=True).reason(0.0) == ""


def test_where_the_kernel_says_nothing_nothing_changes(kernel: Kernel) -> None:
    # Given
    kernel.free = -1
    # When / Then
    assert MemoryPressure(kernel.look).reason(0.0) == ""
