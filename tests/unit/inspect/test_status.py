"""Claims about `inspect.status`: a run from its event stream and the rest of the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dct_celery import __version__
from dct_celery.core.model import Chunk, FixtureRef, Need, Outcome, Phase, Verdict
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import Record
from dct_celery.core.run.view import RunView
from dct_celery.errors import Untrusted, UsageError
from dct_celery.inspect import status
from dct_celery.inspect.status import RunStatus, RunWatch
from dct_celery.ports import WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION, summary
from dct_celery.protocol.runs import ManifestSummary, RunState
from dct_celery.protocol.stream import StreamEntry, read_entry
from dct_celery.protocol.summary import RunSummary
from dct_celery.protocol.workers import CheckedReport, RefusedReport, RunStage
from dct_celery.security.signing import Keyring
from tests.support import streams
from tests.support.factories import KEY, KEY_ID, OTHER_KEY, held, make_entry, make_spec, run_door
from tests.support.memory_ledger import MemoryLedger, MemoryStore
from tests.support.runs import as_sent, finished, fixture

MANIFEST = ManifestSummary("ab" * 32, 9, {})
DOOR, RING = run_door(), Keyring((KEY,))
BUILD = WorkerInfo(
    "build-a",
    "host-1",
    4,
    __version__,
    PROTOCOL_VERSION,
    KEY_ID,
    (KEY_ID,),
    {"run-one": RunStage.READY},
)
ME = "a" * 16


class Stream:
    """Entries of a stream, one second apart."""

    def __init__(self) -> None:
        self.entries: list[StreamEntry] = []

    def say(self, fields: dict[str, str]) -> None:
        self.entries.append(read_entry(DOOR, f"{1_000 * (len(self.entries) + 1)}-0", fields))

    def records(self, *records: Record, chunk: str = "c1", seq: int = 0) -> None:
        """Of a chunk that is claimed by then."""
        if chunk not in self.fold().busy:
            self.say(streams.claimed(lease(chunk)))
        self.say(streams.recorded(DOOR, lease(chunk), seq or len(records), *records))

    def fold(self) -> RunView:
        view = RunView()
        for entry in self.entries:
            summary.take(view, entry)
        return view

    def outcomes(self, *indices: int) -> list[str | None]:
        view = self.fold()
        return [view.outcome(index) for index in indices]


def lease(chunk: str = "c1", fence: int = 1) -> LeaseRef:
    return held(fence, chunk=chunk, worker="a", slot=2)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def ledger() -> MemoryLedger:
    return ledger_of(MemoryStore())


def ledger_of(store: MemoryStore) -> MemoryLedger:
    ledger = MemoryLedger(store, "run-one", DOOR)
    ledger.open_run(ME, make_spec())
    return ledger


def look(ledger: MemoryLedger, *active: str, workers: tuple[WorkerInfo, ...] = ()) -> RunStatus:
    return RunWatch("run-one", ledger).look(workers=workers, active=active, pool="ci")


def claim(ledger: MemoryLedger, name: str = "c1") -> LeaseRef:
    ledger.commit([Chunk(name, (0, 1), Phase.ISOLATED, Need.PRISTINE)])
    claim = ledger.claim(name, 1, worker="build-a", slot=1, lease_ms=1000)
    assert claim.lease is not None
    return claim.lease


def spied(read: Any, keys: list[str]) -> Any:
    """The same, with the attempts of all records that were read."""

    def reads(self: MemoryLedger, *args: Any, **more: Any) -> Any:
        page = read(self, *args, **more)
        keys.extend(
            entry.fact.lease.key for entry in page.entries if isinstance(entry.fact, ev.Recorded)
        )
        return page

    return reads


# -- the fold --------------------------------------------------------------------------


def test_the_first_verdict_on_a_test_stands(stream: Stream) -> None:
    # When
    stream.records(finished(0), finished(1, "failed"), finished(2, "skipped"))
    stream.records(finished(0, "failed"), finished(1, "error"), finished(2), chunk="c2")
    # Then
    assert stream.outcomes(0, 1, 2) == ["passed", "failed", "skipped"]


def test_a_pass_replaces_an_earlier_failure(stream: Stream) -> None:
    # When
    stream.records(finished(0, "failed"), finished(1, "error"), finished(2, "xpassed"))
    stream.records(finished(0), finished(1), finished(2), chunk="c2")
    # Then
    assert stream.outcomes(0, 1, 2) == ["passed", "passed", "xpassed"]


def test_a_test_skipped_by_its_process_is_open_unless_a_fixture_covers_it(stream: Stream) -> None:
    # When
    stream.records(
        finished(0, "not_run"), finished(1, "not_run", covered_by="setUpClass (app.Case)")
    )
    # Then
    assert stream.outcomes(0, 1) == [None, "not_run"]


def test_a_fixture_that_failed_counts_once_and_one_that_skipped_never(stream: Stream) -> None:
    # When
    stream.records(
        fixture("setUpClass (app.Case)"),
        fixture("setUpClass (app.Case)"),
        fixture("setUpClass (app.Other)", "skipped"),
    )
    # Then
    assert set(stream.fold().fixtures) == {
        (FixtureRef.parse("setUpClass (app.Case)"), Outcome.ERROR)
    }


ENDS = {
    "completed": lambda: streams.ended(DOOR, lease(), 1, ev.ChunkCompleted()),
    "released": lambda: streams.ended(DOOR, lease(), 1, ev.ChunkReleased(ev.ReleaseReason.DRAIN)),
    "expired": lambda: streams.expired(lease()),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_slot_holds_its_chunk_until_its_lease_ends(stream: Stream, end: str) -> None:
    # Given
    stream.say(streams.claimed(lease()))
    stream.records(finished(0))
    # Then
    (holding,) = stream.fold().busy.values()
    assert (holding.lease.worker, holding.lease.slot, holding.since, holding.tests) == (
        "a",
        2,
        1.0,
        1,
    )
    # When
    stream.say(ENDS[end]())
    # Then
    assert stream.fold().busy == {}


def test_the_end_of_a_lease_that_was_overtaken_frees_no_slot(stream: Stream) -> None:
    # When
    stream.say(streams.claimed(lease(fence=2)))
    stream.say(streams.ended(DOOR, lease(fence=1), 0, ev.ChunkCompleted()))
    # Then
    assert list(stream.fold().busy) == ["c1"]


def test_a_worker_that_refuses_is_remembered_with_its_reason(stream: Stream) -> None:
    # When
    stream.say(streams.reported(DOOR, "b", RefusedReport("has Django 4.2")))
    stream.say(streams.reported(DOOR, "c", CheckedReport()))
    # Then
    assert stream.fold().refusals == {"b": "has Django 4.2"}


def test_a_run_began_with_the_first_entry_of_its_stream(stream: Stream) -> None:
    assert stream.fold().first is None
    # When
    stream.say(streams.claimed(lease()))
    stream.say(streams.expired(lease()))
    # Then
    assert (stream.fold().first, stream.fold().last) == (1.0, 2.0)


# -- a run in the store ------------------------------------------------------------------


def test_a_run_is_what_its_ledger_stream_and_workers_say(ledger: MemoryLedger) -> None:
    # Given
    ledger.publish_manifest(MANIFEST)
    held = claim(ledger)
    ledger.append(
        held, 3, as_sent(finished(0), finished(1, "failed"), fixture("setUpClass (app.Case)")), 1000
    )
    ledger.commit(acknowledged={"c1.1": 2})
    # When
    found = look(
        ledger,
        "run-one",
        workers=(BUILD, replace(BUILD, name="build-b", runs={"two": RunStage.READY})),
    )
    # Then
    assert (found.state, found.announced, found.total, found.done, found.bad) == (
        "open",
        True,
        9,
        2,
        2,
    )
    assert (found.outcomes, found.fixtures) == ({"passed": 1, "failed": 1}, 1)
    assert (found.streamed, found.acknowledged) == (3, 2)
    assert found.workers == {"build-a": "ready"}
    assert [(one.lease.worker, one.lease.slot, one.lease.chunk) for one in found.slots] == [
        ("build-a", 1, "c1")
    ]


def test_a_long_stream_is_read_to_its_end(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(status, "_PAGE", 2)
    for number in range(5):
        claim(ledger, f"c{number}")
    # Then
    assert len(look(ledger).slots) == 5


def test_a_manifest_that_another_key_signed_is_not_trusted() -> None:
    # Given
    store = MemoryStore()
    ledger_of(store).publish_manifest(MANIFEST)
    # When
    found = look(MemoryLedger(store, "run-one", run_door("run-one", OTHER_KEY)))
    # Then
    assert found.total is None
    assert found.note == "the manifest of the run is signed with another key"


def test_untrusted_entries_of_the_stream_are_counted(ledger: MemoryLedger) -> None:
    # Given
    store = ledger._store.runs["run-one"]
    held = claim(ledger)
    ledger.append(held, 1, as_sent(finished(0)), 1000)
    # When: the same failure three times, without a signature, and one that is no entry
    forged = {**streams.recorded(DOOR, held, 2, finished(0, "failed")), "d": "[]"}
    for fields in (forged, forged, forged, {"k": "moonbeam"}):
        store.add(fields)
    # Then
    found = look(ledger)
    assert found.outcomes == {"passed": 1}
    assert found.note == "4 entries of its event stream are not signed with our key"


def test_a_forged_order_to_stop_is_shown_as_forged(ledger: MemoryLedger) -> None:
    # When
    ledger._store.runs["run-one"].state = "cancelled"
    # Then
    assert look(ledger).state is RunState.TAMPERED


def summarized(ledger: MemoryLedger, *outcomes: str, epoch: int = 1) -> RunSummary:
    """The dispatcher's summary of the whole stream, with these verdicts."""
    view = RunView(9, reruns=True)
    page = ledger.read("0", block_ms=0)
    for entry in page.entries:
        summary.take(view, entry)
    for index, outcome in enumerate(outcomes):
        view.judge(Verdict(make_entry(index), Outcome(outcome), reason="s3cret"), 0.0)
    view.waiting = "waiting for godot"
    made = RunSummary.of(
        view, epoch=epoch, after=page.last, now=0.0, mask=lambda text: text.replace("s3cret", "***")
    )
    ledger.publish_summary(made)
    return made


