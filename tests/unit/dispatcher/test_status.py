"""Claims about `dispatcher.status`: what a run's stream says of it, and what the store knows besides."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dct_celery import __version__
from dct_celery.core.model import Chunk, Need, Phase
from dct_celery.dispatcher import status
from dct_celery.dispatcher.status import RunStatus
from dct_celery.errors import UsageError
from dct_celery.ports import StreamEntry, WorkerInfo
from dct_celery.security import signing
from dct_celery.wire.messages import PROTOCOL_VERSION
from tests.support.factories import held
from tests.support.memory_ledger import MemoryLedger, MemoryStore
from tests.support.runs import finished, fixture

KEY = "pool-key"
BUILD = WorkerInfo("build-a", "host-1", 4, __version__, PROTOCOL_VERSION, signing.key_id(KEY), {"one": "ready"})


class Stream:
    """Entries of a stream, one second apart."""

    def __init__(self) -> None:
        self.entries: list[StreamEntry] = []

    def say(self, kind: str, chunk: str = "c1", *, fence: int = 1, seq: int = 0, worker: str = "a", data: Any = None) -> None:
        id_ = f"{1_000 * (len(self.entries) + 1)}-0"
        self.entries.append(StreamEntry(id_, kind, chunk, 0, fence, worker, 2, seq, data))

    def fold(self) -> status.Folded:
        return status.fold(self.entries)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def ledger() -> MemoryLedger:
    ledger = MemoryLedger(MemoryStore(), "one")
    ledger.open_run("me", "{}")
    return ledger


def look(ledger: MemoryLedger, *active: str, workers: tuple[WorkerInfo, ...] = (), key: str = KEY) -> RunStatus:
    return status.inspect("one", ledger, workers=workers, active=active, pool="ci", key=key)


def claim(ledger: MemoryLedger, name: str = "c1") -> int:
    ledger.offer(Chunk(name, (0, 1), Phase.ISOLATED, Need.PRISTINE, attempt=0))
    return ledger.claim(name, 0, worker="build-a", slot=1, lease_ms=1000).fence


# -- the fold --------------------------------------------------------------------------


def test_the_first_verdict_on_a_test_stands(stream: Stream) -> None:
    # When
    stream.say("records", data=[finished(0), finished(1, "failed"), finished(2, "skipped")])
    stream.say("records", "c2", data=[finished(0, "failed"), finished(1, "error"), finished(2)])
    # Then
    assert stream.fold().outcomes == {0: "passed", 1: "failed", 2: "skipped"}


def test_a_pass_acquits_a_test_that_failed_before(stream: Stream) -> None:
    # When
    stream.say("records", data=[finished(0, "failed"), finished(1, "error"), finished(2, "xpassed")])
    stream.say("records", "c2", data=[finished(0), finished(1), finished(2)])
    # Then
    assert stream.fold().outcomes == {0: "passed", 1: "passed", 2: "xpassed"}


def test_a_test_skipped_by_its_process_is_open_unless_a_fixture_covers_it(stream: Stream) -> None:
    # When
    stream.say("records", data=[finished(0, "not_run"), finished(1, "not_run", covered_by="app.Case")])
    # Then
    assert stream.fold().outcomes == {1: "not_run"}


def test_a_fixture_that_failed_counts_once_and_one_that_skipped_never(stream: Stream) -> None:
    # When
    stream.say("records", data=[fixture("app.Case"), fixture("app.Case"), fixture("app.Other", "skipped")])
    # Then
    assert stream.fold().fixtures == {("app.Case", "setUpClass", "error")}


@pytest.mark.parametrize("end", ["completed", "released", "expired"])
def test_a_slot_holds_its_chunk_until_its_lease_ends(stream: Stream, end: str) -> None:
    # Given
    stream.say("claimed")
    stream.say("records", seq=1, data=[finished(0)])
    # Then
    (holding,) = stream.fold().held.values()
    assert (holding.worker, holding.slot, holding.since, holding.tests) == ("a", 2, 1.0, 1)
    # When
    stream.say(end)
    # Then
    assert stream.fold().held == {}


def test_the_end_of_a_lease_that_was_overtaken_frees_nobody(stream: Stream) -> None:
    # When
    stream.say("claimed", fence=2)
    stream.say("completed", fence=1)
    # Then
    assert list(stream.fold().held) == ["c1"]


def test_a_worker_that_refuses_is_remembered_with_its_reason(stream: Stream) -> None:
    # When
    stream.say("host", "", worker="b", data={"state": "refused", "message": "has Django 4.2", "detail": ""})
    stream.say("host", "", worker="c", data={"state": "checked"})
    # Then
    assert stream.fold().refusals == {"b": "has Django 4.2"}


def test_a_run_began_with_the_first_entry_of_its_stream(stream: Stream) -> None:
    assert stream.fold().first is None
    # When
    stream.say("claimed")
    stream.say("expired")
    # Then
    assert (stream.fold().first, stream.fold().last) == (1.0, 2.0)


# -- a run in the store ------------------------------------------------------------------


def test_a_run_is_what_its_ledger_stream_and_workers_say(ledger: MemoryLedger) -> None:
    # Given
    ledger.publish_manifest(signing.sign({"count": 9}, KEY))
    fence = claim(ledger)
    ledger.append(held(fence, attempt=0), 3, json.dumps([finished(0), finished(1, "failed"), fixture("app.Case")]), 1000)
    ledger.acknowledge({"c1.0": 2})
    # When
    found = look(ledger, "one", workers=(BUILD, replace(BUILD, name="build-b", runs={"two": "ready"})))
    # Then
    assert (found.state, found.announced, found.total, found.done, found.bad) == ("open", True, 9, 2, 2)
    assert (found.outcomes, found.fixtures) == ({"passed": 1, "failed": 1}, 1)
    assert (found.streamed, found.acknowledged) == (3, 2)
    assert found.workers == {"build-a": "ready"}
    assert [(one.worker, one.slot, one.chunk) for one in found.slots] == [("build-a", 1, "c1")]


def test_a_long_stream_is_read_to_its_end(ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(status, "_PAGE", 2)
    for number in range(5):
        claim(ledger, f"c{number}")
    # Then
    assert len(look(ledger).slots) == 5


def test_a_manifest_that_another_key_signed_is_not_believed(ledger: MemoryLedger) -> None:
    # Given
    ledger.publish_manifest(signing.sign({"count": 9}, KEY))
    # When
    found = look(ledger, key="another")
    # Then
    assert found.total is None
    assert "DCT_SIGNING_KEY" in found.note


def test_an_unknown_run_is_a_usage_error_that_names_the_active_ones() -> None:
    # Given
    nothing = MemoryLedger(MemoryStore(), "one")
    # Then
    with pytest.raises(UsageError, match=r"no run 'one'; active in pool 'ci': two, three$"):
        look(nothing, "two", "three")
    with pytest.raises(UsageError, match=r"no run 'one'; no run is active in pool 'ci'$"):
        look(nothing)


# -- the pool --------------------------------------------------------------------------


def test_slots_that_hold_chunks_of_any_active_run_are_busy(ledger: MemoryLedger) -> None:
    # Given
    claim(ledger, "c1")
    claim(ledger, "c2")
    # When
    seen = status.pool_workers([replace(BUILD, name="idle"), BUILD], [look(ledger)], KEY)
    # Then
    assert [(one.info.name, one.info.busy, one.obstacle) for one in seen] == [("build-a", 2, ""), ("idle", 0, "")]


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        (replace(BUILD, version="0.0.0"), "runs dct_celery 0.0.0"),
        (replace(BUILD, protocol=0), "speaks protocol 0, this side"),
        (replace(BUILD, key_id="xyz"), "has another signing key"),
    ],
)
def test_a_worker_that_does_not_fit_is_told_in_words(worker: WorkerInfo, said: str) -> None:
    # When
    (seen,) = status.pool_workers([worker], [], KEY)
    # Then
    assert seen.obstacle.startswith(said)


# -- cancel ----------------------------------------------------------------------------


def test_an_open_run_is_cancelled_in_the_store(ledger: MemoryLedger) -> None:
    # Given
    fence = claim(ledger)
    # When
    status.cancel("one", ledger, "why not", active=["one"], pool="ci")
    # Then
    assert ledger.state() == "cancelled"
    assert ledger.renew(held(fence), 1000) == "cancelled"


def test_a_run_that_is_not_open_cannot_be_cancelled(ledger: MemoryLedger) -> None:
    with pytest.raises(UsageError, match=r"no run 'two'; active in pool 'ci': one$"):
        status.cancel("two", MemoryLedger(MemoryStore(), "two"), "", active=["one"], pool="ci")
    # When
    ledger.cancel("first")
    # Then
    with pytest.raises(UsageError, match=r"'one' is cancelled already; no run is active"):
        status.cancel("one", ledger, "", active=["one"], pool="ci")
    # When
    ledger.close()
    # Then
    with pytest.raises(UsageError, match=r"'one' has ended; active in pool 'ci': two$"):
        status.cancel("one", ledger, "", active=["two"], pool="ci")
