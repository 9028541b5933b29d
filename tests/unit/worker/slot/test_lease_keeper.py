"""Claims about `worker.slot.lease_keeper`: how often a lease is renewed, and what the slot learns
of it.
"""

from __future__ import annotations

from typing import Any

import pytest

from dct_celery.errors import StoreUnavailable
from dct_celery.protocol.leases import WriteAnswer
from dct_celery.worker.slot.lease_keeper import LeaseKeeper
from tests.support.factories import held
from tests.support.fake_clock import FakeClock


class Ledger:
    """Notes when it is asked; gives the answers of the test."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.asked: list[float] = []
        self.answer: WriteAnswer | Exception = WriteAnswer.OK

    def renew(self, lease: object, lease_ms: int) -> WriteAnswer:
        self.asked.append(self._clock.now)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def keeper(lease_ms: int = 15_000) -> tuple[LeaseKeeper, Ledger, FakeClock]:
    clock = FakeClock(0.0)
    ledger: Any = Ledger(clock)
    return LeaseKeeper(ledger, held(1), lease_ms, clock), ledger, clock


@pytest.mark.parametrize(
    ("lease_ms", "pause"), [(1500, 0.5), (3000, 1.0), (15_000, 1.0), (600_000, 1.0)]
)
def test_a_lease_is_renewed_at_a_third_of_its_length_and_a_cancel_is_noticed_within_a_second(
    lease_ms: int, pause: float
) -> None:
    # Given
    one, ledger, clock = keeper(lease_ms)
    clock.at(10.2, one._end.set)
    # When
    one._run()
    # Then
    assert ledger.asked == pytest.approx([pause * n for n in range(1, int(10.2 / pause) + 1)])


@pytest.mark.parametrize(
    ("answer", "lost", "cancelled"),
    [
        (WriteAnswer.OK, False, False),
        (WriteAnswer.LOST, True, False),
        (WriteAnswer.CANCELLED, False, True),
        (WriteAnswer.MOVED, False, False),
        (WriteAnswer.GONE, False, False),
        (StoreUnavailable("away"), False, False),
        (ZeroDivisionError("oops"), False, False),
    ],
    ids=str,
)
def test_only_the_store_says_that_a_lease_is_lost(
    answer: WriteAnswer | Exception, lost: bool, cancelled: bool
) -> None:
    # Given
    one, ledger, _ = keeper()
    ledger.answer = answer
    # When
    one.renew()
    # Then
    assert (one.lost, one.cancelled) == (lost, cancelled)


def test_what_is_lost_stays_lost() -> None:
    # Given
    one, _, _ = keeper()
    one.note(WriteAnswer.LOST)
    # When
    one.renew()
    # Then
    assert one.lost


def test_the_thread_runs_as_long_as_the_keeper_is_entered() -> None:
    # Given
    one, _, _ = keeper()
    assert not one._thread.is_alive()
    # When
    with one:
        alive = one._thread.is_alive()
    # Then
    assert alive
    assert not one._thread.is_alive()
