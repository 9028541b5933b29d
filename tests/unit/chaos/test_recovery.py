"""From when to when the harness measures a recovery."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dct_celery.core.run.machine import CLAIM_SECONDS
from tests.chaos.faults.base import Fault
from tests.chaos.faults.brokers import BrokerPurged
from tests.chaos.faults.dispatchers import DispatcherStopped
from tests.chaos.faults.stores import StoreFull
from tests.chaos.faults.workers import PowerOff, StopMain
from tests.chaos.journal import Heard, Tail
from tests.chaos.scene import Leased

WORKERS = [SimpleNamespace(name=name) for name in ("build-a", "build-b", "build-c")]
CHUNKS = [
    Leased("c1", "leased", "build-a", frozenset({1, 2})),
    Leased("c2", "leased", "build-b", frozenset({3})),
    Leased("c3", "queued", "", frozenset({4})),
]


def strike(kind: type[Fault], *, struck: float = 10.0, healed: float = 0.0) -> Fault:
    """Of build-a, which holds c1; build-b holds c2, and c3 waits."""
    scene: Any = SimpleNamespace(lease=4.0, workers=WORKERS)
    worker: Any = WORKERS[0]
    fault = kind(scene, worker, random.Random(1))
    fault.struck, fault.healed, fault._chunks = struck, healed, CHUNKS
    return fault


def heard(*things: Heard) -> Tail:
    return Tail(Path("unused"), heard=list(things))


def verdict(at: float, index: int, chunk: str) -> Heard:
    return Heard(at, "verdict", chunk, index, "build-b")


def claimed(at: float, chunk: str, worker: str) -> Heard:
    return Heard(at, "claimed", chunk, -1, worker)


def offered(at: float, chunk: str, *indices: int) -> Heard:
    return Heard(at, "offered", chunk, -1, "", frozenset(indices))


def test_a_killed_worker_is_recovered_when_the_last_of_its_tests_is_claimed_again() -> None:
    # Given one chunk of other tests, and two that its own were split into
    claims = [
        claimed(11.0, "c9", "build-b"),
        claimed(15.0, "c10", "build-b"),
        claimed(15.5, "c11", "build-c"),
    ]
    verdicts = [verdict(12.0, 3, "c9"), verdict(16.0, 1, "c10"), verdict(19.0, 2, "c11")]
    tail = heard(
        offered(10.5, "c9", 3), offered(14.0, "c10", 1), offered(14.0, "c11", 2), *claims, *verdicts
    )
    # Then
    assert strike(PowerOff).recovery(tail) == 5.5


def test_a_verdict_that_was_under_way_when_its_worker_was_killed_stands() -> None:
    # Given
    moved = [offered(14.0, "c10", 2), claimed(14.5, "c10", "build-b"), verdict(15.0, 2, "c10")]
    # Then
    assert strike(PowerOff).recovery(heard(verdict(9.0, 1, "c1"), *moved)) == 4.5
    assert strike(PowerOff).recovery(heard(verdict(10.25, 1, "c1"), verdict(10.5, 2, "c1"))) == 0.5
    assert strike(PowerOff).recovery(heard(verdict(9.0, 1, "c1"), verdict(9.5, 2, "c1"))) is None


def test_time_in_line_behind_slots_that_are_all_busy_is_no_recovery() -> None:
    # Given: both others are busy until 17, then build-b idles for a second before it takes what was
    # lost
    busy = [claimed(1.0, "c2", "build-b"), claimed(2.0, "c8", "build-c")]
    line = [
        offered(13.0, "c9", 1, 2),
        Heard(17.0, "completed", "c2", -1, "build-b"),
        claimed(18.0, "c9", "build-b"),
    ]
    verdicts = [verdict(19.0, 1, "c9"), verdict(19.0, 2, "c9")]
    # Then
    assert strike(PowerOff).recovery(heard(*busy, *line, *verdicts)) == 4.0
    assert strike(PowerOff).recovery(heard(busy[0], *line, *verdicts)) == 8.0


def test_an_outage_counts_from_its_end_until_every_chunk_that_it_met_goes_on() -> None:
    # Given
    tail = heard(verdict(12.0, 3, "c2"), verdict(14.25, 1, "c1"), verdict(16.0, 2, "c1"))
    # Then
    assert strike(StoreFull, healed=14.0).recovery(tail) == 0.25
    assert strike(StoreFull, healed=11.5).recovery(tail) == 2.75
    assert strike(StoreFull, healed=0.0).recovery(tail) is None


def test_what_others_had_taken_over_before_the_end_of_the_outage_is_not_recovered_afterwards() -> (
    None
):
    # Given
    moved = [
        offered(12.0, "c9", 1, 2),
        claimed(12.5, "c9", "build-c"),
        verdict(15.0, 1, "c9"),
        verdict(16.0, 2, "c9"),
    ]
    # Then
    assert strike(StoreFull, healed=14.0).recovery(heard(*moved)) is None
    assert strike(StoreFull, healed=14.0).recovery(heard(*moved, verdict(14.5, 3, "c2"))) == 0.5


def test_a_lost_message_counts_until_its_chunk_is_claimed_on_the_clock_of_claims() -> None:
    # Given
    tail = heard(claimed(11.0, "c7", "build-a"), claimed(19.5, "c3", "build-b"))
    # Then
    assert strike(BrokerPurged).recovery(tail) == 9.5
    assert strike(BrokerPurged).clock == max(4.0, CLAIM_SECONDS)
    assert strike(PowerOff).clock == 4.0


def test_a_worker_that_took_no_chunks_counts_until_it_claims() -> None:
    # Given
    tail = heard(claimed(21.0, "c7", "build-b"), claimed(23.0, "c8", "build-a"))
    # Then
    assert strike(StopMain, healed=20.0).recovery(tail) == 3.0


def test_what_another_fault_keeps_away_meanwhile_is_in_its_own_figure_alone() -> None:
    # Given
    tail = heard(
        offered(14.0, "c9", 1, 2),
        claimed(20.0, "c9", "build-b"),
        verdict(21.0, 1, "c9"),
        verdict(21.0, 2, "c9"),
    )
    others = [
        strike(DispatcherStopped, struck=12.0, healed=15.0).away,
        strike(StoreFull, struck=14.0, healed=17.0).away,
    ]
    # Then
    assert strike(PowerOff).recovery(tail) == 10.0
    assert strike(PowerOff).recovery(tail, others) == 5.0
    assert (
        strike(PowerOff).recovery(tail, [*others, strike(StopMain, struck=10.0, healed=20.0).away])
        == 5.0
    )


def test_a_dispatcher_is_back_with_its_next_line_whatever_workers_did_meanwhile() -> None:
    # Given
    tail = heard(verdict(14.1, 1, "c1"))
    tail.grown += [12.0, 16.5, 17.0]
    # Then
    assert strike(DispatcherStopped, healed=14.0).recovery(tail) == 2.5


def test_a_fault_that_never_struck_has_nothing_to_recover() -> None:
    assert strike(PowerOff, struck=0.0).recovery(heard(verdict(11.0, 1, "c9"))) is None
