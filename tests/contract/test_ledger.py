"""What every ledger promises: one holder at a time, stale ones refused and counted, everything on the stream in order."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dct_celery.core.model import Chunk, Need, Phase
from dct_celery.errors import Superseded
from dct_celery.ports import ABANDONED_MS, AVOID_MS, DISPATCHER_LEASE_MS, Ledger, Standing, StreamEntry
from tests.contract.conftest import Store
from tests.support.factories import held

CHUNK = Chunk("c1", (0, 1), Phase.TRANSACTIONAL, Need.FLUSHED, flushed=("default",), locks=("port:1",), estimate=1.5, fresh=True,
              limits=((1, 90.5),), fixture_limit=900.0)  # fmt: skip
LEASE = 60_000


@pytest.fixture
def ledger(store: Store) -> Ledger:
    ledger = store.ledger()
    assert ledger.open_run("ci-1", "spec é", 60)
    ledger.offer(CHUNK)
    return ledger


def take(ledger: Ledger, worker: str = "build-a", slot: int = 1, attempt: int = 1) -> int:
    claim = ledger.claim("c1", attempt, worker=worker, slot=slot, lease_ms=LEASE)
    assert claim.status == "ok"
    assert claim.granted
    return claim.fence


def status(ledger: Ledger, chunk: str = "c1", attempt: int = 1) -> str:
    claim = ledger.claim(chunk, attempt, worker="build-z", slot=9, lease_ms=LEASE)
    assert not claim.granted
    return claim.status


def age(store: Store, ledger: Ledger, ms: int) -> list[str]:
    """Time passes while the ledger is reaped as often as it should be; what was reaped."""
    reaped = []
    for _ in range(0, ms, 1000):
        store.pass_time(1000)
        reaped += ledger.reap()
    return reaped


def kinds(ledger: Ledger) -> list[str]:
    """What happened to chunks that were on offer."""
    return [entry.kind for entry in ledger.read("0", block_ms=0) if entry.kind != "offered"]


def test_a_run_opens_once(store: Store, ledger: Ledger) -> None:
    # When
    again = store.ledger().open_run("ci-2", "other", 60)
    # Then
    assert not again
    assert ledger.spec() == "spec é"
    assert store.ledger("another").open_run("ci-2", "other", 60)


def test_a_run_that_is_opened_again_because_the_answer_was_lost_is_the_same_one(ledger: Ledger) -> None:
    # When: the client sends it again by itself
    again = ledger.open_run("ci-1", "spec é", 60)
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
    _, event = ledger.read("0", block_ms=0)
    assert (event.kind, event.chunk, event.attempt, event.fence, event.epoch) == ("claimed", "c1", 1, claim.fence, claim.epoch)
    assert (event.worker, event.slot, event.data) == ("build-a", 3, LEASE)


def test_a_duplicate_claim_loses(ledger: Ledger) -> None:
    # Given
    take(ledger)
    # Then
    assert status(ledger) == "held"
    assert kinds(ledger) == ["claimed"]


def test_the_worker_to_avoid_leaves_the_chunk_to_others_and_the_stream_tells(store: Store) -> None:
    # Given
    ledger = store.ledger()
    ledger.open_run("ci-1", "spec", 60)
    ledger.offer(replace(CHUNK, avoid="build-z"))
    # When
    assert status(ledger) == "avoid"
    # Then
    event = ledger.read("0", block_ms=0)[-1]
    assert (event.kind, event.chunk, event.attempt, event.worker, event.slot) == ("avoided", "c1", 1, "build-z", 9)
    take(ledger, worker="build-a")


def test_a_chunk_that_nobody_else_took_is_open_to_the_worker_to_avoid(store: Store) -> None:
    # Given
    ledger = store.ledger()
    ledger.open_run("ci-1", "spec", 60)
    ledger.offer(replace(CHUNK, avoid="build-a"))
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
    fence = take(ledger)
    if verb == "reap":
        store.let_leases_run_out()
        ledger.reap()
    else:
        assert getattr(ledger, verb)(held(fence), 0, "{}") == "ok"
    # When: a message that came twice
    ledger.offer(CHUNK)
    # Then
    assert status(ledger) == "done"


def test_every_claim_has_a_higher_fence(ledger: Ledger) -> None:
    # Given
    first = take(ledger)
    ledger.release(held(first), 0, "{}")
    # When
    ledger.offer(Chunk("c1", (0,), Phase.ISOLATED, Need.PRISTINE, attempt=2))
    # Then
    assert status(ledger, attempt=1) == "stale"
    assert take(ledger, attempt=2) > first


def test_a_stale_fence_is_refused_everywhere_and_counted(store: Store, ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    store.let_leases_run_out()
    assert ledger.reap() == ["c1"]
    before = kinds(ledger)
    # When
    answers = [
        ledger.renew(held(fence), LEASE),
        ledger.append(held(fence), 1, "[]", LEASE),
        ledger.complete(held(fence), 1, "{}"),
        ledger.release(held(fence), 1, "{}"),
    ]
    # Then
    assert answers == ["lost"] * 4
    assert ledger.refused() == 4
    assert kinds(ledger) == before == ["claimed", "expired"]


def test_the_fence_of_an_earlier_attempt_does_nothing_to_the_next(ledger: Ledger) -> None:
    # Given
    old = take(ledger)
    ledger.release(held(old), 0, "{}")
    ledger.offer(Chunk("c1", (0,), Phase.ISOLATED, Need.PRISTINE, attempt=2))
    new = take(ledger, "build-b", attempt=2)
    # When
    answers = [ledger.append(held(old), 1, "[]", LEASE), ledger.complete(held(old), 1, "{}")]
    # Then
    assert answers == ["lost", "lost"]
    assert ledger.complete(held(new, attempt=2), 0, "{}") == "ok"


def test_an_end_ends_the_lease_once(ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    # When
    answers = [ledger.complete(held(fence), 0, "{}"), ledger.complete(held(fence), 0, "{}")]
    # Then
    assert answers == ["ok", "lost"]
    assert kinds(ledger) == ["claimed", "completed"]


def test_records_reach_the_stream_in_order_with_all_that_tells_them_apart(ledger: Ledger) -> None:
    # Given
    fence = take(ledger, "build-a", 2)
    records = [{"id": "test_\udcff", "output": "é\x00"}]
    # When
    assert ledger.append(held(fence), 1, json.dumps(records), LEASE) == "ok"
    assert ledger.append(held(fence), 2, "[]", LEASE) == "ok"
    assert ledger.release(held(fence), 2, '{"why": "drain"}') == "ok"
    # Then
    _, _, first, second, end = ledger.read("0", block_ms=0)
    assert (first.kind, first.seq, first.fence, first.worker, first.slot) == ("records", 1, fence, "build-a", 2)
    assert first.data == records
    assert (second.seq, second.data) == (2, [])
    assert (end.kind, end.seq, end.data) == ("released", 2, {"why": "drain"})


def test_the_stream_is_read_on_from_where_one_was(ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    for seq in (1, 2, 3):
        ledger.append(held(fence), seq, "[]", LEASE)
    # When
    first = ledger.read("0", block_ms=0, count=2)
    rest = ledger.read(first[-1].id, block_ms=0)
    # Then
    assert [entry.seq for entry in first + rest] == [0, 0, 1, 2, 3]
    assert ledger.read(rest[-1].id, block_ms=1) == []


def test_a_worker_can_speak_about_the_run_as_a_whole(ledger: Ledger) -> None:
    # When
    ledger.tell("build-a", {"state": "refused", "why": "Django é"})
    # Then
    _, event = ledger.read("0", block_ms=0)
    assert (event.kind, event.worker, event.data) == ("host", "build-a", {"state": "refused", "why": "Django é"})


def test_a_lease_that_was_renewed_is_not_reaped(store: Store, ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    assert ledger.reap() == []
    store.let_leases_run_out()
    # When
    assert ledger.renew(held(fence), LEASE) == "ok"
    # Then
    assert ledger.reap() == []
    assert ledger.complete(held(fence), 0, "{}") == "ok"


def test_records_prolong_the_lease(store: Store, ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    store.let_leases_run_out()
    # When
    ledger.append(held(fence), 1, "[]", LEASE)
    # Then
    assert ledger.reap() == []


def test_a_lease_is_reaped_once_and_its_holder_named(store: Store, ledger: Ledger) -> None:
    # Given
    fence = take(ledger, "build-a", 4)
    store.let_leases_run_out()
    # When
    reaped = [ledger.reap(), ledger.reap()]
    # Then
    assert reaped == [["c1"], []]
    event = ledger.read("0", block_ms=0)[-1]
    assert (event.kind, event.chunk, event.attempt, event.fence) == ("expired", "c1", 1, fence)
    assert (event.worker, event.slot) == ("build-a", 4)


def test_the_lease_clock_runs_while_the_store_takes_writes(store: Store, ledger: Ledger) -> None:
    # Given
    take(ledger)
    # Then
    assert age(store, ledger, LEASE - 1000) == []
    assert age(store, ledger, 1000) == ["c1"]


def test_the_lease_clock_stands_still_while_nobody_can_reap(store: Store, ledger: Ledger) -> None:
    # Given: nine tenths of the lease are left
    fence = take(ledger)
    age(store, ledger, LEASE // 10)
    # When: no writes for much longer than a lease
    store.pass_time(100 * LEASE)
    # Then
    assert ledger.reap() == []
    age(store, ledger, LEASE * 8 // 10)
    assert ledger.renew(held(fence), LEASE) == "ok"


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
    fence = take(ledger)
    store.pass_time(100 * LEASE)
    assert ledger.renew(held(fence), LEASE) == "ok"
    # When
    assert ledger.reap() == []
    # Then
    assert "c1" in age(store, ledger, LEASE + 1000)


def test_a_gap_gives_nothing_to_who_had_lost_the_lease_before(store: Store, ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    store.let_leases_run_out()
    assert ledger.reap() == ["c1"]
    # When
    store.pass_time(100 * LEASE)
    # Then
    assert ledger.reap() == []
    assert ledger.renew(held(fence), LEASE) == "lost"


def test_a_clock_that_was_set_back_keeps_no_holder_for_longer_than_a_lease(store: Store, ledger: Ledger) -> None:
    # Given
    take(ledger)
    # When: another store takes over, whose clock is behind
    store.set_clock_back(100 * LEASE)
    assert ledger.reap() == []
    # Then
    assert "c1" in age(store, ledger, LEASE + 1000)


def test_a_run_that_is_not_cancelled_has_no_reason(ledger: Ledger, store: Store) -> None:
    assert ledger.reason() == store.ledger("nobody-opened-it").reason() == ""


def test_after_a_cancel_nothing_is_claimed_and_holders_hear_of_it(ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    ledger.offer(Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE))
    # When
    ledger.cancel("interrupted")
    # Then
    ledger.cancel("too late to say why")
    assert (ledger.state(), ledger.reason()) == ("cancelled", "interrupted")
    assert status(ledger, "c2") == "cancelled"
    assert ledger.renew(held(fence), LEASE) == "cancelled"
    assert ledger.append(held(fence), 1, "[]", LEASE) == "cancelled"
    assert ledger.complete(held(fence), 1, "{}") == "ok"
    assert kinds(ledger) == ["claimed", "records", "completed"]


def test_what_the_dispatcher_acknowledged_is_remembered(ledger: Ledger) -> None:
    # When
    ledger.acknowledge({})
    ledger.acknowledge({"c1.1": 3, "c2.1": 1})
    ledger.acknowledge({"c1.1": 5})
    # Then
    assert ledger.acknowledged(["c1.1", "c9.1", "c2.1"]) == [5, 0, 1]
    assert ledger.acknowledged([]) == []


def test_the_manifest_is_known_once_it_is_published(ledger: Ledger) -> None:
    # Given
    assert ledger.manifest() is None
    # When
    ledger.publish_manifest('{"digest": "é"}')
    # Then
    assert ledger.manifest() == '{"digest": "é"}'


def test_a_closed_run_gives_nothing_more_and_its_name_is_not_taken_over(store: Store, ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    ledger.extend(60)
    # When
    ledger.close()
    # Then
    assert status(ledger) == "cancelled"
    assert ledger.renew(held(fence), LEASE) == "cancelled"
    assert not store.ledger().open_run("ci-2", "", 60)


def test_a_late_slot_does_not_wake_a_forgotten_run(store: Store, ledger: Ledger) -> None:
    # Given
    fence = take(ledger)
    store.forget_run()
    # When
    answers = [
        ledger.renew(held(fence), LEASE),
        ledger.append(held(fence), 1, "[]", LEASE),
        ledger.complete(held(fence), 1, "{}"),
        ledger.release(held(fence), 1, "{}"),
    ]
    ledger.offer(CHUNK)
    ledger.cancel("too late")
    ledger.publish_manifest("{}")
    ledger.close()
    # Then
    assert answers == ["gone"] * 4
    assert ledger.state() == "none"
    assert ledger.open_run("ci-2", "", 60)


def test_what_is_offered_is_said_on_the_stream_once(ledger: Ledger) -> None:
    # When
    ledger.offer(CHUNK)
    # Then
    (event,) = ledger.read("0", block_ms=0)
    assert (event.kind, event.chunk, event.attempt, event.epoch) == ("offered", "c1", 1, 1)
    assert Chunk.from_dict(event.data) == CHUNK


# -- another dispatcher ----------------------------------------------------------------


def test_a_run_whose_dispatcher_is_alive_is_not_given_away(store: Store, ledger: Ledger) -> None:
    # Given
    ledger.reap()
    store.pass_time(4000)
    # When
    adoption = store.ledger().adopt("ci-2", dead=False)
    # Then
    assert adoption.status == "held"
    assert 5000 < adoption.wait_ms <= 6000
    ledger.offer(Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE))


@pytest.mark.parametrize("known", [True, False], ids=["known to be dead", "silent for its lease"])
def test_a_run_whose_dispatcher_is_dead_goes_to_who_asks(store: Store, ledger: Ledger, known: bool) -> None:
    # Given
    second = store.ledger()
    if not known:
        store.pass_time(DISPATCHER_LEASE_MS + 1)
    # When
    adoption = second.adopt("ci-2", dead=known)
    # Then
    assert (adoption.status, adoption.epoch, adoption.incarnation) == ("ok", 1, second.incarnation())
    second.offer(Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE))
    assert second.reap() == []


def test_a_dispatcher_that_was_superseded_can_do_nothing(store: Store, ledger: Ledger) -> None:
    # Given
    store.ledger().adopt("ci-2", dead=True)
    # Then
    with pytest.raises(Superseded, match="adopted by another dispatcher"):
        ledger.offer(Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE))
    with pytest.raises(Superseded):
        ledger.reap()
    assert not ledger.reopen("ci-1", 2, FIELDS, [], {})
    assert status(ledger, "c2") == "unknown"


def test_what_is_over_or_unknown_cannot_be_adopted(store: Store, ledger: Ledger) -> None:
    # Given
    ledger.close()
    # Then
    assert store.ledger().adopt("ci-2", dead=True).status == "closed"
    assert store.ledger("nobody").adopt("ci-2", dead=True).status == "none"


def test_the_head_is_kept_with_the_run(store: Store, ledger: Ledger) -> None:
    # Given
    assert ledger.head() is None
    # When
    ledger.publish_head(b"\x00\xff")
    # Then
    assert store.ledger().head() == b"\x00\xff"


# -- a store that lost the run ---------------------------------------------------------

FIELDS = {"state": "open", "reason": "", "spec": "spec é", "manifest": "m"}
WAITING = Chunk("c2", (2, 3), Phase.ISOLATED, Need.PRISTINE)


def reopened(store: Store, *, wiped: bool = True) -> tuple[Ledger, int]:
    """A run whose store was wiped, put back with c1 leased and c2 waiting; the ledger and the fence of c1."""
    ledger = store.ledger()
    assert ledger.open_run("ci-1", "spec é", 60)
    ledger.offer(CHUNK)
    fence = take(ledger)
    assert ledger.append(held(fence), 3, "[]", LEASE) == "ok"
    if wiped:
        store.forget_run()
    standing = [Standing(CHUNK, fence, "build-a", 1, LEASE), Standing(WAITING)]
    assert ledger.reopen("ci-1", 2, FIELDS, standing, {"c1.1": 2})
    return ledger, fence


@pytest.mark.parametrize("wiped", [True, False], ids=["wiped", "doubted"])
def test_a_run_that_was_put_back_is_as_its_dispatcher_knew_it(store: Store, wiped: bool) -> None:
    # When
    ledger, _ = reopened(store, wiped=wiped)
    # Then
    assert (ledger.state(), ledger.epoch(), ledger.spec(), ledger.manifest()) == ("open", 2, "spec é", "m")
    assert ledger.acknowledged(["c1.1"]) == [2]
    assert status(ledger) == "held"
    claim = ledger.claim("c2", 1, worker="build-b", slot=0, lease_ms=LEASE)
    assert (claim.chunk, claim.epoch) == (WAITING, 2)


def test_putting_back_again_because_the_answer_was_lost_changes_nothing(store: Store) -> None:
    # Given: a slot was quicker than the second sending
    ledger, fence = reopened(store)
    claim = ledger.claim("c2", 1, worker="build-b", slot=0, lease_ms=LEASE)
    assert ledger.append(held(fence, epoch=2), 4, "[]", LEASE) == "ok"
    before = kinds(ledger)
    # When
    standing = [Standing(CHUNK, fence, "build-a", 1, LEASE), Standing(WAITING)]
    again = ledger.reopen("ci-1", 2, FIELDS, standing, {"c1.1": 2})
    # Then
    assert again
    assert kinds(ledger) == before
    assert ledger.renew(held(claim.fence, chunk="c2", epoch=2), LEASE) == "ok"


def test_a_holder_keeps_its_lease_over_the_loss(store: Store) -> None:
    # When
    ledger, fence = reopened(store)
    # Then
    assert ledger.renew(held(fence), LEASE) == "ok"
    assert ledger.reap() == []
    assert ledger.append(held(fence, epoch=2), 4, "[]", LEASE) == "ok"
    assert ledger.complete(held(fence, epoch=2), 4, "{}") == "ok"


def test_who_does_not_know_of_the_loss_is_told_before_anything_is_written(store: Store) -> None:
    # Given
    ledger, fence = reopened(store)
    before = len(ledger.read("0", block_ms=0))
    # When
    answers = [
        ledger.append(held(fence), 4, "[]", LEASE),
        ledger.complete(held(fence), 4, "{}"),
        ledger.release(held(fence), 4, "{}"),
    ]
    # Then
    assert answers == ["moved"] * 3
    assert len(ledger.read("0", block_ms=0)) == before
    assert ledger.refused() == 0


def test_a_store_that_lags_behind_the_lease_takes_it_from_nobody(ledger: Ledger) -> None:
    # Given a replica that took the place of the store before it had heard of the claim
    given_elsewhere = held(7)
    # When
    answers = [
        ledger.renew(given_elsewhere, LEASE),
        ledger.append(given_elsewhere, 1, "[]", LEASE),
        ledger.complete(given_elsewhere, 1, "{}"),
        ledger.release(given_elsewhere, 1, "{}"),
    ]
    # Then: its dispatcher will tell it
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
    ledger, fence = reopened(store)
    # When
    claim = ledger.claim("c2", 1, worker="build-b", slot=0, lease_ms=LEASE)
    # Then
    assert claim.fence > fence + 1000


def test_an_epoch_is_opened_once(store: Store) -> None:
    # Given
    ledger, _ = reopened(store)
    # Then
    assert not ledger.reopen("ci-1", 1, FIELDS, [], {})
    assert not store.ledger().reopen("ci-2", 2, FIELDS, [], {})
    assert ledger.reopen("ci-1", 3, FIELDS, [], {})


def test_a_run_put_back_can_be_replayed_from_the_store_alone(store: Store) -> None:
    # Given
    ledger, fence = reopened(store)
    old = StreamEntry("1-0", "records", "c1", 1, fence, "build-a", 1, 2, [{"index": 0}], 1)
    # When
    ledger.restore([old])
    # Then
    entries = sorted(ledger.read("0", block_ms=0), key=lambda entry: entry.epoch)
    assert (entries[0].kind, entries[0].data, entries[0].epoch, entries[0].seq) == ("records", [{"index": 0}], 1, 2)
    if len(entries) > 1:
        assert {entry.kind for entry in entries[1:]} <= {"offered", "claimed"}


def test_a_run_whose_dispatcher_stays_away_is_closed_by_who_asks(store: Store, ledger: Ledger) -> None:
    # Given
    ledger.reap()
    assert not ledger.abandon()
    # When
    store.pass_time(ABANDONED_MS + 1)
    # Then
    assert ledger.abandon()
    assert not ledger.abandon()
    assert (ledger.state(), status(ledger)) == ("closed", "cancelled")


def test_the_silence_of_a_dispatcher_is_told(store: Store, ledger: Ledger) -> None:
    # Given
    ledger.reap()
    # When
    store.pass_time(7000)
    # Then
    assert 7 <= ledger.silence() < 9
    ledger.reap()
    assert ledger.silence() < 2
