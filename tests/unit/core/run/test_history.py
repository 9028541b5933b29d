"""Claims about `core.run.history`: what ran in which test process, told from events alone."""

from __future__ import annotations

from typing import Any

import pytest

from dct_celery.core.model import Chunk, Need, Phase
from dct_celery.core.run import events as ev
from dct_celery.core.run.history import History, up_to
from dct_celery.core.run.leases import LeaseRef
from tests.support.runs import completed, finished, fixture, released


def events(id_: str, *ran: Any, process: int, worker: str = "build-a", **fields: Any) -> Any:
    """A chunk that ran these tests (an index, or a record) to its end in this process."""
    records = tuple(finished(one) if isinstance(one, int) else one for one in ran)
    indices = tuple(getattr(record, "index", 0) for record in records)
    chunk = Chunk(id_, indices, Phase.ISOLATED, Need.PRISTINE, **fields)
    lease = LeaseRef(id_, 1, 1, worker, 1)
    return [
        ev.Offered(chunk),
        ev.Claimed(lease),
        ev.Recorded(lease, len(records), records),
        completed(lease, process=process),
    ]


def test_chunks_of_one_process_follow_one_another() -> None:
    # When
    history = History.of(
        [
            *events("c1", 0, 1, process=7),
            *events("c2", 4, process=9, worker="build-b"),
            *events("c3", 5, finished(6, "failed"), process=7),
        ]
    )
    # Then
    attempt = history.attempt_of(6)
    assert attempt is not None
    assert (attempt.past, attempt.process) == ((0, 1), (0, 1, 5, 6))


def test_a_fresh_process_has_no_past_and_a_preamble_is_one() -> None:
    # When
    history = History.of(
        [
            *events("c1", 0, process=7),
            *events("c2", 2, process=7, fresh_process=True),
            *events("c3", 5, process=8, fresh_process=True, preamble=(1, 3)),
        ]
    )
    # Then
    assert [one.past for one in history.attempts] == [(), (), (1, 3)]


def test_the_last_bad_attempt_counts_and_else_the_last_one() -> None:
    # When
    history = History.of(
        [
            *events("c1", finished(3, "failed"), finished(4), process=1, fresh_process=True),
            *events("c2", finished(3), finished(4), process=2, fresh_process=True),
        ]
    )
    # Then
    bad, good = history.attempt_of(3), history.attempt_of(4)
    assert bad is not None
    assert bad.chunk.id == "c1"
    assert good is not None
    assert good.chunk.id == "c2"


def test_probes_are_no_verdicts() -> None:
    # When
    history = History.of(
        [
            *events("c1", 3, process=1),
            *events("c2", finished(3, "failed"), process=2, fresh_process=True, probe=True),
        ]
    )
    # Then
    attempt = history.attempt_of(3)
    assert attempt is not None
    assert attempt.chunk.id == "c1"
    assert history.first_bad() is None


def test_the_past_of_a_chunk_whose_slot_was_lost_is_not_known() -> None:
    # Given
    chunk = Chunk("c1", (2, 3), Phase.ISOLATED, Need.PRISTINE)
    lease = LeaseRef("c1", 1, 1, "build-a", 1)
    # When
    history = History.of(
        [
            ev.Offered(chunk),
            ev.Claimed(lease),
            ev.Recorded(lease, 1, (finished(2, "error"),)),
            ev.Expired(lease),
        ]
    )
    # Then
    attempt = history.attempt_of(2)
    assert attempt is not None
    assert attempt.past is None


def test_what_has_not_ended_when_the_events_end_is_told_as_far_as_it_went() -> None:
    # When
    history = History.of(events("c1", 2, process=1, fresh_process=True)[:-1])
    # Then
    assert [one.ran for one in history.attempts] == [[2]]


def test_the_test_in_which_the_process_died_ran_and_is_bad() -> None:
    # Given
    *begun, _ = events("c1", 2, process=1, fresh_process=True)
    # When
    history = History.of([*begun, released(LeaseRef("c1", 1, 1, "build-a", 1), "crash", index=3)])
    # Then
    attempt = history.first_bad()
    assert attempt is not None
    assert (attempt.ran, attempt.bad) == ([2, 3], {3: None})


def test_what_a_fixture_keeps_from_running_is_bad() -> None:
    # Given
    covered = finished(3, "not_run", covered_by="setUpClass (a.C)")
    # When
    history = History.of(events("c1", 2, fixture("setUpClass (a.C)"), covered, process=1))
    # Then
    attempt = history.first_bad()
    assert attempt is not None
    assert set(attempt.bad) == {3}


def test_a_tear_down_alone_is_found_where_no_test_failed() -> None:
    # When
    history = History.of(events("c1", 2, fixture("tearDownClass (a.C)"), process=1))
    # Then
    attempt = history.first_bad()
    assert attempt is not None
    assert not attempt.bad
    assert attempt.fixture_failed


@pytest.mark.parametrize(
    ("last", "same", "expected"),
    [(5, (), (1, 5)), (5, (6, 7), (1, 5, 6, 7)), (8, (), (1, 5, 6, 7, 8))],
)
def test_a_list_ends_with_the_class_of_its_test(
    last: int, same: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    # When / Then
    assert up_to((1, 5, 6, 7, 8, 9), last, same) == expected
