"""Claims about `core.run.machine`: what infrastructure loses runs again, within bounds.

It never becomes a verdict.
"""

from __future__ import annotations

import pytest

from dct_celery.core.model import Manifest, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.machine import MAX_LOSSES, MAX_UNREADY
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, finished

PASSED, FAILED, ERROR, NOT_RUN = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.NOT_RUN


def one_class(count: int = 3) -> Manifest:
    return make_manifest(group("a.T", count=count))


def test_what_was_lost_too_often_is_not_run_and_the_run_ends_with_7() -> None:
    # Given
    run = Run(make_manifest(group("a.T"), group("b.U")))
    run.record(run.claim(), finished(0, "failed"))
    run.complete(run.claim())
    for _ in range(MAX_LOSSES - 1):
        assert not run.machine.finished
        # When
        run.send(ev.Expired(run.claim()))
    # Then
    assert run.machine.finished
    assert MAX_LOSSES == 3
    assert run.outcomes() == {0: FAILED, 1: NOT_RUN}
    assert (
        run.machine.verdicts[1].reason
        == f"lost {MAX_LOSSES} times, the last time: its lease ran out"
    )
    assert run.machine.exit_code() == 7


@pytest.mark.parametrize("why", ["drain", "timeout", "cancelled"])
def test_an_innocent_release_is_no_loss(why: str) -> None:
    # Given
    run = Run(one_class(1))
    # When
    for _ in range(MAX_LOSSES + 2):
        run.release(run.claim(), why)
    # Then
    assert not run.machine.finished
    assert run.all(ev.Warn) == []
    assert run.offers[-1].attempt == MAX_LOSSES + 3


def test_a_chunk_that_ends_again_and_again_without_any_of_its_tests_does_not_run_for_ever() -> None:
    # Given: the project's result class stops every run before its first test
    run = Run(one_class(2))
    # When
    for _ in range(MAX_LOSSES):
        run.complete(run.claim(), left=(0, 1), stopped="failfast")
    # Then
    assert run.outcomes() == {0: NOT_RUN, 1: NOT_RUN}
    assert "it was stopped before its first test (failfast)" in run.machine.verdicts[0].reason
    assert run.machine.exit_code() == 7


@pytest.mark.parametrize("why", ["database", "loader"])
def test_a_release_by_a_broken_machine_is_a_loss_that_names_its_cause(why: str) -> None:
    # Given
    run = Run(one_class(1))
    # When
    for _ in range(MAX_LOSSES):
        run.release(run.claim(), why, cause="no room on the server")
    # Then
    assert run.outcomes() == {0: NOT_RUN}
    assert run.machine.verdicts[0].reason.endswith(f"{why}: no room on the server")


def test_after_its_first_death_a_test_runs_alone_and_the_rest_without_it() -> None:
    # Given
    run = Run(one_class(), slots=2)
    lease = run.claim()
    run.record(lease, finished(0))
    # When
    run.release(lease, "crash", index=1, cause="signal 11")
    # Then
    retries = run.offers[1:]
    assert sorted((chunk.indices, chunk.fresh_process) for chunk in retries) == [
        ((1,), True),
        ((2,), True),
    ]
    assert "a.T.test_1" in run.all(ev.Warn)[-1].text
    assert run.outcomes() == {0: PASSED}


def test_the_second_death_is_the_verdict_and_the_rest_goes_on() -> None:
    # Given
    run = Run(one_class(2), slots=2)
    run.release(run.claim(), "crash", index=0, cause="signal 11")
    suspect = next(chunk for chunk in run.offers[1:] if chunk.indices == (0,))
    rest = next(chunk for chunk in run.offers[1:] if chunk.indices == (1,))
    # When
    run.release(
        run.claim(suspect), "crash", index=0, cause="signal 11", detail="Fatal Python error"
    )
    run.record(run.claim(rest), finished(1))
    # Then
    assert run.outcomes() == {0: ERROR, 1: PASSED}
    failure = run.machine.verdicts[0].failures[0]
    assert failure.message == "process died (signal 11)"
    assert "Fatal Python error" in failure.text
    assert run.machine.exit_code() == 1


def test_a_death_outside_any_test_is_a_loss() -> None:
    # Given
    run = Run(one_class(1))
    # When
    for _ in range(MAX_LOSSES):
        run.release(run.claim(), "crash", cause="signal 9")
    # Then
    assert run.outcomes() == {0: NOT_RUN}
    assert run.machine.exit_code() == 7


def test_a_death_after_the_verdict_is_not_blamed_on_a_test() -> None:
    # Given
    run = Run(one_class(2))
    lease = run.claim()
    run.record(lease, finished(0))
    # When
    run.release(lease, "crash", index=0, cause="signal 11")
    # Then
    assert run.outcomes() == {0: PASSED}
    assert run.offers[-1].indices == (1,)


def test_slots_without_databases_cost_no_attempt_until_no_slot_ever_gets_any() -> None:
    # Given
    run = Run(one_class(1))
    for _ in range(MAX_UNREADY - 1):
        run.release(run.claim(), "unready", cause="no room")
        assert not run.machine.finished
    # When
    run.release(run.claim(), "unready", cause="no room")
    # Then
    assert run.outcomes() == {0: NOT_RUN}
    assert "no room" in run.machine.verdicts[0].reason
    assert run.machine.exit_code() == 7


def test_a_test_that_its_own_code_never_starts_is_not_run_and_no_loss() -> None:
    # Given: its class has a run() that returns at once
    run = Run(one_class(2))
    lease = run.claim()
    # When
    run.record(lease, finished(0), finished(1, "not_run", reason="never started"))
    run.complete(lease)
    # Then: it is named, and the exit code is that of the sequential run
    assert run.machine.finished
    assert run.outcomes() == {0: PASSED, 1: NOT_RUN}
    assert run.machine.verdicts[1].reason == "never started"
    assert [warning.text for warning in run.all(ev.Warn)] == [
        "a.T.test_1 never started: the project's own code left it out"
    ]
    assert run.machine.exit_code() == 0
