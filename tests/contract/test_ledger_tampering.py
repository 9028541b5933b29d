"""What an attacker with the store's password, but without the pool's key, can do to a run.

Delay it, and nothing else (I11).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dct_celery.core.model import Chunk, Need, Phase
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.errors import Superseded, Untrusted
from dct_celery.ports import Ledger, RunContents
from dct_celery.protocol.leases import ClaimAnswer, OutstandingChunk, WriteAnswer
from dct_celery.protocol.runs import CancelOrder, ManifestSummary, Ownership, RunState
from dct_celery.protocol.workers import FailedReport
from tests.contract.conftest import Store
from tests.support.factories import NONCE, OTHER_KEY, fences, held, make_spec, pool_door
from tests.support.runs import as_sent, finished

ME, YOU = "a" * 16, "b" * 16
LEASE = 60_000
CHUNK = Chunk("c1", (0, 1), Phase.ISOLATED, Need.PRISTINE)
OTHER = Chunk("c2", (2,), Phase.ISOLATED, Need.PRISTINE)
MANIFEST = ManifestSummary("ab" * 32, 2, {})


@pytest.fixture
def ledger(store: Store) -> Ledger:
    ledger = store.ledger()
    assert ledger.open_run(ME, make_spec(store.run), 60)
    ledger.commit([CHUNK])
    return ledger


def foreign(store: Store) -> Ledger:
    """Of the same run, with another key."""
    return store.ledger(door=pool_door(OTHER_KEY).of_run(store.run, NONCE))


def elsewhere(store: Store) -> Ledger:
    """Of a run of the same name at another time, with the same key."""
    return store.ledger(door=pool_door().of_run(store.run, "f" * 16))


def take(ledger: Ledger, chunk: str = "c1") -> LeaseRef:
    claim = ledger.claim(chunk, 1, worker="build-a", slot=1, lease_ms=LEASE)
    assert (claim.answer, claim.chunk is not None) == (ClaimAnswer.OK, True)
    assert claim.lease is not None
    return claim.lease


def why(ledger: Ledger) -> list[str]:
    return [str(one.error) for one in ledger.read("0", block_ms=0).rejected]


def facts(ledger: Ledger) -> list[Any]:
    return [entry.fact for entry in ledger.read("0", block_ms=0).entries]


# -- the state of the run --------------------------------------------------------------


@pytest.mark.parametrize("order", ["", "because", "another key", "another time", "another kind"])
def test_an_order_to_cancel_without_the_key_stops_nothing(
    store: Store, ledger: Ledger, order: str
) -> None:
    # Given
    lease = take(ledger)
    door = pool_door().of_run(store.run, NONCE)
    forged = {
        "another key": pool_door(OTHER_KEY).of_run(store.run, NONCE).seal(CancelOrder("because")),
        "another time": pool_door().of_run(store.run, "f" * 16).seal(CancelOrder("because")),
        "another kind": door.seal_text("Ownership", '{"reason":"because"}'),
    }.get(order, order)
    # When
    store.write(state="cancelled", reason=forged)
    # Then
    assert (ledger.state(), ledger.reason()) == (RunState.TAMPERED, "")
    assert ledger.renew(lease, LEASE) is WriteAnswer.OK
    assert ledger.append(lease, 1, as_sent(finished(0)), LEASE) is WriteAnswer.OK
    assert ledger.end(lease, 1, ev.ChunkCompleted()) is WriteAnswer.OK


def test_a_forged_order_does_not_hide_the_true_one_that_comes_after_it(
    store: Store, ledger: Ledger
) -> None:
    # Given
    lease = take(ledger)
    store.write(state="cancelled", reason="forged")
    assert ledger.state() is RunState.TAMPERED
    # When: the run is put back, and cancelled by who may
    again = RunContents(make_spec(store.run))
    assert ledger.reopen(ME, 2, again, [OutstandingChunk(CHUNK, lease, LEASE)], {})
    assert ledger.state() is RunState.OPEN
    store.ledger().cancel("somebody with the key")
    # Then
    assert (ledger.state(), ledger.reason()) == (RunState.CANCELLED, "somebody with the key")
    assert ledger.renew(lease, LEASE) is WriteAnswer.CANCELLED


@pytest.mark.parametrize("state", ["", "tampered", "none", "é", "OPEN"])
def test_an_unknown_state_counts_as_tampering(store: Store, ledger: Ledger, state: str) -> None:
    # When
    store.write(state=state)
    # Then
    assert ledger.state() is RunState.TAMPERED


# -- whose it is -----------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["ci-2", "", "another key", "another time"])
def test_an_owner_without_the_key_is_replaced_by_the_true_one(
    store: Store, ledger: Ledger, owner: str
) -> None:
    # Given
    forged = {
        "another key": pool_door(OTHER_KEY).of_run(store.run, NONCE).seal(Ownership(YOU)),
        "another time": pool_door().of_run(store.run, "f" * 16).seal(Ownership(YOU)),
    }.get(owner, owner)
    before = store.field("owner")
    # When
    store.write(owner=forged)
    # Then
    ledger.commit([OTHER])
    assert store.field("owner") == before
    store.write(owner=forged)
    assert ledger.reap() == []
    store.write(owner=forged)
    assert ledger.reopen(ME, 2, RunContents(make_spec(store.run)), [], {})
    assert ledger.epoch() == 2


def test_another_owner_with_the_key_supersedes(store: Store, ledger: Ledger) -> None:
    # Given: as `adopt` writes it, and as it may be written again later
    store.ledger().adopt(YOU, dead=True)
    # Then
    with pytest.raises(Superseded):
        ledger.commit([OTHER])
    with pytest.raises(Superseded):
        ledger.reap()
    assert not ledger.reopen(ME, 2, RunContents(make_spec(store.run)), [], {})


# -- what is to run --------------------------------------------------------------------


def answer(ledger: Ledger, chunk: str = "c1") -> ClaimAnswer:
    claim = ledger.claim(chunk, 1, worker="build-z", slot=9, lease_ms=LEASE)
    if claim.answer is ClaimAnswer.UNTRUSTED:
        assert claim.chunk is None
        assert claim.lease is not None
    return claim.answer


@pytest.mark.parametrize("payload", ["", "{}", "x" * 100])
def test_what_is_on_offer_and_not_signed_is_not_run(
    store: Store, ledger: Ledger, payload: str
) -> None:
    # When
    store.write_chunk("c1", payload=payload)
    # Then
    assert answer(ledger) is ClaimAnswer.UNTRUSTED


def test_an_offer_in_which_a_single_test_was_changed_is_not_run(
    store: Store, ledger: Ledger
) -> None:
    # Given
    payload = store.chunk("c1", "payload")
    changed = payload.replace('"indices":[0,1]', '"indices":[0,2]')
    assert changed != payload
    # When
    store.write_chunk("c1", payload=changed)
    # Then
    assert answer(ledger) is ClaimAnswer.UNTRUSTED


def test_another_chunk_of_the_run_in_the_place_of_this_one_is_not_run(
    store: Store, ledger: Ledger
) -> None:
    # Given
    ledger.commit([OTHER])
    # When
    store.write_chunk("c1", payload=store.chunk("c2", "payload"))
    # Then
    assert answer(ledger) is ClaimAnswer.UNTRUSTED
    assert answer(ledger, "c2") is ClaimAnswer.OK


def test_another_attempt_in_the_place_of_this_one_is_not_run(store: Store, ledger: Ledger) -> None:
    # Given
    first = store.chunk("c1", "payload")
    ledger.commit([replace(CHUNK, attempt=2, indices=(1,))])
    # When
    store.write_chunk("c1", payload=first)
    # Then
    claim = ledger.claim("c1", 2, worker="build-z", slot=9, lease_ms=LEASE)
    assert (claim.answer, claim.chunk) == (ClaimAnswer.UNTRUSTED, None)


def test_an_offer_of_an_earlier_epoch_is_not_run(store: Store, ledger: Ledger) -> None:
    # Given
    first = store.chunk("c1", "payload")
    assert ledger.reopen(ME, 2, RunContents(make_spec(store.run)), [OutstandingChunk(CHUNK)], {})
    # When
    store.write_chunk("c1", payload=first)
    # Then
    assert answer(ledger) is ClaimAnswer.UNTRUSTED


@pytest.mark.parametrize("other", [foreign, elsewhere], ids=["another key", "another time"])
def test_another_key_or_another_run_gets_no_chunk_and_learns_nothing(
    store: Store, ledger: Ledger, other: Any
) -> None:
    # Given
    ledger.publish_manifest(MANIFEST)
    # Then
    assert answer(other(store)) is ClaimAnswer.UNTRUSTED
    with pytest.raises(Untrusted):
        other(store).spec()
    with pytest.raises(Untrusted):
        other(store).manifest()


# -- the specification -----------------------------------------------------------------


def test_the_specification_of_another_run_is_refused(store: Store, ledger: Ledger) -> None:
    # Given: signed for this very run, but of another one
    store.write(spec=pool_door().of_run(store.run, NONCE).seal(make_spec("another-run")))
    # Then
    with pytest.raises(Untrusted, match="is another run's"):
        ledger.spec()


def test_a_specification_that_has_expired_is_refused(store: Store, ledger: Ledger) -> None:
    # Given
    door = pool_door().of_run(store.run, NONCE)
    store.write(spec=door.seal(make_spec(store.run, expires_ms=store.now_ms() + 60_000)))
    assert ledger.spec() is not None
    # When
    store.write(spec=door.seal(make_spec(store.run, expires_ms=store.now_ms() - 60_000)))
    # Then
    with pytest.raises(Untrusted, match="has expired"):
        ledger.spec()


def test_a_specification_with_a_changed_argument_is_refused(store: Store, ledger: Ledger) -> None:
    # Given
    spec = store.field("spec")
    # When
    store.write(spec=spec.replace('"arguments":[]', '"arguments":["-c"]'))
    # Then
    assert store.field("spec") != spec
    with pytest.raises(Untrusted, match="has a wrong signature"):
        ledger.spec()


def test_a_manifest_that_was_signed_as_something_else_is_refused(
    store: Store, ledger: Ledger
) -> None:
    # When
    store.write(manifest=store.field("spec"))
    # Then
    with pytest.raises(Untrusted, match="has a wrong signature"):
        ledger.manifest()


# -- the stream ------------------------------------------------------------------------


@pytest.fixture
def written(store: Store, ledger: Ledger) -> list[dict[str, str]]:
    """The stream of a chunk that ran: offered, claimed, records, completed."""
    lease = take(ledger)
    ledger.append(lease, 1, as_sent(finished(0, "failed")), LEASE)
    ledger.end(lease, 1, ev.ChunkCompleted())
    assert why(ledger) == []
    return store.stream()


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("records", "d", ""),
        ("records", "d", '[{"kind":"TestFinished","index":0,"outcome":"passed","seconds":0}]'),
        ("records", "e", "2"),
        ("records", "c", "c2"),
        ("records", "a", "2"),
        ("records", "f", "2"),
        ("records", "w", "build-z"),
        ("records", "s", "2"),
        ("records", "q", "2"),
        ("completed", "q", "0"),
        ("completed", "k", "released"),
        ("completed", "e", "2"),
        ("completed", "f", "7"),
        ("offered", "e", "2"),
        ("offered", "d", "{}"),
    ],
)
def test_an_entry_that_was_changed_is_rejected_and_the_others_count(
    store: Store, ledger: Ledger, written: list[dict[str, str]], kind: str, field: str, value: str
) -> None:
    # Given
    (entry,) = [fields for fields in written if fields["k"] == kind]
    before = facts(ledger)
    # When: what the store has under another number is changed and put there again
    store.write_stream({**entry, field: value})
    # Then
    assert len(why(ledger)) == 1
    assert facts(ledger) == before


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"k": "moonbeam", "e": "1"},
        {"k": "claimed", "e": "1", "a": "0", "f": "1"},
        {"k": "claimed", "e": "-1", "a": "1", "f": "1"},
        {"k": "claimed", "e": "1", "a": "1", "f": "9" * 16},
        {"k": "claimed", "e": "1", "a": "1", "f": "١"},
        {"k": "expired", "e": "0"},
        {"k": "report", "e": "1", "w": "build-a", "d": '{"kind":"CheckedReport"}'},
    ],
)
def test_a_malformed_entry_is_rejected_and_reading_goes_on(
    store: Store, ledger: Ledger, fields: dict[str, str]
) -> None:
    # When
    store.write_stream(fields or {"x": "y"})
    page = ledger.read("0", block_ms=0)
    # Then
    assert len(page.rejected) == 1
    assert page.last == page.rejected[0].id
    assert ledger.read(page.last, block_ms=0).last == ""
    ledger.commit([OTHER])
    assert [entry.fact for entry in ledger.read(page.last, block_ms=0).entries] == [
        ev.Offered(OTHER)
    ]


def test_records_of_another_run_and_with_another_key_are_rejected(
    store: Store, ledger: Ledger
) -> None:
    # Given
    lease = take(ledger)
    # When
    foreign(store).append(lease, 1, as_sent(finished(0)), LEASE)
    elsewhere(store).append(lease, 1, as_sent(finished(0)), LEASE)
    foreign(store).end(lease, 1, ev.ChunkCompleted())
    # Then
    assert why(ledger) == [
        "is signed with another key",
        "has a wrong signature",
        "is signed with another key",
    ]


def test_a_workers_report_in_the_name_of_another_worker_is_rejected(
    store: Store, ledger: Ledger
) -> None:
    # Given
    ledger.report("build-a", FailedReport("the checks failed"))
    # When
    store.write_stream({**store.stream()[-1], "w": "build-b"})
    # Then
    assert why(ledger) == ["has a wrong signature"]


def test_what_is_signed_and_malformed_is_rejected(store: Store, ledger: Ledger) -> None:
    # Given: a worker of ours that is at fault
    lease = take(ledger)
    # When
    for text in (
        "[]",
        "{}",
        "[1]",
        "[{}]",
        "nonsense",
        '[{"kind":"TestFinished","index":-1,"outcome":"passed","seconds":0}]',
    ):
        assert ledger.append(lease, 1, text, LEASE) is WriteAnswer.OK
    # Then
    assert len(why(ledger)) == 6
    assert all(text.startswith("is malformed: ") for text in why(ledger))


def test_a_forged_fence_is_noticed(store: Store, ledger: Ledger) -> None:
    # Given
    lease = take(ledger)
    # When
    store.write_chunk("c1", fence="999")
    # Then
    assert fences(ledger, ["c1"]) == [999]
    assert ledger.renew(lease, LEASE) is not WriteAnswer.OK
    # When
    store.write_chunk("c1", state="moonbeam")
    # Then
    assert fences(ledger, ["c1"]) == [None]


def test_a_forged_claim_gives_its_holder_nothing_but_a_place_in_the_stream(
    store: Store, ledger: Ledger
) -> None:
    # When
    store.write_stream(
        {
            "k": "claimed",
            "e": "1",
            "c": "c1",
            "a": "1",
            "f": "7",
            "w": "build-x",
            "s": "1",
            "d": "60000",
        }
    )
    # Then: the store itself says such things, so that they cannot be signed
    assert facts(ledger)[-1] == ev.Claimed(held(7, worker="build-x"), 60_000)
    store.write_stream(
        {
            "k": "records",
            "e": "1",
            "c": "c1",
            "a": "1",
            "f": "7",
            "w": "build-x",
            "s": "1",
            "q": "1",
            "d": "[]",
        }
    )
    assert why(ledger) == ["is not signed"]