def test_what_the_dispatcher_has_judged_counts_and_only_what_came_since_is_read(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: a test that the dispatcher has given up, of which no slot has said anything
    held = claim(ledger)
    ledger.append(held, 1, as_sent(finished(0)), 1000)
    summarized(ledger, "passed", "error")
    ledger.append(held, 2, as_sent(finished(1)), 1000)
    ledger.append(held, 3, as_sent(finished(2, "skipped")), 1000)
    read: list[str] = []
    monkeypatch.setattr(MemoryLedger, "read", spied(MemoryLedger.read, read))
    # When
    found = look(ledger)
    # Then
    assert found.outcomes == {"passed": 2, "skipped": 1}
    assert len(read) == 2
    assert (found.streamed, found.waiting) == (3, "waiting for godot")
    assert [(one.lease.chunk, one.tests) for one in found.slots] == [("c1", 3)]
    assert [(problem.name, problem.message) for problem in found.problems] == [
        ("app.tests.Case.test_1", "***")
    ]


def test_a_second_read_costs_only_what_is_new(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    held = claim(ledger)
    watch = RunWatch("run-one", ledger)
    ledger.append(held, 1, as_sent(finished(0)), 1000)
    assert watch.look(workers=(), active=(), pool="ci").outcomes == {"passed": 1}
    read: list[str] = []
    monkeypatch.setattr(MemoryLedger, "read", spied(MemoryLedger.read, read))
    # When
    ledger.append(held, 2, as_sent(finished(1)), 1000)
    # Then
    assert watch.look(workers=(), active=(), pool="ci").outcomes == {"passed": 2}
    assert read == ["c1.1"]


def test_a_run_that_was_put_back_is_read_from_its_start(ledger: MemoryLedger) -> None:
    # Given a run that was read
    held = claim(ledger)
    ledger.append(held, 1, as_sent(finished(0)), 1000)
    watch = RunWatch("run-one", ledger)
    assert watch.look(workers=(), active=(), pool="ci").outcomes == {"passed": 1}
    # When: it has another stream now, and a summary of the one before
    store = ledger._store.runs["run-one"]
    summarized(ledger, "passed", "passed")
    store.epoch, store.events = 2, []
    again = replace(held, epoch=2)
    store.add(streams.claimed(again))
    store.add(streams.recorded(DOOR, again, 1, finished(0, "skipped")))
    # Then
    assert watch.look(workers=(), active=(), pool="ci").outcomes == {"skipped": 1}
    assert look(ledger).outcomes == {"skipped": 1}


def test_a_summary_that_another_key_signed_is_not_trusted(ledger: MemoryLedger) -> None:
    # Given
    held = claim(ledger)
    ledger.append(held, 1, as_sent(finished(0)), 1000)
    summarized(
        MemoryLedger(ledger._store, "run-one", run_door("run-one", OTHER_KEY)), "failed", "failed"
    )
    # When
    found = look(ledger)
    # Then
    assert found.outcomes == {"passed": 1}
    assert found.note == "the summary of the run is signed with another key"


def test_an_unknown_run_is_a_usage_error_that_names_the_active_ones() -> None:
    # Given
    nothing = MemoryLedger(MemoryStore(), "run-one", DOOR)
    # Then
    with pytest.raises(UsageError, match=r"no run 'run-one'; active in pool 'ci': two, three$"):
        look(nothing, "two", "three")
    with pytest.raises(UsageError, match=r"no run 'run-one'; no run is active in pool 'ci'$"):
        look(nothing)


# -- the pool --------------------------------------------------------------------------


def test_slots_that_hold_chunks_of_any_active_run_are_busy(ledger: MemoryLedger) -> None:
    # Given
    claim(ledger, "c1")
    claim(ledger, "c2")
    # When
    seen = status.pool_workers([replace(BUILD, name="idle"), BUILD], [look(ledger)], RING)
    # Then
    assert [(one.info.name, one.info.busy, one.obstacle) for one in seen] == [
        ("build-a", 2, ""),
        ("idle", 0, ""),
    ]


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        (replace(BUILD, version="0.0.0"), "runs dct_celery 0.0.0"),
        (replace(BUILD, protocol=0), "speaks protocol 0, this side"),
        (replace(BUILD, key_id="xyz", keys=("xyz",)), "has another signing key"),
    ],
)
def test_the_reason_why_a_worker_does_not_fit_is_shown(worker: WorkerInfo, said: str) -> None:
    # When
    (seen,) = status.pool_workers([worker], [], RING)
    # Then
    assert seen.obstacle.startswith(said)


