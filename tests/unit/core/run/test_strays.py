"""Claims about `core.run.machine`: what it ignores.

Records under a lease that is not held, and of tests outside its chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dct_celery.core.model import Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, completed, finished, fixture, released

MANIFEST = make_manifest(group("a.T", count=2), group("b.U"))


def holder(run: Run) -> tuple[LeaseRef, tuple[int, ...]]:
    """The lease of the first chunk, and its tests."""
    chunk = run.offers[0]
    return run.claim(chunk), chunk.indices


@pytest.mark.parametrize(
    "other",
    [
        lambda lease: replace(lease, fence=lease.fence + 1),
        lambda lease: replace(lease, worker="build-z"),
        lambda lease: replace(lease, slot=9),
        lambda lease: replace(lease, attempt=2),
        lambda lease: replace(lease, chunk="c99"),
    ],
    ids=["fence", "worker", "slot", "attempt", "chunk"],
)
def test_who_does_not_hold_the_lease_says_nothing(other: Callable[[LeaseRef], LeaseRef]) -> None:
    # Given
    run = Run(MANIFEST)
    lease, (first, *_) = holder(run)
    before = len(run.effects)
    # When
    run.record(other(lease), finished(first, "failed"), fixture("setUpClass (a.T)"))
    run.send(completed(other(lease), class_seconds={"a.T": 2.0}))
    run.send(released(other(lease), "crash", index=first))
    # Then: two records and two ends
    assert run.machine.strays == 4
    assert run.effects[before:] == []
    assert (run.outcomes(), run.machine.fixtures, run.machine.class_seconds) == ({}, {}, {})
    assert run.machine.busy == 1
    assert run.machine.deaths.total == 0


def test_the_same_holder_in_a_later_epoch_is_the_holder() -> None:
    # Given
    run = Run(MANIFEST)
    lease, indices = holder(run)
    # When
    run.record(replace(lease, epoch=2), *(finished(index) for index in indices))
    run.send(completed(replace(lease, epoch=2)))
    # Then
    assert run.machine.strays == 0
    assert sorted(run.judged()) == sorted(indices)


def test_a_record_of_a_test_that_is_not_in_the_leased_chunk_counts_for_nothing() -> None:
    # Given
    run = Run(MANIFEST)
    lease, indices = holder(run)
    (elsewhere, *_) = {0, 1, 2} - set(indices)
    # When: and one that no manifest has
    run.record(lease, finished(elsewhere), finished(99), finished(indices[0]))
    # Then
    assert run.outcomes() == {indices[0]: Outcome.PASSED}
    assert run.machine.strays == 2


def test_what_is_said_before_the_claim_was_heard_of_counts_for_nothing() -> None:
    # Given
    run = Run(MANIFEST)
    chunk = run.offers[0]
    # When
    run.record(LeaseRef(chunk.id, 1, 1, "build-a", 1), finished(chunk.indices[0]))
    # Then
    assert (run.outcomes(), run.machine.strays) == ({}, 1)


def test_a_lease_that_expired_is_no_longer_held() -> None:
    # Given
    run = Run(MANIFEST)
    lease, (first, *_) = holder(run)
    run.send(ev.Expired(lease))
    # When
    run.record(lease, finished(first))
    run.send(completed(lease))
    # Then
    assert (run.outcomes(), run.machine.strays) == ({}, 2)
