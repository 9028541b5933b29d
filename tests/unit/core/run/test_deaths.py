"""Claims about `core.run.blame`: who is blamed for a crash, after how many, and what runs next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dct_celery.core import codec
from dct_celery.core.model import Chunk, Manifest, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.blame import BUDGET_SHARE, LEAST_BUDGET, Deaths
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.reruns import Reruns
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, finished, fixture

PASSED, ERROR, NOT_RUN = Outcome.PASSED, Outcome.ERROR, Outcome.NOT_RUN


def one_chunk(manifest: Manifest, slots: int = 1) -> Run:
    """A run whose first chunk holds everything."""
    return Run(manifest, slots=slots, chunk_seconds=1000.0, min_chunk_seconds=1000.0)


def two_classes() -> Manifest:
    return make_manifest(group("a.T", count=2), group("a.U", count=2))


def die(run: Run, lease: LeaseRef, **fields: Any) -> None:
    run.release(lease, "crash", cause="signal 11", **fields)


def test_after_a_death_in_set_up_the_class_runs_alone_and_the_rest_without_it() -> None:
    # Given
    run = one_chunk(two_classes(), slots=2)
    # When
    die(run, run.claim(), index=0, fixture="setUpClass (a.T)")
    # Then
    assert sorted(chunk.indices for chunk in run.offers[1:]) == [(0, 1), (2, 3)]
    assert all(chunk.fresh_process for chunk in run.offers[1:])
    assert run.outcomes() == {}
    assert "died (signal 11) during setUpClass (a.T)" in run.all(ev.Warn)[-1].text


@pytest.mark.parametrize(
    ("phase", "scope", "covered"),
    [("setUpClass", "a.T", {0, 1}), ("setUpModule", "a", {0, 1, 2, 3})],
)
def test_the_second_death_in_a_set_up_is_its_error_and_covers_its_tests(
    phase: str, scope: str, covered: set[int]
) -> None:
    # Given
    run = one_chunk(two_classes(), slots=2)
    name = f"{phase} ({scope})"
    die(run, run.claim(), index=0, fixture=name)
    alone = next(chunk for chunk in run.offers[1:] if 0 in chunk.indices)
    # When
    die(run, run.claim(alone), index=0, fixture=name, detail="Fatal Python error")
    # Then
    (event,) = run.machine.fixture_verdicts()
    assert (event.id, event.phase, event.outcome, set(event.covers)) == (
        name,
        phase,
        ERROR,
        covered,
    )
    assert event.failures[0].message == f"process died (signal 11) during {name}"
    assert "twice" in event.failures[0].text
    assert "Fatal Python error" in event.failures[0].text
    assert {index for index, outcome in run.outcomes().items() if outcome is NOT_RUN} == covered
    assert not run.machine.lost


def died_tearing_down(fixture: str = "tearDownClass (a.T)") -> Run:
    """Two classes in a chunk; the process died in the first tear-down, the next test announced."""
    run = one_chunk(two_classes())
    lease = run.claim()
    run.record(lease, finished(0), finished(1))
    die(run, lease, index=2, fixture=fixture)
    run.send(ev.SlotsChanged(2, 2))
    return run


@pytest.mark.parametrize("fixture", ["tearDownClass (a.T)", "tearDownModule (a)"])
def test_after_one_death_in_a_tear_down_the_test_before_it_runs_again_for_its_sake(
    fixture: str,
) -> None:
    # When
    run = died_tearing_down(fixture)
    # Then
    assert run.machine.fixture_verdicts() == ()
    assert {(chunk.indices, chunk.fresh_process) for chunk in run.offers[1:]} == {
        ((1,), True),
        ((2, 3), True),
    }
    assert f"during {fixture}" in "\n".join(warn.text for warn in run.all(ev.Warn))
    # When: this time it ends
    for chunk in run.offers[1:]:
        lease = run.claim(chunk)
        run.record(lease, *(finished(index) for index in chunk.indices))
        run.complete(lease)
    # Then
    assert run.machine.finished
    assert run.machine.exit_code() == 0


def test_a_second_death_in_a_tear_down_is_its_error_and_costs_no_test() -> None:
    # Given
    run = died_tearing_down()
    again, rest = sorted(run.offers[1:], key=lambda chunk: chunk.indices)
    # When
    lease = run.claim(again)
    run.record(lease, finished(1))
    die(run, lease, index=None, fixture="tearDownClass (a.T)")
    # Then
    (event,) = run.machine.fixture_verdicts()
    assert (event.id, event.covers) == ("tearDownClass (a.T)", ())
    lease = run.claim(rest)
    run.record(lease, finished(2), finished(3))
    run.complete(lease)
    assert run.machine.finished
    assert run.machine.exit_code() == 1
    assert set(run.outcomes().values()) == {Outcome.PASSED}


def test_a_death_in_a_tear_down_that_no_test_can_run_again_for_is_its_error() -> None:
    # Given
    run = one_chunk(two_classes())
    # When: none of its tests was recorded
    die(run, run.claim(), index=None, fixture="tearDownClass (a.T)")
    # Then
    assert [event.id for event in run.machine.fixture_verdicts()] == ["tearDownClass (a.T)"]


def test_a_death_that_nothing_was_running_for_is_a_loss_and_counted() -> None:
    # Given
    run = one_chunk(two_classes())
    # When
    die(run, run.claim())
    # Then
    assert run.machine.deaths.total == 1
    assert "crash: signal 11" in run.all(ev.Warn)[-1].text


def test_a_kill_is_told_with_what_is_known_of_its_reason() -> None:
    # Given
    run = Run(make_manifest(group("a.T")))
    # When
    for _ in range(2):
        run.release(run.claim(), "crash", index=0, cause="killed (signal 9), memory peak 312 MB")
    # Then
    failure = run.machine.verdicts[0].failures[0]
    assert failure.message == "process killed (signal 9), memory peak 312 MB"
    assert failure.text.startswith("The test process was killed (signal 9)")


def test_a_timed_out_set_up_covers_the_tests_of_its_class() -> None:
    # Given
    run = one_chunk(two_classes())
    lease = run.claim()
    # When
    run.record(lease, fixture("setUpClass (a.T)"))
    run.release(
        lease, "timeout", index=None, fixture="setUpClass (a.T)", cause="timed out after 5 s"
    )
    # Then
    (event,) = run.machine.fixture_verdicts()
    assert event.covers == (0, 1)
    assert run.offers[-1].indices == (2, 3)
    assert run.all(ev.Warn) == []


@pytest.mark.parametrize("why", ["crash", "timeout"])
def test_a_set_up_of_a_class_that_is_not_in_the_chunk_is_a_loss_that_is_bounded(why: str) -> None:
    # Given: a name that the manifest does not know, and no budget that would end it
    run = Run(make_manifest(group("a.T")))
    run.machine.deaths.budget = 0
    # When
    for _ in range(3):
        run.release(run.claim(), why, fixture="setUpClass (odd.Name)", cause="signal 11")
    # Then
    assert run.outcomes() == {0: NOT_RUN}
    assert run.machine.exit_code() == 7


def test_silence_is_a_loss_that_is_bounded() -> None:
    # Given
    run = Run(make_manifest(group("a.T")))
    # When
    for _ in range(3):
        run.release(run.claim(), "silence", cause="nothing was said")
    # Then
    assert run.outcomes() == {0: NOT_RUN}
    assert run.machine.exit_code() == 7


# -- elsewhere -------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "avoided"), [(1, ""), (2, "build-a")])
def test_the_suspect_avoids_the_worker_of_its_first_death_where_there_is_another(
    workers: int, avoided: str
) -> None:
    # Given
    run = one_chunk(two_classes(), slots=2)
    run.send(ev.SlotsChanged(2, 2, workers))
    # When
    die(run, run.claim(), index=0)
    # Then
    tries = {chunk.indices: chunk.avoid_worker for chunk in run.offers[1:]}
    assert tries == {(0,): avoided, (1, 2, 3): ""}


def test_a_rerun_avoids_the_worker_of_the_failure() -> None:
    # Given
    run = Run(make_manifest(group("a.T")))
    run.machine.reruns = Reruns(1, 5)
    run.send(ev.SlotsChanged(1, 1, 2))
    lease = run.claim()
    # When
    run.record(lease, finished(0, "failed"))
    run.complete(lease)
    # Then
    assert run.offers[-1].avoid_worker == "build-a"


def test_what_a_worker_lost_avoids_it_but_only_once() -> None:
    # Given
    run = Run(make_manifest(group("a.T")))
    run.send(ev.SlotsChanged(1, 1, 2))
    # When
    run.send(ev.Expired(run.claim()))
    first = run.offers[-1]
    run.release(run.claim(worker="build-b"), "drain")
    # Then
    assert (first.avoid_worker, run.offers[-1].avoid_worker) == ("build-a", "")


def test_an_avoided_chunk_is_published_again_at_once_while_it_is_queued() -> None:
    # Given
    run = Run(make_manifest(group("a.T")))
    avoided = ev.Avoided(LeaseRef(run.offers[0].id, 1, 0, "build-a", 1))
    # When / Then
    assert run.send(avoided) == [ev.Republish(run.offers[0])]
    run.claim(worker="build-b")
    assert run.send(avoided) == []


# -- the budget ------------------------------------------------------------------------


def test_more_deaths_than_the_budget_stop_the_run_with_7_and_keep_what_is_known() -> None:
    # Given
    run = Run(make_manifest(*(group(f"a.T{n:02}") for n in range(20))))
    run.record(run.claim(), finished(0))
    # When
    for _ in range(LEAST_BUDGET):
        die(run, run.claim(), index=run.offers[-1].indices[0])
    assert run.machine.stop is None
    die(run, run.claim(), index=run.offers[-1].indices[0])
    run.send(ev.Ticked(100.0))
    # Then
    assert run.machine.finished
    assert run.machine.exit_code() == 7
    assert run.outcomes()[0] is PASSED
    assert run.machine.stop is not None
    assert (
        run.machine.stop.reason
        == "6 test processes died, which is more than the run may have (--crash-budget 5)"
    )


@pytest.mark.parametrize(
    ("budget", "chunks", "most"),
    [(None, 10, LEAST_BUDGET), (None, 1000, int(1000 * BUDGET_SHARE)), (3, 1000, 3)],
)
def test_the_budget_is_five_or_a_part_of_the_chunks_or_what_was_asked_for(
    budget: int | None, chunks: int, most: int
) -> None:
    assert not Deaths(budget, total=most).exceeded(chunks)
    assert f"--crash-budget {most}" in Deaths(budget, total=most + 1).exceeded(chunks)


def test_a_budget_of_0_is_none() -> None:
    assert not Deaths(0, total=10_000).exceeded(1)


def test_a_chunk_survives_its_way_through_json_with_hint_and_limits() -> None:
    chunk = replace(
        Run(make_manifest(group("a.T"))).offers[0],
        avoid_worker="build-a",
        limits=((0, 90.5),),
        fixture_limit=700.0,
    )
    assert codec.decode(Chunk, codec.loads(codec.dumps(chunk))) == chunk


def test_what_runs_before_a_chunk_and_dies_is_counted_and_not_run_again() -> None:
    # Given
    run = one_chunk(two_classes())
    chunk = run.offers[-1]
    # When
    run.release(run.claim(), "preamble", cause="signal 11 in a class before it")
    # Then
    retry = run.offers[-1]
    assert (retry.indices, retry.preamble) == (chunk.indices, ())
    assert run.machine.deaths.total == 1
    assert not run.machine.lost
