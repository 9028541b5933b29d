"""From when to when the harness measures a recovery."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.chaos.faults.base import Fault
from tests.chaos.faults.brokers import BrokerPurged
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


def test_a_killed_worker_is_recovered_by_a_verdict_of_its_tests_in_another_chunk() -> None:
    # Given one that was still under way, one of other tests, and one of a new chunk
    tail = heard(verdict(10.1, 1, "c1"), verdict(11.0, 3, "c9"), verdict(15.5, 2, "c9"))
    # Then
    assert strike(PowerOff).recovery(tail) == 5.5


def test_a_lost_chunk_that_stands_in_line_behind_busy_slots_is_recovered() -> None:
    # Given
    expired = Heard(13.0, "expired", "c1", -1, "build-a")
    line = [claimed(1.0, "c2", "build-b"), claimed(2.0, "c8", "build-c"), expired, verdict(19.0, 1, "c9")]
    # Then
    assert strike(PowerOff).recovery(heard(*line)) == 3.0
    assert strike(PowerOff).recovery(heard(line[0], *line[2:])) == 9.0


def test_an_outage_counts_from_its_end_and_by_any_test_that_it_met() -> None:
    # Given
    tail = heard(verdict(12.0, 3, "c2"), verdict(14.25, 1, "c1"))
    # Then
    assert strike(StoreFull, healed=14.0).recovery(tail) == 0.25
    assert strike(StoreFull, healed=0.0).recovery(tail) is None


def test_a_lost_message_counts_until_its_chunk_is_claimed_on_the_clock_of_claims() -> None:
    # Given
    tail = heard(claimed(11.0, "c7", "build-a"), claimed(19.5, "c3", "build-b"))
    # Then
    assert strike(BrokerPurged).recovery(tail) == 9.5
    assert strike(BrokerPurged).clock == 10.0
    assert strike(PowerOff).clock == 4.0


def test_a_worker_that_took_no_chunks_counts_until_it_claims() -> None:
    # Given
    tail = heard(claimed(21.0, "c7", "build-b"), claimed(23.0, "c8", "build-a"))
    # Then
    assert strike(StopMain, healed=20.0).recovery(tail) == 3.0


def test_a_fault_that_never_struck_has_nothing_to_recover() -> None:
    assert strike(PowerOff, struck=0.0).recovery(heard(verdict(11.0, 1, "c9"))) is None
