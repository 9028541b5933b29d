"""Claims about `core.run.view`: what people see of a run, by events and by verdicts."""

from __future__ import annotations

import pytest

from dct_celery.core.model import Chunk, FixtureRef, FixtureVerdict, Need, Outcome, Phase, Verdict
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import Record
from dct_celery.core.run.view import MOST_PROBLEMS, WINDOW, RunView
from tests.support.factories import group, held, make_entry, make_manifest
from tests.support.runs import completed, finished, fixture


def verdict(index: int, outcome: Outcome = Outcome.PASSED, seconds: float = 0.0) -> Verdict:
    return Verdict(make_entry(index), outcome, seconds)


def view_of(count: int, *, seconds: float = 1.0, reruns: bool = False) -> RunView:
    """The dispatcher's view of a run of `count` tests of one class, each of `seconds`."""
    manifest = make_manifest(group("app.tests.A", count=count))
    return RunView.of(manifest, lambda index: seconds, reruns=reruns, now=0.0)


def claim(
    view: RunView,
    *indices: int,
    chunk: str = "c1",
    fence: int = 1,
    estimate: float = 0.0,
    now: float = 0.0,
) -> LeaseRef:
    lease = held(fence, chunk=chunk)
    view.take(ev.Offered(Chunk(chunk, indices, Phase.ISOLATED, Need.PRISTINE, estimate=estimate)))
    view.take(ev.Claimed(lease), at=5.0, now=now)
    return lease


def record(view: RunView, lease: LeaseRef, *records: Record, now: float = 0.0) -> None:
    view.take(ev.Recorded(lease, len(records), records), now=now)


# -- outcomes --------------------------------------------------------------------------


def test_every_verdict_counts_once_under_its_outcome() -> None:
    # Given
    view = RunView(5)

    # When
    for index, outcome in enumerate(
        [Outcome.PASSED, Outcome.FAILED, Outcome.XPASSED, Outcome.NOT_RUN]
    ):
        view.judge(verdict(index, outcome), 1.0)

    # Then
    assert (view.done, view.bad) == (4, 2)
    assert view.counts == dict.fromkeys(
        [Outcome.PASSED, Outcome.XPASSED, Outcome.FAILED, Outcome.NOT_RUN], 1
    )


def test_what_slots_say_and_what_the_dispatcher_judges_count_once() -> None:
    # Given
    view = view_of(3)
    lease = claim(view, 0, 1, 2)

    # When: the dispatcher knows better about one of them
    record(view, lease, finished(0), finished(1))
    view.judge(verdict(0), 1.0)
    view.judge(verdict(1, Outcome.ERROR), 1.0)

    # Then
    assert view.counts == {Outcome.PASSED: 1, Outcome.ERROR: 1}
    assert view.rate(1.0) == 2.0


def test_only_who_holds_the_lease_is_believed_and_only_about_its_chunk() -> None:
    # Given
    view = view_of(3)
    lease = claim(view, 0, 1)

    # When
    record(view, held(7, chunk="c1"), finished(0, "failed"))
    record(view, held(1, chunk="c9"), finished(0, "failed"))
    record(view, lease, finished(2, "failed"))

    # Then
    assert view.done == 0


def test_a_record_of_a_test_that_no_manifest_has_takes_no_memory() -> None:
    # Given a view that does not know what the slot's chunk holds
    for total in (None, 9):
        view = RunView(total)
        lease = held(1)
        view.take(ev.Claimed(lease))
        # When
        record(view, lease, finished(2**52), finished(3))
        # Then
        assert view.counts == {Outcome.PASSED: 1}


def test_a_failure_that_reruns_doubt_counts_when_it_is_judged() -> None:
    # Given
    view = view_of(2, reruns=True)
    lease = claim(view, 0, 1)

    # When
    record(view, lease, finished(0, "failed"), finished(1))

    # Then
    assert (view.counts, view.doubts) == ({Outcome.PASSED: 1}, 1)

    # When
    view.judge(verdict(0, Outcome.FAILED), 1.0)

    # Then
    assert (view.bad, view.doubts) == (1, 0)


def test_a_fixture_that_failed_counts_once_whoever_says_so() -> None:
    # Given
    view = view_of(2)
    lease = claim(view, 0, 1)

    # When
    record(view, lease, fixture("setUpClass (app.A)"), fixture("setUpClass (app.B)", "skipped"))
    view.judge_fixture(
        FixtureVerdict(FixtureRef.parse("setUpClass (app.A)"), Outcome.ERROR, reason="boom")
    )

    # Then
    assert view.bad == 1
    assert [(one.name, one.message) for one in view.problems] == [("setUpClass (app.A)", "boom")]


def test_the_list_of_failures_has_an_end_and_their_number_has_not() -> None:
    # When
    view = RunView(1000)
    for index in range(MOST_PROBLEMS + 50):
        view.judge(verdict(index, Outcome.FAILED), 1.0)

    # Then
    assert (len(view.problems), view.bad) == (MOST_PROBLEMS, MOST_PROBLEMS + 50)


# -- slots -----------------------------------------------------------------------------


def test_a_slot_shows_what_it_runs_and_how_far_it_is() -> None:
    # Given
    manifest = make_manifest(group("app.A", count=2), group("app.B", count=2))
    view = RunView.of(manifest, lambda index: 1.0, reruns=False, now=0.0)

    # When
    lease = claim(view, 0, 1, 2, 3)
    record(view, lease, finished(0), finished(1))

    # Then
    (slot,) = view.busy.values()
    assert (slot.running, slot.tests, slot.of, slot.since) == ("app.B", 2, 4, 5.0)
    assert view.queued == {}

    # When
    view.take(completed(lease))

    # Then
    assert (view.busy, view.chunks_done) == ({}, 1)


