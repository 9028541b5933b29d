"""Claims about `core.run.machine`: verdicts, ends of chunks and stops.

Losses and offers have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dct_celery.core.model import Manifest, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.machine import MAX_LOSSES, STOP_GRACE
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, completed, finished, fixture, released

PASSED, NOT_RUN = Outcome.PASSED, Outcome.NOT_RUN


def two_classes() -> Manifest:
    return make_manifest(group("a.T", count=2), group("b.U", count=1))


def one_class(count: int = 3) -> Manifest:
    return make_manifest(group("a.T", count=count))


def test_every_entry_ends_with_one_disposition() -> None:
    # Given
    run = Run(two_classes())
    # When
    while not run.machine.finished:
        chunk = run.offers[-1]
        lease = run.claim(chunk)
        run.record(lease, *(finished(index) for index in chunk.indices))
        run.complete(lease)
    # Then
    assert sorted(run.judged()) == [0, 1, 2]
    assert run.machine.exit_code() == 0
    assert run.machine.slots_used["build-a", 1].chunks == 2


def test_a_run_without_its_last_verdict_is_not_finished() -> None:
    # Given
    run = Run(one_class(2))
    lease = run.claim()
    # When
    run.record(lease, finished(0))
    # Then
    assert not run.machine.finished
    assert run.machine.busy == 1


@pytest.mark.parametrize("outcome", ["failed", "error", "xpassed"])
def test_a_bad_outcome_makes_the_run_red(outcome: str) -> None:
    # Given
    run = Run(one_class(1))
    # When
    run.record(run.claim(), finished(0, outcome))
    # Then
    assert run.machine.finished
    assert run.machine.exit_code() == 1


def test_duplicate_records_change_nothing() -> None:
    # Given
    run = Run(one_class(1))
    lease = run.claim()
    run.record(lease, finished(0))
    # When
    effects = run.record(lease, finished(0, "failed"))
    # Then
    assert effects == []
    assert run.outcomes() == {0: PASSED}
    assert run.machine.exit_code() == 0


@pytest.mark.parametrize(
    "end",
    [completed, lambda lease: released(lease, "drain"), ev.Expired],
    ids=["completed", "released", "expired"],
)
def test_a_stale_fence_ends_nothing(end: Callable[[LeaseRef], ev.Event]) -> None:
    # Given
    run = Run(one_class(1))
    lease = run.claim()
    stale = LeaseRef(lease.chunk, lease.attempt, lease.fence - 1, "build-z", 9)
    # When
    effects = run.send(end(stale))
    # Then
    assert effects == []
    assert run.machine.busy == 1
    assert len(run.offers) == 1
    assert ("build-z", 9) not in run.machine.slots_used


def test_a_duplicate_end_counts_once() -> None:
    # Given
    run = Run(one_class(1))
    lease = run.claim()
    run.complete(lease, class_seconds={"a.T": 2.0})
    # When
    run.complete(lease, class_seconds={"a.T": 2.0})
    # Then
    assert run.machine.class_seconds == {"a.T": 2.0}
    assert run.machine.slots_used["build-a", 1].chunks == 1
    assert len(run.offers) == 2


def test_a_completed_chunk_with_missing_records_runs_again() -> None:
    # Given
    run = Run(one_class())
    lease = run.claim()
    run.record(lease, finished(0), finished(2))
    # When
    run.complete(lease)
    # Then
    retry = run.offers[-1]
    assert (retry.indices, retry.attempt, retry.fresh_process) == ((1,), 2, True)
    assert "did not arrive" in run.all(ev.Warn)[-1].text


def test_what_a_process_left_on_purpose_is_no_loss() -> None:
    # Given
    count = MAX_LOSSES + 3
    run = Run(one_class(count))
    # When: its result class stops after each test
    for index in range(count - 1):
        lease = run.claim()
        run.record(lease, finished(index))
        run.complete(lease, left=tuple(range(index + 1, count)))
    # Then
    assert not run.machine.lost
    assert run.offers[-1].indices == (count - 1,)


def test_not_run_without_a_cover_is_no_verdict() -> None:
    # Given
    run = Run(one_class(1))
    lease = run.claim()
    # When
    run.record(lease, finished(0, "not_run"))
    run.complete(lease)
    # Then
    assert run.outcomes() == {}
    assert run.offers[-1].attempt == 2


def test_an_expired_lease_queues_only_what_has_no_verdict() -> None:
    # Given
    run = Run(one_class())
    lease = run.claim()
    run.record(lease, finished(0))
    # When
    run.send(ev.Expired(lease))
    # Then
    assert run.offers[-1].indices == (1, 2)
    assert run.machine.busy == 0
    assert run.all(ev.Warn)[-1].text == "2 tests on build-a/1 have to run again: its lease ran out"


def test_a_record_that_is_read_after_its_lease_ended_counts_for_nothing() -> None:
    # Given
    run = Run(one_class(2))
    lease = run.claim()
    run.send(ev.Expired(lease))
    # When: the store refuses such a record, so an attacker must have put it there
    run.record(lease, finished(0, "failed"))
    # Then
    assert (run.outcomes(), run.machine.strays) == ({}, 1)
    # When
    again = run.claim()
    run.record(again, finished(0), finished(1))
    # Then
    assert run.outcomes() == {0: PASSED, 1: PASSED}


def test_failing_fast_ends_the_run_with_1_and_says_why_the_rest_did_not_run() -> None:
    # Given
    run = Run(two_classes(), maxfail=1)
    first, *_ = run.offers[-1].indices
    lease = run.claim()
    # When
    run.record(lease, finished(first, "failed"))
    run.complete(lease)
    run.send(ev.Ticked(1.0))
    # Then
    assert run.machine.finished
    assert {
        verdict.reason for verdict in run.machine.verdicts.values() if verdict.outcome is NOT_RUN
    } == {"stopped after 1 failure (--failfast)"}
    assert run.all(ev.Cancel) == [ev.Cancel("stopped after 1 failure (--failfast)")]
    assert run.machine.exit_code() == 1


def test_what_fails_while_a_run_stops_is_told_with_the_reason() -> None:
    # Given
    run = Run(one_class(5), maxfail=2)
    lease = run.claim()
    # When
    run.record(lease, *(finished(index, "failed") for index in range(5)))
    # Then
    assert (
        run.machine.note
        == "stopped after 2 failures (--maxfail 2); 3 more in chunks that were running"
    )
    assert run.machine.stop is not None
    assert run.machine.stop.reason == "stopped after 2 failures (--maxfail 2)"


def test_maxfail_counts_failures_and_fixtures_and_stops_once() -> None:
    # Given
    run = Run(one_class(4), maxfail=2)
    lease = run.claim()
    # When
    run.record(lease, finished(0, "failed"))
    assert run.all(ev.Cancel) == []
    run.record(lease, fixture("tearDownClass (a.T)"), finished(1, "failed"))
    # Then
    assert run.all(ev.Cancel) == [ev.Cancel("stopped after 2 failures (--maxfail 2)")]


def test_the_last_failure_of_a_run_stops_nothing() -> None:
    # Given
    run = Run(one_class(1), maxfail=1)
    # When
    run.record(run.claim(), finished(0, "failed"))
    # Then
    assert run.all(ev.Cancel) == []
    assert run.machine.exit_code() == 1


@pytest.mark.parametrize(("late", "code"), [(True, 1), (False, 0)])
def test_only_what_is_known_late_by_nature_counts_when_all_verdicts_are_there(
    late: bool, code: int
) -> None:
    # Given
    run = Run(one_class(1))
    run.record(run.claim(), finished(0, "passed"))
    assert run.machine.finished
    # When
    run.send(ev.Stopped("the system checks failed", 1, late=late))
    # Then
    assert run.machine.exit_code() == code
    assert run.machine.finished


def test_an_interrupt_ends_with_2_once_the_slots_have_ended() -> None:
    # Given
    run = Run(two_classes())
    lease = run.claim()
    # When
    run.send(ev.Stopped("interrupted", 2))
    run.send(ev.Ticked(1.0))
    # Then
    assert not run.machine.finished
    # When
    run.release(lease, "cancelled")
    run.send(ev.Ticked(2.0))
    # Then
    assert run.outcomes() == {0: NOT_RUN, 1: NOT_RUN, 2: NOT_RUN}
    assert {verdict.reason for verdict in run.machine.verdicts.values()} == {"interrupted"}
    assert not run.machine.lost
    assert run.machine.exit_code() == 2


def test_slots_that_do_not_end_after_a_stop_are_not_waited_for_for_ever() -> None:
    # Given
    run = Run(one_class(1))
    run.claim()
    run.send(ev.Stopped("interrupted", 2))
    # When
    run.send(ev.Ticked(STOP_GRACE))
    # Then
    assert not run.machine.finished
    # When
    run.send(ev.Ticked(STOP_GRACE + 0.1))
    # Then
    assert run.machine.finished


def test_nothing_is_offered_after_a_stop_and_the_first_stop_counts() -> None:
    # Given
    run = Run(make_manifest(*(group(f"a.T{number}") for number in range(6))))
    lease = run.claim()
    offered = len(run.offers)
    assert offered < 6
    run.send(ev.Stopped("interrupted", 2))
    # When
    run.send(ev.Stopped("time limit", 7))
    run.send(ev.Expired(lease))
    run.send(ev.SlotsChanged(5, 5))
    # Then
    assert len(run.offers) == offered
    assert run.all(ev.Cancel) == [ev.Cancel("interrupted")]
    assert run.machine.exit_code() == 2
