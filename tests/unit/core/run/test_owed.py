"""Claims about `core.run.machine`: tear-downs of which no report arrived.

They may have failed, so the last test before one runs again.
"""

from __future__ import annotations

import pytest

from dct_celery.core.model import Chunk, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.machine import MAX_LOSSES, MAX_UNREADY, STOP_GRACE
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, completed, finished, fixture, released

ABRUPT = ["expired", "drain", "silence", "database", "loader"]


def end(lease: LeaseRef, how: str) -> ev.Event:
    return ev.Expired(lease) if how == "expired" else released(lease, how, cause="signal 11")


def owing(how: str = "expired") -> tuple[Run, Chunk]:
    """A run of one class with all tests passed and no report of its tear-down.

    Returns also what was offered then.
    """
    run = Run(make_manifest(group("a.T", count=2)))
    lease = run.claim()
    run.record(lease, finished(0), finished(1))
    run.send(end(lease, how))
    return run, run.offers[-1]


@pytest.mark.parametrize("how", ABRUPT)
def test_the_last_test_runs_again_for_its_tear_downs_sake_and_its_verdict_stands(how: str) -> None:
    # When
    run, chunk = owing(how)
    # Then
    assert (chunk.indices, chunk.fresh_process, chunk.attempt) == ((1,), True, 2)
    assert not run.machine.finished
    # When: what it says now is no verdict any more
    lease = run.claim()
    run.record(lease, finished(1, "failed"))
    run.complete(lease)
    # Then
    assert run.machine.finished
    assert run.outcomes() == {0: Outcome.PASSED, 1: Outcome.PASSED}
    assert run.machine.exit_code() == 0


def test_a_tear_down_that_fails_then_makes_the_run_red() -> None:
    # Given
    run, _ = owing()
    # When
    lease = run.claim()
    run.record(lease, finished(1), fixture("tearDownClass (a.T)"))
    run.complete(lease)
    # Then
    assert run.machine.finished
    assert run.machine.exit_code() == 1


@pytest.mark.parametrize("how", ["crash", "timeout", "cancelled"])
def test_an_end_that_says_what_happened_owes_nothing(how: str) -> None:
    # When
    run, _ = owing(how)
    # Then
    assert run.machine.finished
    assert len(run.offers) == 1


def test_nothing_is_owed_while_another_test_of_the_class_runs_anyway() -> None:
    # Given
    run = Run(make_manifest(group("a.T", count=2)))
    lease = run.claim()
    run.record(lease, finished(0))
    # When
    run.send(ev.Expired(lease))
    run.send(ev.SlotsChanged(5, 5))
    # Then
    assert [chunk.indices for chunk in run.offers[1:]] == [(1,)]


@pytest.mark.parametrize("how", [*ABRUPT, "crash", "timeout", "cancelled"])
def test_what_is_owed_stays_owed_however_its_attempts_end_and_not_for_ever(how: str) -> None:
    # Given
    run, _ = owing()
    # When
    for _ in range(MAX_LOSSES - 1):
        assert not run.machine.finished
        run.send(end(run.claim(), how))
    # Then
    assert run.machine.finished
    assert run.outcomes() == {0: Outcome.PASSED, 1: Outcome.PASSED}
    assert run.machine.exit_code() == 7
    assert any(
        "no report of the tear-down behind a.T.test_1 in 3 attempts" in warn.text
        for warn in run.all(ev.Warn)
    )


def test_slots_without_databases_cost_what_is_owed_no_try_until_no_slot_ever_gets_any() -> None:
    # Given
    run, _ = owing()
    # When
    for _ in range(MAX_UNREADY):
        assert not run.machine.finished
        run.release(run.claim(), "unready", cause="no room")
    # Then
    assert run.machine.finished
    assert run.machine.exit_code() == 7


def test_a_tear_down_that_was_heard_to_hang_is_owed_no_more() -> None:
    # Given
    run, _ = owing()
    lease = run.claim()
    run.record(lease, finished(1), fixture("tearDownClass (a.T)"))
    # When
    run.release(lease, "timeout", fixture="tearDownClass (a.T)", cause="timed out after 5 s")
    # Then
    assert run.machine.finished
    assert run.machine.exit_code() == 1


def test_a_tear_down_that_dies_after_a_lost_lease_has_its_second_try_as_well() -> None:
    # Given
    run, _ = owing()
    for _ in range(2):
        assert run.machine.fixture_verdicts() == ()
        lease = run.claim()
        run.record(lease, finished(1))
        # When
        run.release(lease, "crash", fixture="tearDownClass (a.T)", cause="signal 11")
    # Then
    assert [event.id for event in run.machine.fixture_verdicts()] == ["tearDownClass (a.T)"]
    assert run.machine.finished
    assert run.machine.exit_code() == 1


def test_after_a_stop_nothing_is_owed() -> None:
    # Given
    run, _ = owing()
    # When
    run.send(ev.Stopped("interrupted", 2))
    run.send(ev.Ticked(STOP_GRACE + 1))
    # Then
    assert run.machine.finished
    assert run.machine.exit_code() == 2


def test_a_replay_owes_the_same() -> None:
    # Given
    live, chunk = owing()
    first = live.offers[0]
    lease = LeaseRef(first.id, 1, 1, "build-a", 1)
    events: list[ev.Event] = [
        ev.Offered(first), ev.Claimed(lease), ev.Recorded(lease, 2, (finished(0), finished(1))),
        ev.Expired(lease), ev.Offered(chunk), ev.Claimed(LeaseRef(chunk.id, 2, 2, "build-a", 1)),
    ]  # fmt: skip
    # When
    copy = Run(live.manifest, slots=0)
    for event in events:
        copy.send(event)
    # Then
    assert not copy.machine.finished
    copy.send(completed(LeaseRef(chunk.id, 2, 2, "build-a", 1)))
    assert copy.machine.finished
    assert copy.offers == []
