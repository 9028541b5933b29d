from __future__ import annotations

from dct_celery.core.model import Entry, Outcome, Phase, Verdict
from dct_celery.core.progress import WINDOW, Progress


def verdict(index: int, outcome: Outcome = Outcome.PASSED) -> Verdict:
    return Verdict(Entry(index, f"app.tests.T.test_{index}", "app.tests.T", "app.tests", Phase.ISOLATED), outcome)


def test_every_verdict_counts_once_under_its_outcome() -> None:
    # Given
    progress = Progress(5)

    # When
    for index, outcome in enumerate([Outcome.PASSED, Outcome.FAILED, Outcome.XPASSED, Outcome.NOT_RUN]):
        progress.verdict(verdict(index, outcome), 1.0)

    # Then
    assert progress.done == 4
    assert progress.failed == 2
    assert {o: n for o, n in progress.counts.items() if n} == {
        Outcome.PASSED: 1,
        Outcome.FAILED: 1,
        Outcome.XPASSED: 1,
        Outcome.NOT_RUN: 1,
    }
    assert set(progress.counts) == set(Outcome)


def test_a_second_verdict_of_an_entry_replaces_the_first() -> None:
    # Given
    progress = Progress(2, began=0.0)
    progress.verdict(verdict(0, Outcome.ERROR), 1.0)

    # When
    progress.verdict(verdict(0, Outcome.PASSED), 2.0)

    # Then
    assert (progress.done, progress.failed) == (1, 0)
    assert progress.counts[Outcome.PASSED] == 1
    assert progress.rate(2.0) == 0.5


def test_the_rate_looks_back_one_window_only() -> None:
    # Given two tests a second for twenty seconds
    progress = Progress(100, began=0.0)
    for index in range(40):
        progress.verdict(verdict(index), (index + 1) / 2)

    # When
    then, later, much_later = progress.rate(20.0), progress.rate(25.0), progress.rate(20.0 + WINDOW)

    # Then
    assert (then, later, much_later) == (2.0, 1.0, 0.0)


def test_the_rate_of_a_young_run_is_taken_over_its_age_and_never_over_an_instant() -> None:
    # Given
    progress = Progress(100, began=0.0)
    for index in range(8):
        progress.verdict(verdict(index), 0.001)

    # When
    at_once, after_four = progress.rate(0.001), progress.rate(4.0)

    # Then
    assert (at_once, after_four) == (8.0, 2.0)


def test_tests_that_never_ran_are_done_but_add_nothing_to_the_rate() -> None:
    # Given
    progress = Progress(50, began=0.0)
    progress.verdict(verdict(0), 1.0)

    # When
    for index in range(1, 50):
        progress.verdict(verdict(index, Outcome.NOT_RUN), 1.0)

    # Then
    assert progress.done == 50
    assert progress.rate(2.0) == 0.5
    assert progress.last is not None
    assert progress.last.entry.index == 0


def test_the_time_left_comes_from_the_estimates_and_the_busy_slots() -> None:
    # Given
    progress = Progress(10, began=0.0)
    progress.verdict(verdict(0), 1.0)
    progress.slots(4, 4)

    # When
    progress.remaining_seconds = 100.0

    # Then
    assert progress.eta(1.0) == 25.0


def test_the_time_left_comes_from_the_rate_where_no_slot_is_busy_or_nobody_estimated() -> None:
    # Given
    progress = Progress(10, began=0.0)
    progress.verdict(verdict(0), 1.0)

    # When
    without_estimates = progress.eta(2.0)
    progress.remaining_seconds = 100.0
    without_slots = progress.eta(2.0)

    # Then
    assert without_estimates == without_slots == 18.0


def test_the_time_left_is_unknown_before_anything_happened_and_nothing_at_the_end() -> None:
    # Given
    progress = Progress(1)

    # When
    before = progress.eta(5.0)
    progress.verdict(verdict(0), 6.0)

    # Then
    assert before is None
    assert progress.eta(6.0 + 2 * WINDOW) == 0.0
