"""Claims about `core.run.machine`: what is offered and when, fixtures, any order of events."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.core.model import Chunk, Manifest, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.machine import CLAIM_SECONDS
from tests.support.factories import group, make_manifest, manifests
from tests.support.runs import Run, completed, finished, fixture, released

MANIFEST = make_manifest(group("a.T", count=2), group("b.U"), group("c.V"))


def test_one_chunk_per_slot_waits_and_no_more() -> None:
    # Given
    run = Run(MANIFEST, slots=2)
    assert len(run.offers) == 2
    # When
    run.claim(run.offers[0])
    # Then
    assert len(run.offers) == 3
    # When
    run.send(ev.SlotsChanged(0, 0))
    run.claim(run.offers[1])
    # Then
    assert len(run.offers) == 3


def test_with_more_slots_than_may_work_nothing_waits() -> None:
    # Given
    run = Run(MANIFEST, slots=5, most_slots=2)
    assert len(run.offers) == 2
    # When
    lease = run.claim(run.offers[0])
    # Then
    assert len(run.offers) == 2
    # When
    run.record(lease, *map(finished, run.offers[0].indices))
    run.complete(lease)
    # Then
    assert len(run.offers) == 3


def test_with_no_more_slots_than_may_work_one_chunk_waits_for_each() -> None:
    # Given
    run = Run(MANIFEST, slots=2, most_slots=2)
    # When
    run.claim(run.offers[0])
    # Then
    assert len(run.offers) == 3


def test_an_unclaimed_chunk_is_published_again_while_a_ready_slot_idles() -> None:
    # Given
    run = Run(MANIFEST)
    chunk = run.offers[0]
    # When
    run.send(ev.Ticked(CLAIM_SECONDS))
    assert run.all(ev.Republish) == []
    run.send(ev.Ticked(CLAIM_SECONDS + 1))
    run.send(ev.Ticked(CLAIM_SECONDS + 2))
    # Then
    assert run.all(ev.Republish) == [ev.Republish(chunk)]
    # When
    run.send(ev.Ticked(2 * CLAIM_SECONDS + 2))
    # Then
    assert len(run.all(ev.Republish)) == 2


def test_no_chunk_is_published_again_while_more_has_happened_than_is_known() -> None:
    # Given
    run = Run(MANIFEST)
    # When: one of the claims that are not read yet may be this chunk's
    run.send(ev.Ticked(CLAIM_SECONDS * 5, behind=True))
    run.send(ev.Ticked(CLAIM_SECONDS * 6))
    # Then
    assert run.all(ev.Republish) == []
    # When
    run.send(ev.Ticked(CLAIM_SECONDS * 6 + 1))
    # Then
    assert len(run.all(ev.Republish)) == 1


@pytest.mark.parametrize(
    ("slots", "seconds"), [(1, 0.05), (200, 0.05), (1024, 0.256), (100_000, 1.0)]
)
def test_slots_keep_their_records_for_longer_the_more_there_are(slots: int, seconds: float) -> None:
    run = Run(MANIFEST, slots)
    assert {chunk.batch_seconds for chunk in run.offers} == {seconds}


def test_no_chunk_is_published_again_while_every_ready_slot_is_busy() -> None:
    # Given
    run = Run(MANIFEST)
    run.claim()
    # When
    run.send(ev.Ticked(CLAIM_SECONDS * 5))
    # Then
    assert run.all(ev.Republish) == []


def test_slots_that_are_not_ready_do_not_idle() -> None:
    # Given
    run = Run(MANIFEST)
    run.send(ev.SlotsChanged(1, 0))
    # When
    run.send(ev.Ticked(CLAIM_SECONDS * 5))
    # Then
    assert run.all(ev.Republish) == []


def test_a_claim_of_a_chunk_that_was_never_offered_is_ignored() -> None:
    # Given
    run = Run(MANIFEST)
    # When
    effects = run.send(ev.Claimed(LeaseRef("c99", 1, 7, "build-a", 1)))
    # Then
    assert effects == []
    assert run.machine.busy == 0


def test_a_fixture_that_failed_twice_is_reported_once_with_all_that_it_covers() -> None:
    # Given
    run = Run(make_manifest(group("a.T", count=2)))
    name = "setUpClass (a.T)"
    first = run.claim()
    # When
    run.record(first, fixture(name), finished(0, "not_run", covered_by=name))
    run.send(ev.Expired(first))
    second = run.claim(worker="build-b")
    run.record(second, fixture(name), finished(1, "not_run", covered_by=name))
    # Then
    assert len(run.all(ev.JudgeFixture)) == 1
    (verdict,) = run.machine.fixture_verdicts()
    assert (verdict.id, verdict.worker, verdict.covers) == (name, "build-a", (0, 1))
    assert run.machine.finished
    assert run.outcomes() == {0: Outcome.NOT_RUN, 1: Outcome.NOT_RUN}
    assert run.machine.exit_code() == 1


def test_tests_covered_by_a_skipped_fixture_leave_the_run_green() -> None:
    # Given
    run = Run(make_manifest(group("a.T")))
    # When
    run.record(
        run.claim(),
        fixture("setUpClass (a.T)", "skipped"),
        finished(0, "not_run", covered_by="setUpClass (a.T)"),
    )
    # Then
    assert run.machine.exit_code() == 0


class Fleet:
    """Slots that do anything at any time, but nothing that the ledger would refuse."""

    def __init__(self, run: Run, chance: random.Random) -> None:
        self.run = run
        self.chance = chance
        self.held: list[tuple[LeaseRef, Chunk]] = []
        self.ended: list[LeaseRef] = []
        self.claimed: set[str] = set()
        self.now = 0.0

    def step(self) -> None:
        waiting = [chunk for chunk in self.run.offers if chunk.id not in self.claimed]
        moves = [self.tick, self.replay]
        if waiting and self.run.machine.stop is None:
            moves += [lambda: self.claim(self.chance.choice(waiting))] * 3
        if self.held:
            moves += [self.some_records, self.end]
        self.chance.choice(moves)()

    def claim(self, chunk: Chunk) -> None:
        self.claimed.add(chunk.id)
        locks = [lock for _, held in self.held for lock in held.locks]
        assert not set(locks) & set(chunk.locks), "a lock is held twice"
        self.held.append((self.run.claim(chunk, slot=self.chance.randint(1, 3)), chunk))

    def some_records(self) -> None:
        lease, chunk = self.chance.choice(self.held)
        some = self.chance.sample(chunk.indices, self.chance.randint(0, len(chunk.indices)))
        outcomes = ["passed", "passed", "skipped", "failed", "not_run"]
        self.run.record(lease, *(finished(index, self.chance.choice(outcomes)) for index in some))

    def end(self) -> None:
        lease, chunk = self.held.pop(self.chance.randrange(len(self.held)))
        self.ended.append(lease)
        how = self.chance.choice(["complete", "all", "expire", "crash", "drain", "database"])
        if how == "all":
            self.run.record(lease, *(finished(index) for index in chunk.indices))
        if how in ("complete", "all"):
            self.run.complete(lease)
        elif how == "expire":
            self.run.send(ev.Expired(lease))
        else:
            index = self.chance.choice([None, *chunk.indices]) if how == "crash" else None
            self.run.release(lease, how, index=index, cause="signal 11")

    def tick(self) -> None:
        self.now += self.chance.choice([0.1, CLAIM_SECONDS])
        self.run.send(ev.Ticked(self.now))

    def replay(self) -> None:
        """Events of a lease that has long ended."""
        if self.ended:
            lease = self.chance.choice(self.ended)
            again: list[ev.Event] = [completed(lease), released(lease, "crash"), ev.Expired(lease)]
            self.run.send(self.chance.choice(again))


@settings(max_examples=100, deadline=None)
@given(manifests(), st.integers(1, 4), st.sampled_from([0, 0, 2]), st.integers(0, 2**32))
def test_any_order_of_events_ends_with_one_disposition_each(
    manifest: Manifest, slots: int, maxfail: int, seed: int
) -> None:
    # Given: chance by seed, for hypothesis would find the fleet that only ever waits
    run = Run(manifest, slots=slots, maxfail=maxfail, chunk_seconds=1.0)
    fleet = Fleet(run, random.Random(seed))
    # When
    for _ in range(100 + 100 * len(manifest)):
        if run.machine.finished:
            break
        fleet.step()
    # Then
    finished_in_time = run.machine.finished
    assert finished_in_time
    assert Counter(run.judged()) == Counter(range(len(manifest)))
    offered = Counter(chunk.id for chunk in run.offers)
    assert all(times == 1 for times in offered.values())
    assert len(run.all(ev.Cancel)) <= 1


def test_a_chunk_that_waited_behind_a_long_one_is_not_published_twice() -> None:
    # Given a slot that was busy for long while the next chunk waited
    run = Run(MANIFEST)
    lease = run.claim()
    for second in range(1, 30):
        run.send(ev.Ticked(float(second)))
    # When it is idle for a moment
    run.complete(lease)
    run.send(ev.Ticked(29.5))
    # Then
    assert run.all(ev.Republish) == []
