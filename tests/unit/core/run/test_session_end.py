"""Claims about errors of the session's tear-down: they are neither lost nor told twice."""

from __future__ import annotations

from dct_celery.core.model import END_OF_SESSION, Failure, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.records import FixtureRecord
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, finished

SUITE = make_manifest(group("a.A"), group("a.B"))


def torn_down(message: str) -> FixtureRecord:
    failure = Failure("error", "OSError", message, f"Traceback\nOSError: {message}")
    return FixtureRecord(END_OF_SESSION, Outcome.ERROR, (failure,))


def test_what_fails_in_other_processes_than_that_of_the_last_test_is_an_error_of_the_run() -> None:
    # Given two processes that fail, of which two alike
    run = Run(SUITE, slots=2)
    first, second = (run.claim(chunk, slot=slot) for slot, chunk in enumerate(run.offers))
    # When
    run.record(first, finished(0), torn_down("still up"), torn_down("port in use"))
    assert not run.all(ev.JudgeFixture)
    run.record(second, finished(1), torn_down("still up"))
    # Then they are one fixture, which is judged behind the last test
    (judged,) = run.all(ev.JudgeFixture)
    assert judged.fixture.fixture == END_OF_SESSION
    assert [one.message for one in judged.fixture.failures] == ["still up", "port in use"]
    assert run.machine.finished
    assert run.machine.exit_code() == 1
    assert run.outcomes() == {0: Outcome.PASSED, 1: Outcome.PASSED}
    # And what comes later changes nothing
    run.complete(first)
    assert len(run.all(ev.JudgeFixture)) == 1


def test_where_the_last_test_has_the_error_it_is_told_once() -> None:
    # Given
    run = Run(SUITE, slots=2)
    first, second = (run.claim(chunk, slot=slot) for slot, chunk in enumerate(run.offers))
    # When
    run.record(second, finished(1, "error"))
    run.record(first, finished(0), torn_down("still up"))
    # Then
    assert run.all(ev.JudgeFixture) == []
    assert run.machine.exit_code() == 1


def test_a_process_whose_session_nobody_has_torn_down_is_named() -> None:
    # Given
    run = Run(SUITE, slots=2)
    first, second = (run.claim(chunk, slot=slot) for slot, chunk in enumerate(run.offers))
    run.record(first, finished(0))
    run.complete(first, session=True)
    # When the run ends in another slot
    run.record(second, finished(1))
    # Then
    (warning,) = run.all(ev.Warn)
    assert "a process of build-a slot 0 had fixtures of pytest's session" in warning.text


def test_a_process_that_tears_down_in_its_next_chunk_is_not_named() -> None:
    # Given
    run = Run(SUITE)
    lease = run.claim(run.offers[0])
    run.record(lease, finished(0))
    run.complete(lease, session=True)
    # When
    lease = run.claim()
    run.record(lease, finished(1))
    run.complete(lease)
    # Then
    assert run.machine.finished
    assert run.all(ev.Warn) == []


def test_a_plan_is_exhausted_when_all_is_on_offer() -> None:
    # Given one slot, for which one chunk is on offer
    run = Run(SUITE)
    assert not run.machine.exhausted
    # When
    lease = run.claim()
    # Then
    assert run.machine.exhausted
    # When what it ran is lost
    run.claim(slot=2)
    run.release(lease, "silence")
    # Then it is on offer again, and nothing else is planned
    assert run.machine.exhausted