# -- cancel ----------------------------------------------------------------------------


def test_an_open_run_is_cancelled_in_the_store(ledger: MemoryLedger) -> None:
    # Given
    held = claim(ledger)
    # When
    status.cancel("run-one", ledger, "why not", active=["run-one"], pool="ci")
    # Then
    assert ledger.state() == "cancelled"
    assert ledger.renew(held, 1000) == "cancelled"


def test_a_run_that_is_not_open_cannot_be_cancelled(ledger: MemoryLedger) -> None:
    with pytest.raises(UsageError, match=r"no run 'two'; active in pool 'ci': run-one$"):
        status.cancel(
            "two", MemoryLedger(MemoryStore(), "two", DOOR), "", active=["run-one"], pool="ci"
        )
    # When
    ledger.cancel("first")
    # Then
    with pytest.raises(UsageError, match=r"'run-one' is cancelled already; no run is active"):
        status.cancel("run-one", ledger, "", active=["run-one"], pool="ci")
    # When
    ledger.close()
    # Then
    with pytest.raises(UsageError, match=r"'run-one' has ended; active in pool 'ci': two$"):
        status.cancel("run-one", ledger, "", active=["two"], pool="ci")


def test_a_forged_order_to_stop_does_not_keep_from_a_true_one(
    ledger: MemoryLedger,
) -> None:
    # Given
    ledger._store.runs["run-one"].state = "cancelled"
    # Then: it does not say that the run is cancelled already
    status.cancel("run-one", ledger, "why not", active=["run-one"], pool="ci")


def test_a_run_of_another_key_cannot_be_cancelled() -> None:
    # Given
    store = MemoryStore()
    ledger = ledger_of(store)
    foreign = MemoryLedger(store, "run-one", run_door("run-one", OTHER_KEY))
    # Then
    with pytest.raises(
        Untrusted,
        match=(
            "run 'run-one' cannot be cancelled from here: its specification is signed with"
            " another key"
        ),
    ):
        status.cancel("run-one", foreign, "why not", active=["run-one"], pool="ci")
    assert ledger.state() is RunState.OPEN
