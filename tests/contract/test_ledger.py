"""What every ledger promises.

One holder at a time, stale ones refused and counted, everything on the stream in order.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
import redis

from dct_celery.adapters.redisstore.client import connect
from dct_celery.adapters.redisstore.ledger import RedisLedger
from dct_celery.core.model import Chunk, Need, Phase
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.view import RunView
from dct_celery.errors import Superseded
from dct_celery.ports import (
    ABANDONED_MS,
    AVOID_MS,
    DISPATCHER_LEASE_MS,
    Ledger,
    RunContents,
    Survey,
)
from dct_celery.protocol.leases import AdoptAnswer, ClaimAnswer, OutstandingChunk, WriteAnswer
from dct_celery.protocol.runs import ManifestSummary, RunSpec, RunState
from dct_celery.protocol.stream import Reported, StreamEntry
from dct_celery.protocol.summary import RunSummary
from dct_celery.protocol.workers import RefusedReport
from tests.contract.conftest import NONCE, Store
from tests.support.factories import fences, held, make_spec, pool_door
from tests.support.runs import as_sent, finished

CHUNK = Chunk(
    "c1",
    (0, 1),
    Phase.TRANSACTIONAL,
    Need.FLUSHED,
    flushed=("default",),
    locks=("port:1",),
    estimate=1.5,
    fresh_process=True,
    limits=((1, 90.5),),
    fixture_limit=900.0,
)
LEASE = 60_000
ME, YOU = "a" * 16, "b" * 16
DONE, DRAINED = ev.ChunkCompleted(), ev.ChunkReleased(ev.ReleaseReason.DRAIN)
ONE, TWO = as_sent(finished(0)), as_sent(finished(1))
MANIFEST = ManifestSummary("ab" * 32, 2, {"python": "é"})


@pytest.fixture
def ledger(store: Store) -> Ledger:
    ledger = store.ledger()
    assert ledger.open_run(ME, spec_of(store), 60)
    ledger.commit([CHUNK])
    return ledger


def spec_of(store: Store) -> RunSpec:
    return make_spec(store.run, environment={"TZ": "é"})


def take(ledger: Ledger, worker: str = "build-a", slot: int = 1, attempt: int = 1) -> LeaseRef:
    claim = ledger.claim("c1", attempt, worker=worker, slot=slot, lease_ms=LEASE)
    assert claim.answer is ClaimAnswer.OK
    assert claim.lease is not None
    return claim.lease


def status(ledger: Ledger, chunk: str = "c1", attempt: int = 1) -> str:
    claim = ledger.claim(chunk, attempt, worker="build-z", slot=9, lease_ms=LEASE)
    assert claim.chunk is None
    return claim.answer


def entries(ledger: Ledger, after: str = "0") -> tuple[StreamEntry, ...]:
    """Of the whole stream, all of which is believed."""
    page = ledger.read(after, block_ms=0)
    assert page.rejected == ()
    return page.entries


def age(store: Store, ledger: Ledger, ms: int) -> list[str]:
    """Time passes while the ledger is reaped as often as it should be; what was reaped."""
    reaped = []
    for _ in range(0, ms, 1000):
        store.pass_time(1000)
        reaped += ledger.reap()
    return reaped


def kinds(ledger: Ledger) -> list[str]:
    """What happened to chunks that were on offer."""
    return [
        entry.fields["k"] for entry in entries(ledger) if not isinstance(entry.fact, ev.Offered)
    ]


def test_a_run_opens_once(store: Store, ledger: Ledger) -> None:
    # When
    again = store.ledger().open_run(YOU, make_spec(store.run), 60)
    # Then
    assert not again
    assert ledger.spec() == spec_of(store)
    assert store.ledger("another").open_run(YOU, make_spec(store.run), 60)


def test_a_run_that_is_opened_again_because_the_answer_was_lost_is_the_same_one(
    store: Store, ledger: Ledger
) -> None:
    # When: the client sends it again by itself
    again = ledger.open_run(ME, spec_of(store), 60)
    # Then
    assert again
    assert take(ledger)


def test_without_a_run_there_is_nothing(store: Store) -> None:
    # Given
    ledger = store.ledger("nobody")
    # Then
    assert (ledger.spec(), ledger.manifest(), ledger.state()) == (None, None, "none")
    assert status(ledger) == "no-run"
    assert ledger.reap() == []
    assert kinds(ledger) == []


def test_a_claim_gives_the_chunk_as_it_was_offered(ledger: Ledger) -> None:
    # When
    claim = ledger.claim("c1", 1, worker="build-a", slot=3, lease_ms=LEASE)
    # Then
    assert claim.chunk == CHUNK
    assert claim.lease == held(1, worker="build-a", slot=3)
    _, event = entries(ledger)
    assert (event.fact, event.epoch) == (ev.Claimed(claim.lease, LEASE), 1)


def test_a_duplicate_claim_loses(ledger: Ledger) -> None:
    # Given
    take(ledger)
    # Then
    assert status(ledger) == "held"
    assert kinds(ledger) == ["claimed"]


def test_the_worker_to_avoid_leaves_the_chunk_to_others_and_the_stream_says_so(
    store: Store,
) -> None:
    # Given
    ledger = store.ledger()
    ledger.open_run(ME, spec_of(store), 60)
    ledger.commit([replace(CHUNK, avoid_worker="build-z")])
    # When
    assert status(ledger) == "avoid"
    # Then
    assert entries(ledger)[-1].fact == ev.Avoided(held(0, worker="build-z", slot=9))
    take(ledger, worker="build-a")


def test_a_chunk_that_no_other_worker_took_is_open_to_the_worker_to_avoid(store: Store) -> None:
    # Given
    ledger = store.ledger()
    ledger.open_run(ME, spec_of(store), 60)
    ledger.commit([replace(CHUNK, avoid_worker="build-a")])
    # When
    store.pass_time(AVOID_MS)
    # Then
    take(ledger, worker="build-a")


def test_only_what_is_on_offer_can_be_claimed(ledger: Ledger) -> None:
    assert status(ledger, "c99") == "unknown"
    assert status(ledger, attempt=2) == "stale"


@pytest.mark.parametrize("verb", ["complete", "release", "reap"])
def test_what_has_ended_cannot_be_claimed_again(store: Store, ledger: Ledger, verb: str) -> None:
    # Given
    lease = take(ledger)
    if verb == "reap":
        store.let_leases_run_out()
        ledger.reap()
    else:
        assert ledger.end(lease, 0, DONE if verb == "complete" else DRAINED) is WriteAnswer.OK
    # When: a message that came twice
    ledger.commit([CHUNK])
    # Then
    assert status(ledger) == "done"


def test_every_claim_has_a_higher_fence(ledger: Ledger) -> None:
    # Given
    first = take(ledger)
    ledger.end(first, 0, DRAINED)
    # When
    ledger.commit([Chunk("c1", (0,), Phase.ISOLATED, Need.PRISTINE, attempt=2)])
    # Then
    assert status(ledger, attempt=1) == "stale"
    assert take(ledger, attempt=2).fence > first.fence


def test_a_stale_fence_is_refused_everywhere_and_counted(store: Store, ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    store.let_leases_run_out()
    assert ledger.reap() == ["c1"]
    before = kinds(ledger)
    # When
    answers = [
        ledger.renew(lease, LEASE),
        ledger.append(lease, 1, ONE, LEASE),
        ledger.end(lease, 1, DONE),
        ledger.end(lease, 1, DRAINED),
    ]
    # Then
    assert answers == ["lost"] * 4
    assert ledger.refused() == 4
    assert kinds(ledger) == before == ["claimed", "expired"]


def test_the_fence_of_an_earlier_attempt_does_nothing_to_the_next(ledger: Ledger) -> None:
    # Given
    old = take(ledger)
    ledger.end(old, 0, DRAINED)
    ledger.commit([Chunk("c1", (0,), Phase.ISOLATED, Need.PRISTINE, attempt=2)])
    new = take(ledger, "build-b", attempt=2)
    # When
    answers = [ledger.append(old, 1, ONE, LEASE), ledger.end(old, 1, DONE)]
    # Then
    assert answers == ["lost", "lost"]
    assert ledger.end(new, 0, DONE) == "ok"


def test_an_end_ends_the_lease_once(ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    # When
    answers = [ledger.end(lease, 0, DONE), ledger.end(lease, 0, DONE)]
    # Then
    assert answers == ["ok", "lost"]
    assert kinds(ledger) == ["claimed", "completed"]


def test_records_reach_the_stream_in_order_with_all_that_identifies_them(ledger: Ledger) -> None:
    # Given
    lease = take(ledger, "build-a", 2)
    first, second = finished(0, output="é\x00\udcff"), finished(1, "failed")
    # When
    assert ledger.append(lease, 1, as_sent(first), LEASE) is WriteAnswer.OK
    assert ledger.append(lease, 2, as_sent(second), LEASE) is WriteAnswer.OK
    assert ledger.end(lease, 2, DRAINED) is WriteAnswer.OK
    # Then
    facts = [entry.fact for entry in entries(ledger)][2:]
    assert facts == [
        ev.Recorded(lease, 1, (first,)),
        ev.Recorded(lease, 2, (second,)),
        ev.Ended(lease, 2, DRAINED),
    ]
    assert [entry.position for entry in entries(ledger)][2:] == [
        ("c1.1", 1),
        ("c1.1", 2),
        ("c1.1", 3),
    ]


def test_reading_the_stream_continues_where_it_stopped(ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    for seq in (1, 2, 3):
        ledger.append(lease, seq, ONE, LEASE)
    # When
    first = ledger.read("0", block_ms=0, count=2)
    rest = ledger.read(first.last, block_ms=0)
    # Then
    assert [entry.fields.get("q", "0") for entry in first.entries + rest.entries] == [
        "0",
        "0",
        "1",
        "2",
        "3",
    ]
    assert (first.last, rest.last) == (first.entries[-1].id, rest.entries[-1].id)
    nothing = ledger.read(rest.last, block_ms=1)
    assert (nothing.entries, nothing.rejected, nothing.last) == ((), (), "")


def test_a_worker_can_report_about_the_run_as_a_whole(ledger: Ledger) -> None:
    # When
    ledger.report("build-a", RefusedReport("Django é", permanent=True))
    # Then
    _, event = entries(ledger)
    assert event.fact == Reported("build-a", RefusedReport("Django é", permanent=True))


def test_a_lease_that_was_renewed_is_not_reaped(store: Store, ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    assert ledger.reap() == []
    store.let_leases_run_out()
    # When
    assert ledger.renew(lease, LEASE) == "ok"
    # Then
    assert ledger.reap() == []
    assert ledger.end(lease, 0, DONE) == "ok"


def test_records_prolong_the_lease(store: Store, ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    store.let_leases_run_out()
    # When
    ledger.append(lease, 1, ONE, LEASE)
    # Then
    assert ledger.reap() == []


def test_a_lease_is_reaped_once_and_its_holder_named(store: Store, ledger: Ledger) -> None:
    # Given
    lease = take(ledger, "build-a", 4)
    store.let_leases_run_out()
    # When
    reaped = [ledger.reap(), ledger.reap()]
    # Then
    assert reaped == [["c1"], []]
    assert entries(ledger)[-1].fact == ev.Expired(lease)
    assert (lease.worker, lease.slot) == ("build-a", 4)


def test_the_lease_clock_runs_while_the_store_takes_writes(store: Store, ledger: Ledger) -> None:
    # Given
    take(ledger)
    # Then
    assert age(store, ledger, LEASE - 1000) == []
    assert age(store, ledger, 1000) == ["c1"]


def test_the_lease_clock_stands_still_while_no_dispatcher_can_reap(
    store: Store, ledger: Ledger
) -> None:
    # Given: nine tenths of the lease are left
    lease = take(ledger)
    age(store, ledger, LEASE // 10)
    # When: no writes for much longer than a lease
    store.pass_time(100 * LEASE)
    # Then
    assert ledger.reap() == []
    age(store, ledger, LEASE * 8 // 10)
    assert ledger.renew(lease, LEASE) == "ok"


def test_what_was_left_of_a_lease_is_left_after_a_gap(store: Store, ledger: Ledger) -> None:
    # Given
    take(ledger)
    age(store, ledger, LEASE // 2)
    # When
    store.pass_time(100 * LEASE)
    assert ledger.reap() == []
    # Then
    assert "c1" in age(store, ledger, LEASE // 2 + 1000)


def test_a_gap_keeps_no_holder_for_longer_than_a_lease(store: Store, ledger: Ledger) -> None:
    # Given: the reaper alone is away, the holder renews at the end of the gap and dies
    lease = take(ledger)
    store.pass_time(100 * LEASE)
    assert ledger.renew(lease, LEASE) == "ok"
    # When
    assert ledger.reap() == []
    # Then
    assert "c1" in age(store, ledger, LEASE + 1000)


def test_a_gap_returns_no_lease_that_was_lost_before(store: Store, ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    store.let_leases_run_out()
    assert ledger.reap() == ["c1"]
    # When
    store.pass_time(100 * LEASE)
    # Then
    assert ledger.reap() == []
    assert ledger.renew(lease, LEASE) == "lost"


def test_a_clock_that_was_set_back_keeps_no_holder_for_longer_than_a_lease(
    store: Store, ledger: Ledger
) -> None:
    # Given
    take(ledger)
    # When: another store takes over, whose clock is behind
    store.set_clock_back(100 * LEASE)
    assert ledger.reap() == []
    # Then
    assert "c1" in age(store, ledger, LEASE + 1000)


def test_a_run_that_is_not_cancelled_has_no_reason(ledger: Ledger, store: Store) -> None:
    assert ledger.reason() == store.ledger("nobody-opened-it").reason() == ""


def test_after_a_cancel_nothing_is_claimed_and_holders_learn_of_it(ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    ledger.commit([Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE)])
    # When
    ledger.cancel("interrupted")
    # Then
    ledger.cancel("too late to say why")
    assert (ledger.state(), ledger.reason()) == ("cancelled", "interrupted")
    assert status(ledger, "c2") == "cancelled"
    assert ledger.renew(lease, LEASE) == "cancelled"
    assert ledger.append(lease, 1, ONE, LEASE) == "cancelled"
    assert ledger.end(lease, 1, DONE) == "ok"
    assert kinds(ledger) == ["claimed", "records", "completed"]


def test_what_the_dispatcher_acknowledged_is_remembered(ledger: Ledger) -> None:
    # When
    ledger.commit(acknowledged={})
    ledger.commit(acknowledged={"c1.1": 3, "c2.1": 1})
    ledger.commit(acknowledged={"c1.1": 5})
    # Then
    assert ledger.acknowledged(["c1.1", "c9.1", "c2.1"]) == [5, 0, 1]
    assert ledger.acknowledged([]) == []


def test_the_manifest_is_known_once_it_is_published(ledger: Ledger) -> None:
    # Given
    assert ledger.manifest() is None
    # When
    ledger.publish_manifest(MANIFEST)
    # Then
    assert ledger.manifest() == MANIFEST


def test_the_view_of_the_run_is_kept_until_the_run_is_put_back(
    store: Store, ledger: Ledger
) -> None:
    # Given
    assert ledger.summary() is None
    view = RunView(3, waiting="é")
    summary = RunSummary.of(view, epoch=1, after="17-0", now=0.0, mask=str)
    # When
    ledger.publish_summary(summary)
    # Then
    assert store.ledger().summary() == summary
    # When
    assert ledger.reopen(ME, 2, RunContents(spec_of(store)), [], {})
    # Then
    assert ledger.summary() is None


def test_a_closed_run_gives_nothing_more_and_its_name_is_not_taken_over(
    store: Store, ledger: Ledger
) -> None:
    # Given
    lease = take(ledger)
    ledger.extend(60)
    # When
    ledger.close()
    # Then
    assert status(ledger) == "cancelled"
    assert ledger.renew(lease, LEASE) == "cancelled"
    assert not store.ledger().open_run(YOU, spec_of(store), 60)


def test_a_late_slot_does_not_recreate_a_forgotten_run(store: Store, ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    store.forget_run()
    # When
    answers = [
        ledger.renew(lease, LEASE),
        ledger.append(lease, 1, ONE, LEASE),
        ledger.end(lease, 1, DONE),
        ledger.end(lease, 1, DRAINED),
    ]
    ledger.commit([CHUNK])
    ledger.cancel("too late")
    ledger.publish_manifest(MANIFEST)
    ledger.close()
    # Then
    assert answers == ["gone"] * 4
    assert ledger.state() == "none"
    assert ledger.open_run(YOU, spec_of(store), 60)


def test_an_offer_is_on_the_stream_once(ledger: Ledger) -> None:
    # When
    ledger.commit([CHUNK])
    # Then
    (event,) = entries(ledger)
    assert (event.fact, event.epoch) == (ev.Offered(CHUNK), 1)


def test_many_chunks_and_positions_are_written_at_once(ledger: Ledger) -> None:
    # Given
    chunks = [
        Chunk(f"c{number}", (number,), Phase.ISOLATED, Need.PRISTINE) for number in range(2, 40)
    ]
    # When
    ledger.commit(chunks, {"c1.1": 3, "c7.2": 4})
    # Then
    assert [entry.fact for entry in entries(ledger)[1:]] == [ev.Offered(chunk) for chunk in chunks]
    assert fences(ledger, [chunk.id for chunk in chunks]) == [0] * len(chunks)
    assert ledger.acknowledged(["c1.1", "c7.2"]) == [3, 4]


def test_a_dispatcher_that_was_superseded_acknowledges_nothing(
    store: Store, ledger: Ledger
) -> None:
    # Given
    store.ledger().adopt(YOU, dead=True)
    # When
    with pytest.raises(Superseded):
        ledger.commit(acknowledged={"c1.1": 3})
    # Then
    assert ledger.acknowledged(["c1.1"]) == [0]


# -- another dispatcher ----------------------------------------------------------------


def test_a_run_whose_dispatcher_is_alive_is_not_given_away(store: Store, ledger: Ledger) -> None:
    # Given
    ledger.reap()
    store.pass_time(4000)
    # When
    adoption = store.ledger().adopt(YOU, dead=False)
    # Then
    assert adoption.answer is AdoptAnswer.HELD
    assert 5000 < adoption.wait_ms <= 6000
    ledger.commit([Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE)])


@pytest.mark.parametrize("known", [True, False], ids=["known to be dead", "silent for its lease"])
def test_a_run_whose_dispatcher_is_dead_goes_to_the_first_that_asks(
    store: Store, ledger: Ledger, known: bool
) -> None:
    # Given
    second = store.ledger()
    if not known:
        store.pass_time(DISPATCHER_LEASE_MS + 1)
    # When
    adoption = second.adopt(YOU, dead=known)
    # Then
    assert (adoption.answer, adoption.epoch, adoption.incarnation) == (
        "ok",
        1,
        second.incarnation(),
    )
    second.commit([Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE)])
    assert second.reap() == []


def test_a_dispatcher_that_was_superseded_can_do_nothing(store: Store, ledger: Ledger) -> None:
    # Given
    store.ledger().adopt(YOU, dead=True)
    # Then
    with pytest.raises(Superseded, match="adopted by another dispatcher"):
        ledger.commit([Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE)])
    with pytest.raises(Superseded):
        ledger.reap()
    assert not ledger.reopen(ME, 2, stored(store), [], {})
    assert status(ledger, "c2") == "unknown"


def test_what_is_over_or_unknown_cannot_be_adopted(store: Store, ledger: Ledger) -> None:
    # Given
    ledger.close()
    # Then
    assert store.ledger().adopt(YOU, dead=True).answer == "closed"
    assert store.ledger("nobody").adopt(YOU, dead=True).answer == "none"


def test_the_head_is_kept_with_the_run(store: Store, ledger: Ledger) -> None:
    # Given
    assert ledger.head() is None
    # When
    ledger.publish_head(b"\x00\xff")
    # Then
    assert store.ledger().head() == b"\x00\xff"


# -- a store that lost the run ---------------------------------------------------------

WAITING = Chunk("c2", (2, 3), Phase.ISOLATED, Need.PRISTINE)


def stored(store: Store, cancelled: str | None = None) -> RunContents:
    return RunContents(spec_of(store), MANIFEST, cancelled)


def reopened(store: Store, *, wiped: bool = True) -> tuple[Ledger, LeaseRef]:
    """A run whose store was wiped, put back with c1 leased and c2 waiting.

    The ledger and the lease of c1.
    """
    ledger = store.ledger()
    assert ledger.open_run(ME, spec_of(store), 60)
    ledger.commit([CHUNK])
    lease = take(ledger)
    assert ledger.append(lease, 3, ONE, LEASE) == "ok"
    if wiped:
        store.forget_run()
    outstanding = [OutstandingChunk(CHUNK, lease, LEASE), OutstandingChunk(WAITING)]
    assert ledger.reopen(ME, 2, stored(store), outstanding, {"c1.1": 2})
    return ledger, lease


@pytest.mark.parametrize("wiped", [True, False], ids=["wiped", "doubted"])
def test_a_run_that_was_put_back_is_as_its_dispatcher_knew_it(store: Store, wiped: bool) -> None:
    # When
    ledger, _ = reopened(store, wiped=wiped)
    # Then
    assert (ledger.state(), ledger.epoch(), ledger.spec(), ledger.manifest()) == (
        "open",
        2,
        spec_of(store),
        MANIFEST,
    )
    assert ledger.acknowledged(["c1.1"]) == [2]
    assert status(ledger) == "held"
    claim = ledger.claim("c2", 1, worker="build-b", slot=0, lease_ms=LEASE)
    assert claim.lease is not None
    assert (claim.chunk, claim.lease.epoch) == (WAITING, 2)


def test_putting_back_again_because_the_answer_was_lost_changes_nothing(store: Store) -> None:
    # Given: a slot was quicker than the second sending
    ledger, lease = reopened(store)
    claim = ledger.claim("c2", 1, worker="build-b", slot=0, lease_ms=LEASE)
    assert ledger.append(replace(lease, epoch=2), 4, ONE, LEASE) == "ok"
    before = kinds(ledger)
    # When
    outstanding = [OutstandingChunk(CHUNK, lease, LEASE), OutstandingChunk(WAITING)]
    again = ledger.reopen(ME, 2, stored(store), outstanding, {"c1.1": 2})
    # Then
    assert again
    assert kinds(ledger) == before
    assert claim.lease is not None
    assert ledger.renew(claim.lease, LEASE) is WriteAnswer.OK


def test_a_holder_keeps_its_lease_over_the_loss(store: Store) -> None:
    # When
    ledger, lease = reopened(store)
    # Then
    assert ledger.renew(lease, LEASE) == "ok"
    assert ledger.reap() == []
    assert ledger.append(replace(lease, epoch=2), 4, ONE, LEASE) == "ok"
    assert ledger.end(replace(lease, epoch=2), 4, DONE) == "ok"


def test_a_slot_with_an_old_epoch_learns_of_the_new_one_before_anything_is_written(
    store: Store,
) -> None:
    # Given
    ledger, lease = reopened(store)
    before = len(entries(ledger))
    # When
    answers = [
        ledger.append(lease, 4, ONE, LEASE),
        ledger.end(lease, 4, DONE),
        ledger.end(lease, 4, DRAINED),
    ]
    # Then
    assert answers == ["moved"] * 3
    assert len(entries(ledger)) == before
    assert ledger.refused() == 0


def test_a_store_that_lags_behind_the_lease_revokes_none(ledger: Ledger) -> None:
    # Given a replica that took the place of the store before it had the claim
    given_elsewhere = held(7)
    # When
    answers = [
        ledger.renew(given_elsewhere, LEASE),
        ledger.append(given_elsewhere, 1, ONE, LEASE),
        ledger.end(given_elsewhere, 1, DONE),
        ledger.end(given_elsewhere, 1, DRAINED),
    ]
    # Then: its dispatcher will say so
    assert answers == ["gone"] * 4
    assert ledger.refused() == 0


def test_a_lease_that_its_dispatcher_did_not_know_is_lost(store: Store) -> None:
    # Given
    ledger, _ = reopened(store)
    # Then
    assert ledger.renew(held(77, chunk="c2"), LEASE) == "lost"


def test_a_restored_lease_runs_out_like_any_other(store: Store) -> None:
    # Given
    ledger, _ = reopened(store)
    # When
    store.let_leases_run_out()
    # Then
    assert ledger.reap() == ["c1"]


def test_fences_of_a_new_epoch_are_above_all_before(store: Store) -> None:
    # Given
    ledger, lease = reopened(store)
    # When
    claim = ledger.claim("c2", 1, worker="build-b", slot=0, lease_ms=LEASE)
    # Then
    assert claim.lease is not None
    assert claim.lease.fence > lease.fence + 1000


def test_an_epoch_is_opened_by_the_runs_dispatcher_alone(store: Store) -> None:
    # Given
    ledger, _ = reopened(store)
    # Then
    assert not store.ledger().reopen(YOU, 2, stored(store), [], {})
    assert not store.ledger().reopen(YOU, 3, stored(store), [], {})
    assert ledger.reopen(ME, 3, stored(store), [], {})
    assert ledger.epoch() == 3


def test_a_run_that_was_put_back_cancelled_is_cancelled_for_the_same_reason(store: Store) -> None:
    # Given
    ledger = store.ledger()
    # When
    assert ledger.reopen(ME, 2, stored(store, "interrupted"), [OutstandingChunk(WAITING)], {})
    # Then
    assert (ledger.state(), ledger.reason()) == (RunState.CANCELLED, "interrupted")
    assert status(ledger, "c2") == "cancelled"


def test_a_run_put_back_can_be_replayed_from_the_store_alone(store: Store, ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    ledger.append(lease, 1, ONE, LEASE)
    before = entries(ledger)
    store.forget_run()
    assert ledger.reopen(ME, 2, stored(store), [OutstandingChunk(CHUNK, lease, LEASE)], {})
    # When
    ledger.restore(before)
    # Then: its own first, and what was put back is announced again
    found = sorted(entries(ledger), key=lambda entry: entry.epoch)
    assert [entry.fact for entry in found[:3]] == [entry.fact for entry in before]
    assert [entry.fact for entry in found[3:]] == [
        ev.Offered(CHUNK),
        ev.Claimed(replace(lease, epoch=2), LEASE),
    ]


def test_the_fences_of_chunks_in_the_store_can_be_read(store: Store, ledger: Ledger) -> None:
    # Given
    ledger.commit([WAITING])
    lease = take(ledger)
    # Then
    assert fences(ledger, ["c2", "c1", "c99"]) == [0, lease.fence, None]
    assert fences(ledger, []) == []
    # When
    ledger.end(lease, 0, DONE)
    # Then
    assert fences(ledger, ["c1"]) == [None]


def test_a_run_whose_dispatcher_stays_away_is_closed_by_the_next_worker(
    store: Store, ledger: Ledger
) -> None:
    # Given
    ledger.reap()
    assert not ledger.abandon()
    # When
    store.pass_time(ABANDONED_MS + 1)
    # Then
    assert ledger.abandon()
    assert not ledger.abandon()
    assert (ledger.state(), status(ledger)) == ("closed", "cancelled")


def test_the_silence_of_a_dispatcher_is_measured(store: Store, ledger: Ledger) -> None:
    # Given
    ledger.reap()
    # When
    store.pass_time(7000)
    # Then
    assert 7 <= ledger.silence() < 9
    ledger.reap()
    assert ledger.silence() < 2


# -- the dispatcher's polls ------------------------------------------------------------


def test_a_poll_ends_the_leases_that_ran_out_and_says_the_state(
    store: Store, ledger: Ledger
) -> None:
    # Given
    take(ledger)
    assert ledger.poll() is RunState.OPEN
    assert kinds(ledger) == ["claimed"]
    # When
    age(store, ledger, LEASE - 1000)
    store.pass_time(1001)
    # Then
    assert ledger.poll() is RunState.OPEN
    assert kinds(ledger) == ["claimed", "expired"]


def test_a_poll_says_whatever_the_state_is(store: Store, ledger: Ledger) -> None:
    assert store.ledger("nobody").poll() is RunState.NONE
    # When
    ledger.cancel("interrupted")
    # Then
    assert ledger.poll() is RunState.CANCELLED
    # When
    store.write(reason="forged")
    # Then
    assert ledger.poll() is RunState.TAMPERED
    # When
    ledger.close()
    # Then
    assert ledger.poll() is RunState.CLOSED


def test_a_dispatcher_that_was_superseded_learns_it_from_a_poll(
    store: Store, ledger: Ledger
) -> None:
    # When
    store.ledger().adopt(YOU, dead=True)
    # Then
    with pytest.raises(Superseded):
        ledger.poll()


def test_a_survey_of_an_untouched_run_is_what_its_dispatcher_wrote(
    store: Store, ledger: Ledger
) -> None:
    # Given
    ledger.publish_manifest(MANIFEST)
    ledger.commit([WAITING])
    lease = take(ledger)
    # Then
    assert ledger.survey(spec_of(store), MANIFEST, ["c2", "c1", "c99"]) == Survey(
        epoch=1,
        incarnation=ledger.incarnation(),
        intact=True,
        fences={"c2": 0, "c1": lease.fence, "c99": None},
    )
    # When
    ledger.end(lease, 0, DONE)
    # Then
    assert ledger.survey(spec_of(store), MANIFEST, ["c1"]).fences == {"c1": None}


def test_a_survey_shows_what_was_written_in_place_of_specification_or_manifest(
    store: Store, ledger: Ledger
) -> None:
    # Given
    spec = spec_of(store)

    def intact(manifest: ManifestSummary | None) -> bool:
        return ledger.survey(spec, manifest, ()).intact

    # Then
    assert intact(None)
    assert not intact(MANIFEST)
    # When
    ledger.publish_manifest(MANIFEST)
    # Then
    assert (intact(MANIFEST), intact(None)) == (True, False)
    # When
    store.write(spec="something else")
    # Then
    assert not intact(MANIFEST)


def test_a_survey_of_a_run_that_is_not_there_finds_nothing(store: Store, ledger: Ledger) -> None:
    # When
    found = store.ledger("nobody").survey(spec_of(store), None, ["c1"])
    # Then
    assert (found.epoch, found.intact, found.fences) == (0, False, {"c1": None})


def test_polls_and_surveys_take_one_round_trip_each_however_many_chunks_there_are(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run, whose scripts are loaded
    run = f"run-{secrets.token_hex(6)}"
    ledger = RedisLedger(connect(valkey_url), run, pool_door().of_run(run, NONCE))
    spec = make_spec(run)
    ledger.open_run(ME, spec, 60)
    ledger.publish_manifest(MANIFEST)
    ledger.poll()
    sent: list[object] = []
    send = redis.Connection.send_packed_command

    def counted(connection: redis.Connection, command: object, check_health: bool = True) -> None:
        sent.append(command)
        send(connection, command, check_health)

    monkeypatch.setattr(redis.Connection, "send_packed_command", counted)
    # When / Then
    ledger.poll()
    assert len(sent) == 1
    ledger.survey(spec, MANIFEST, [f"c{number}" for number in range(50)])
    assert len(sent) == 2
    ledger.publish_manifest(MANIFEST)
    assert len(sent) == 3


def test_a_user_without_the_right_to_info_gets_everything_but_the_incarnation(
    valkey_url: str,
) -> None:
    # Given
    run, user = (f"{kind}-{secrets.token_hex(6)}" for kind in ("run", "user"))
    with connect(valkey_url) as admin:
        admin.acl_setuser(user, enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
        scheme, _, rest = valkey_url.partition("://")
        try:
            with connect(f"{scheme}://{user}:any@{rest.rpartition('@')[2]}") as client:
                ledger = RedisLedger(client, run, pool_door().of_run(run, NONCE))
                ledger.open_run(ME, make_spec(run), 60)
                # When
                found = ledger.survey(make_spec(run), None, ["c1"])
                # Then
                assert ledger.incarnation() == ""
                assert found == Survey(1, "", intact=True, fences={"c1": None})
        finally:
            admin.acl_deluser(user)


def test_a_run_is_ending_when_nothing_is_on_offer_and_nothing_more_is_planned(
    ledger: Ledger,
) -> None:
    # Given c1, which is on offer
    other = Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE)
    ledger.commit([other], exhausted=True)
    ledger.commit([other], exhausted=True)
    assert not ledger.ending()
    # When / Then
    lease = take(ledger)
    assert not ledger.ending()
    ledger.claim("c2", 1, worker="build-b", slot=1, lease_ms=LEASE)
    assert ledger.ending()
    ledger.end(lease, 0, DONE)
    assert ledger.ending()
    # When something was lost, and is on offer again
    ledger.commit([Chunk("c3", (2,), Phase.ISOLATED, Need.PRISTINE)], exhausted=True)
    assert not ledger.ending()
    ledger.claim("c3", 1, worker="build-b", slot=1, lease_ms=LEASE)
    assert ledger.ending()
    # When something is planned again
    ledger.commit(acknowledged={"c1.1": 1})
    assert not ledger.ending()


def test_a_run_that_was_put_back_knows_what_is_on_offer(store: Store, ledger: Ledger) -> None:
    # When
    contents = RunContents(spec_of(store))
    waiting = [OutstandingChunk(CHUNK, None, 0)]
    assert ledger.reopen(ME, 2, contents, waiting, {})
    ledger.commit(exhausted=True)
    # Then
    assert not ledger.ending()
    take(ledger)
    assert ledger.ending()