def test_a_lease_that_a_new_epoch_repeats_changes_nothing() -> None:
    # Given
    view = view_of(4)
    lease = claim(view, 0, 1, 2, 3)
    record(view, lease, finished(0))

    # When: the run was put back into the store
    claim(view, 0, 1, 2, 3)

    # Then
    assert [slot.tests for slot in view.busy.values()] == [1]
    assert view.queued == {}


# -- rate and time left ----------------------------------------------------------------


def test_the_rate_looks_back_one_window_only() -> None:
    # Given two tests a second for twenty seconds
    view = RunView(100, began=0.0)
    for index in range(40):
        view.judge(verdict(index), (index + 1) / 2)

    # Then
    assert (view.rate(20.0), view.rate(25.0), view.rate(20.0 + WINDOW)) == (2.0, 1.0, 0.0)


def test_the_rate_of_a_young_run_is_taken_over_its_age_and_never_over_an_instant() -> None:
    # Given
    view = RunView(100, began=0.0)
    for index in range(8):
        view.judge(verdict(index), 0.001)

    # Then
    assert (view.rate(0.001), view.rate(4.0)) == (8.0, 2.0)


def test_tests_that_never_ran_are_done_but_add_nothing_to_the_rate() -> None:
    # Given
    view = RunView(50, began=0.0)
    view.judge(verdict(0), 1.0)

    # When
    for index in range(1, 50):
        view.judge(verdict(index, Outcome.NOT_RUN), 1.0)

    # Then
    assert (view.done, view.rate(2.0)) == (50, 0.5)
    assert view.newest is not None
    assert view.newest.entry.index == 0


def test_what_happened_under_another_dispatcher_is_no_rate_of_this_one() -> None:
    # Given
    view = RunView(50, began=0.0)
    for index in range(40):
        view.judge(verdict(index), 1.0)

    # When
    view.resume(1.0)

    # Then
    assert view.rate(1.0) == 0.0


def test_the_time_left_falls_while_a_chunk_runs() -> None:
    # Given a class of one test that was predicted to take a hundred seconds
    view = view_of(1, seconds=100.0)
    view.plan(0.0, 0.0)
    claim(view, 0, estimate=100.0)

    # Then
    assert [view.eta(now) for now in (0.0, 30.0, 99.0, 120.0)] == [100.0, 70.0, 1.0, 0.0]


def test_no_time_passes_for_what_is_behind_the_test_that_runs() -> None:
    # Given ten tests of one second each
    view = view_of(10)
    view.plan(0.0, 0.0)
    claim(view, *range(10), estimate=10.0)

    # Then: the first one hangs
    assert view.eta(60.0) == 9.0


def test_a_class_that_cannot_be_split_bounds_the_end() -> None:
    # Given two slots, little work, and one class of 60 s that has not begun
    view = view_of(100, seconds=0.1)
    view.connected = 2
    claim(view, *range(10), chunk="c1", estimate=4.0)
    claim(view, *range(10, 20), chunk="c2", fence=2, estimate=8.0)
    view.plan(70.0, 60.0)

    # Then: not (4 + 8 + 70) / 2
    assert view.eta(0.0) == 64.0


def test_what_a_slot_still_has_to_do_bounds_the_end() -> None:
    # Given
    view = view_of(100, seconds=1.0)
    claim(view, *range(2), chunk="c1", estimate=2.0)
    claim(view, *range(2, 92), chunk="c2", fence=2, estimate=90.0)
    view.plan(4.0, 1.0)

    # Then
    assert view.eta(0.0) == 90.0


def test_estimates_are_corrected_by_what_tests_really_take() -> None:
    # Given tests of which nothing is known, which take twenty times the usual guess
    view = view_of(400, seconds=0.05)
    lease = claim(view, *range(200), estimate=10.0)
    view.plan(10.0, 0.1)

    # When
    record(view, lease, *(finished(index, seconds=1.0) for index in range(100)))

    # Then: 300 s are left on one slot
    eta = view.eta(0.0)
    assert eta is not None
    assert 200 < eta < 310


def test_the_time_left_comes_from_the_rate_where_no_slot_is_busy_or_there_are_no_estimates() -> (
    None
):
    # Given
    view = RunView(10, began=0.0)
    view.judge(verdict(0), 1.0)

    # When
    without_estimates = view.eta(2.0)
    view.plan(100.0, 0.0)

    # Then
    assert without_estimates == view.eta(2.0) == 18.0


def test_the_time_left_is_unknown_before_anything_happened_and_nothing_at_the_end() -> None:
    # Given
    view = RunView(1)
    assert view.eta(5.0) is None

    # When
    view.judge(verdict(0), 6.0)

    # Then
    assert view.eta(6.0 + 2 * WINDOW) == 0.0


# -- as it is written down -------------------------------------------------------------


def test_outcomes_survive_being_written_down() -> None:
    # Given
    view = RunView(9)
    for index, outcome in enumerate(Outcome):
        view.judge(verdict(index + 1, outcome), 0.0)

    # When
    again = RunView(9)
    again.restore(view.coded())

    # Then
    assert again.counts == view.counts
    assert [again.outcome(index) for index in range(9)] == [None, *Outcome, None]


def test_what_is_no_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="no outcome has the code 99"):
        RunView(1).restore(b"\x63")
