"""Claims about `core.run.machine` with reruns: what is held back, and what settles a test."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.model import Chunk, Manifest, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.machine import MAX_LOSSES, STOP_GRACE
from dct_celery.core.run.records import TestRecord
from dct_celery.core.run.reruns import Reruns
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, completed, finished, fixture, released

PASSED, FAILED, ERROR, NOT_RUN = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.NOT_RUN


def run_of(
    manifest: Manifest, reruns: int = 1, *, percent: float = 100.0, slots: int = 1, maxfail: int = 0
) -> Run:
    run = Run(manifest, slots=slots, maxfail=maxfail)
    run.machine.reruns = Reruns.of(reruns, percent, len(manifest))
    return run


def one_class(count: int = 1) -> Manifest:
    return make_manifest(group("a.T", count=count))


def fail_first(run: Run, index: int = 0, outcome: str = "failed") -> Chunk:
    """The newest chunk is run; the test fails, all others pass. Returns what was offered then."""
    chunk = run.offers[-1]
    lease = run.claim(chunk)
    run.record(lease, *(finished(i, outcome if i == index else "passed") for i in chunk.indices))
    run.complete(lease)
    return run.offers[-1]


@pytest.mark.parametrize("outcome", ["failed", "error"])
def test_a_failure_is_held_back_and_runs_again_alone_in_a_fresh_fork(outcome: str) -> None:
    # Given
    run = run_of(one_class(3))
    # When
    again = fail_first(run, 1, outcome)
    # Then
    assert (again.indices, again.fresh_process) == ((1,), True)
    assert run.judged() == [0, 2]
    assert not run.machine.finished
    assert "a.T.test_1 failed on build-a/1" in run.all(ev.Warn)[-1].text


def test_it_does_not_run_again_while_its_class_still_runs() -> None:
    # Given
    run = run_of(one_class(2), slots=2)
    # When
    run.record(run.claim(), finished(0, "failed"))
    # Then
    assert len(run.offers) == 1


def test_a_pass_then_is_the_verdict_and_flaky() -> None:
    # Given
    run = run_of(one_class())
    fail_first(run)
    # When
    lease = run.claim(worker="build-b")
    run.record(lease, finished(0, seconds=0.5))
    run.complete(lease)
    # Then
    [judge] = run.all(ev.Judge)
    assert judge.verdict.flaky
    assert (judge.verdict.worker, judge.verdict.seconds, judge.verdict.attempt) == (
        "build-b",
        0.5,
        1,
    )
    assert [(v.outcome, v.worker) for v in judge.verdict.earlier] == [(FAILED, "build-a")]
    assert run.machine.finished
    assert run.machine.exit_code() == 0


def test_after_its_last_rerun_a_failure_is_final() -> None:
    # Given
    run = run_of(one_class(), reruns=2)
    # When
    for outcome in ("failed", "error", "failed"):
        assert not run.machine.finished
        fail_first(run, outcome=outcome)
    # Then
    verdict = run.machine.verdicts[0]
    assert (verdict.outcome, verdict.flaky) == (FAILED, False)
    assert [v.outcome for v in verdict.earlier] == [FAILED, ERROR]
    assert run.machine.exit_code() == 1
    assert len(run.offers) == 3


@pytest.mark.parametrize(
    "record",
    [finished(0, "xpassed"), finished(0, "not_run", covered_by="setUpClass (a.T)")],
    ids=["unexpected success", "kept by a fixture"],
)
def test_what_a_rerun_cannot_mend_is_final_at_once(record: TestRecord) -> None:
    # Given
    run = run_of(one_class())
    # When
    run.record(run.claim(), record)
    # Then
    assert run.machine.finished


@pytest.mark.parametrize(
    "record", [finished(0, "skipped"), finished(0, "not_run", covered_by="setUpClass (a.T)")]
)
def test_only_a_pass_acquits(record: TestRecord) -> None:
    # Given
    run = run_of(one_class())
    fail_first(run)
    # When
    run.record(run.claim(), record)
    # Then
    assert run.outcomes() == {0: FAILED}
    assert run.machine.exit_code() == 1


def test_a_duplicate_of_a_failure_is_no_second_attempt() -> None:
    # Given
    run = run_of(one_class())
    lease = run.claim()
    run.record(lease, finished(0, "failed"))
    # When
    run.record(lease, finished(0, "failed"))
    # Then
    assert not run.machine.finished


@pytest.mark.parametrize("kind", ["expired", "timeout", "crash"])
def test_however_the_chunk_ends_each_open_entry_runs_again_once(kind: str) -> None:
    # Given
    run = run_of(one_class(3), slots=3)
    lease = run.claim()
    run.record(lease, finished(0, "failed"))
    # When
    if kind == "expired":
        run.send(ev.Expired(lease))
    else:
        run.release(lease, kind, index=1 if kind == "crash" else 0, cause="signal 11")
    # Then
    assert sorted(index for chunk in run.offers[1:] for index in chunk.indices) == [0, 1, 2]
    assert (0,) in [chunk.indices for chunk in run.offers[1:]]


def test_what_infrastructure_lost_is_counted_apart() -> None:
    # Given
    run = run_of(one_class())
    run.send(ev.Expired(run.claim()))
    fail_first(run)
    # When
    run.record(run.claim(), finished(0))
    # Then
    verdict = run.machine.verdicts[0]
    assert (verdict.attempt, len(verdict.earlier)) == (2, 1)


def test_a_failure_read_after_its_lease_ended_is_none() -> None:
    # Given
    run = run_of(one_class())
    lease = run.claim()
    run.send(ev.Expired(lease))
    # When
    run.record(lease, finished(0, "failed"))
    again = run.claim()
    run.record(again, finished(0))
    run.complete(again)
    # Then
    assert not run.machine.verdicts[0].flaky
    assert len(run.offers) == 2


def test_a_rerun_that_infrastructure_loses_leaves_the_failure_standing() -> None:
    # Given
    run = run_of(one_class())
    fail_first(run)
    # When
    for _ in range(MAX_LOSSES):
        run.send(ev.Expired(run.claim()))
    # Then
    assert run.outcomes() == {0: FAILED}
    assert run.machine.verdicts[0].earlier == ()
    assert run.machine.exit_code() == 1


def test_a_stop_ends_reruns_and_leaves_the_failure_standing() -> None:
    # Given
    run = run_of(make_manifest(group("a.T"), group("b.U")))
    fail_first(run)
    # When
    run.send(ev.Stopped("interrupted", 2))
    run.send(ev.Ticked(STOP_GRACE + 1))
    # Then
    assert run.outcomes() == {0: FAILED, 1: NOT_RUN}
    assert run.machine.exit_code() == 2


def test_after_a_stop_a_failure_is_final() -> None:
    # Given
    run = run_of(one_class())
    lease = run.claim()
    run.send(ev.Stopped("interrupted", 2))
    # When
    run.record(lease, finished(0, "failed"))
    # Then
    assert run.outcomes() == {0: FAILED}


def test_failing_fast_waits_for_the_last_failure() -> None:
    # Given
    run = run_of(make_manifest(group("a.T"), group("b.U")), maxfail=1)
    fail_first(run)
    run.claim()
    assert run.all(ev.Cancel) == []
    # When
    run.record(run.claim(), finished(0, "failed"))
    # Then
    assert run.all(ev.Cancel) == [ev.Cancel("stopped after 1 failure (--failfast)")]


def test_with_more_failures_than_the_budget_nothing_runs_again_and_one_warning_says_so() -> None:
    # Given: two failures of ten tests are allowed
    run = run_of(one_class(10), percent=20)
    lease = run.claim()
    # When
    run.record(
        lease,
        *(finished(index, "failed") for index in range(5)),
        *(finished(index) for index in range(5, 10)),
    )
    assert run.judged()[:3] == [2, 3, 4]
    run.complete(lease)
    # Then
    assert run.machine.finished
    assert len(run.offers) == 1
    assert [run.outcomes()[index] for index in range(5)] == [FAILED] * 5
    assert [w.text for w in run.all(ev.Warn) if "budget" in w.text] == [
        "more than 2 tests failed, which is what --reruns-budget allows; no further test runs again"
    ]


@pytest.mark.parametrize(
    ("tests", "percent", "allowed"), [(5, 10, 1), (100, 10, 10), (500, 32.2, 161), (50, 0, 0)]
)
def test_the_budget_is_rounded_up(tests: int, percent: float, allowed: int) -> None:
    assert Reruns.of(1, percent, tests).allowed == allowed


def test_a_fixture_that_failed_does_not_run_again() -> None:
    # Given
    run = run_of(one_class(2))
    lease = run.claim()
    # When
    covered = [finished(index, "not_run", covered_by="setUpClass (a.T)") for index in (0, 1)]
    run.record(lease, fixture("setUpClass (a.T)"), *covered)
    run.complete(lease)
    # Then
    assert run.machine.finished
    assert len(run.offers) == 1
    assert run.machine.exit_code() == 1


def test_the_cost_of_a_class_is_learnt_from_its_first_attempt_alone() -> None:
    # Given
    run = run_of(one_class())
    lease = run.claim()
    run.record(lease, finished(0, "failed"))
    run.complete(lease, class_seconds={"a.T": 2.0})
    # When
    again = run.claim()
    run.record(again, finished(0))
    run.complete(again, class_seconds={"a.T": 3.0})
    # Then
    assert run.machine.class_seconds == {"a.T": 2.0}


def test_a_death_after_a_failure_keeps_the_failure_in_sight() -> None:
    # Given
    run = run_of(one_class())
    fail_first(run)
    # When
    for _ in range(2):
        run.release(run.claim(), "crash", index=0, cause="signal 11")
    # Then
    verdict = run.machine.verdicts[0]
    assert verdict.outcome is ERROR
    assert [v.outcome for v in verdict.earlier] == [FAILED]


@given(st.randoms(use_true_random=False), st.integers(0, 3), st.sampled_from([0, 20, 100]))
def test_whatever_fails_and_gets_lost_each_entry_is_judged_once(
    chance: random.Random, reruns: int, percent: float
) -> None:
    # Given
    run = run_of(
        make_manifest(group("a.T", count=4), group("b.U", count=3)),
        reruns,
        percent=percent,
        slots=2,
    )
    outcomes = ["passed", "passed", "failed", "error", "skipped"]
    taken = 0
    # When
    while not run.machine.finished:
        assert taken < len(run.offers) < 100, "something is open that will never run"
        chunk = run.offers[taken]
        taken += 1
        lease = run.claim(chunk)
        done = (
            chunk.indices[: chance.randint(0, len(chunk.indices))]
            if chance.random() < 0.4
            else chunk.indices
        )
        run.record(lease, *(finished(index, chance.choice(outcomes)) for index in done))
        ends: list[ev.Event] = [
            completed(lease),
            ev.Expired(lease),
            released(lease, "crash", index=0),
        ]
        run.send(chance.choice(ends if done != chunk.indices else ends[:1]))
    # Then
    assert sorted(run.judged()) == list(range(7))
    assert len(run.offers) == taken
    assert all(len(verdict.earlier) <= reruns for verdict in run.machine.verdicts.values())
    red = any(verdict.outcome in (FAILED, ERROR) for verdict in run.machine.verdicts.values())
    assert run.machine.exit_code() == (7 if run.machine.lost else int(red))
