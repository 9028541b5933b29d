"""What the store knows of a run, for those who only look: a fold of its event stream, and the words of its workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from dct_celery import __version__
from dct_celery.core import events as ev
from dct_celery.core.leases import LeaseRef
from dct_celery.core.model import BAD_OUTCOMES, FixtureRef, Outcome
from dct_celery.core.records import FixtureRecord, Record, TestRecord
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.errors import Untrusted, UsageError
from dct_celery.ports import Ledger, WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol.door import Rejects
from dct_celery.protocol.runs import RunState
from dct_celery.protocol.stream import Reported, StreamEntry
from dct_celery.protocol.workers import FailedReport, RefusedReport, RunStage
from dct_celery.security.signing import Keyring

#: Entries of one read of the stream.
_PAGE = 1000
#: A test that runs again after one of these (--reruns) is acquitted by a pass.
_DOUBTFUL = frozenset({Outcome.FAILED, Outcome.ERROR})


@dataclass(slots=True)
class BusySlot:
    """A slot that holds a chunk. `since`: Unix seconds on the store's clock; `tests`: so many of its chunk have ended."""

    lease: LeaseRef
    since: float
    tests: int = 0


@dataclass(slots=True)
class Folded:
    """A run by its stream alone. What only its dispatcher decides (a test given up, a death blamed) is not in there."""

    #: Index of an entry -> outcome. The first verdict stands, but for a failure that a rerun acquits.
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    #: Fixtures that failed, and how.
    fixtures: set[tuple[FixtureRef, Outcome]] = field(default_factory=set)
    #: "chunk.attempt" -> sequence number of its last record.
    positions: dict[str, int] = field(default_factory=dict)
    #: Chunk -> who holds it.
    held: dict[str, BusySlot] = field(default_factory=dict)
    #: Worker -> why it does not take part.
    refusals: dict[str, str] = field(default_factory=dict)
    #: Unix seconds on the store's clock of the first and the last entry.
    first: float | None = None
    last: float | None = None


def fold(entries: Iterable[StreamEntry]) -> Folded:
    """Takes a stream from its beginning."""
    folded = Folded()
    for entry in entries:
        folded.last = _seconds(entry)
        folded.first = folded.last if folded.first is None else folded.first
        _take(folded, entry)
    return folded


def _take(folded: Folded, entry: StreamEntry) -> None:
    match entry.fact:
        case Reported(worker, RefusedReport() | FailedReport() as report):
            folded.refusals[worker] = report.message
        case ev.Claimed(lease):
            folded.held[lease.chunk] = BusySlot(lease, since=_seconds(entry))
        case ev.Recorded(lease, seq, records):
            folded.positions[lease.key] = seq
            for record in records:
                _record(folded, lease.chunk, record)
        case ev.Ended(lease, seq):
            if seq:
                folded.positions[lease.key] = seq
            _free(folded, lease)
        case ev.Expired(lease):
            _free(folded, lease)
        case ev.Offered() | ev.Avoided() | Reported():
            pass
        case _:
            assert_never(entry.fact)


def _seconds(entry: StreamEntry) -> float:
    milliseconds = entry.id.partition("-")[0]
    return int(milliseconds) / 1000 if milliseconds.isdecimal() else 0.0


def _free(folded: Folded, lease: LeaseRef) -> None:
    busy = folded.held.get(lease.chunk)
    if busy is not None and busy.lease.fence == lease.fence:
        del folded.held[lease.chunk]


def _record(folded: Folded, chunk: str, record: Record) -> None:
    match record:
        case TestRecord():
            _test(folded, chunk, record)
        case FixtureRecord():
            if record.outcome in BAD_OUTCOMES:
                folded.fixtures.add((record.fixture, record.outcome))
        case _:
            assert_never(record)


def _test(folded: Folded, chunk: str, record: TestRecord) -> None:
    if record.outcome is Outcome.NOT_RUN and not record.covered_by:
        return  # it stays open and runs again
    known = folded.outcomes.setdefault(record.index, record.outcome)
    if known in _DOUBTFUL and record.outcome is Outcome.PASSED:
        folded.outcomes[record.index] = record.outcome
    if chunk in folded.held:
        folded.held[chunk].tests += 1


# -- a run -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run as it stands. Times are Unix seconds on the store's clock."""

    run: str
    state: RunState
    #: Its dispatcher has said within the last minute that it wants the pool.
    announced: bool
    #: Tests of the manifest; None before it is there, or when it could not be believed (see `note`).
    total: int | None
    #: Seconds since its dispatcher was last known to be alive.
    silence: float
    #: Outcome -> tests, without outcomes that no test has.
    outcomes: dict[str, int]
    #: Class and module fixtures that failed.
    fixtures: int
    #: Records that slots have sent, and those of them that the dispatcher has journalled.
    streamed: int
    acknowledged: int
    began: float | None
    last: float | None
    slots: tuple[BusySlot, ...]
    workers: dict[str, RunStage]
    refusals: dict[str, str]
    note: str = ""

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    @property
    def bad(self) -> int:
        """What makes the run red so far: failed tests and fixtures."""
        return self.fixtures + sum(self.outcomes.get(outcome, 0) for outcome in BAD_OUTCOMES)


def inspect(run: str, ledger: Ledger, *, workers: Sequence[WorkerInfo], active: Sequence[str], pool: str) -> RunStatus:
    """`workers` and `active` of the pool. Raises UsageError for a run that the store does not know."""
    state = ledger.state()
    if state is RunState.NONE:
        raise UsageError(f"the store knows no run {run!r}; {some_runs(active, pool)}")
    rejects = Rejects()
    folded = fold(_stream(ledger, rejects))
    total, note = _total(ledger)
    if rejects.total:
        note = "; ".join(filter(None, [note, f"{rejects.total:,} entries of its event stream are not signed with our key"]))
    reached = ledger.acknowledged(list(folded.positions))
    return RunStatus(
        run=run,
        state=state,
        announced=run in active,
        total=total,
        silence=round(ledger.silence(), 1),
        outcomes=dict(Counter(outcome.value for outcome in folded.outcomes.values())),
        fixtures=len(folded.fixtures),
        streamed=sum(folded.positions.values()),
        acknowledged=sum(map(min, reached, folded.positions.values())),
        began=folded.first,
        last=folded.last,
        slots=tuple(sorted(folded.held.values(), key=lambda one: (one.lease.worker, one.lease.slot))),
        workers={info.name: info.runs[run] for info in workers if run in info.runs},
        refusals=folded.refusals,
        note=note,
    )


def _stream(ledger: Ledger, rejects: Rejects) -> Iterator[StreamEntry]:
    """All that is there now; what comes meanwhile may be in it."""
    after = "0"
    while (page := ledger.read(after, block_ms=0, count=_PAGE)).last:
        for one in page.rejected:
            rejects.note("stream", one.error)
        yield from page.entries
        after = page.last
        if len(page.entries) + len(page.rejected) < _PAGE:
            return


def _total(ledger: Ledger) -> tuple[int | None, str]:
    try:
        manifest = ledger.manifest()
    except Untrusted as error:
        return None, f"the manifest of the run {error}"
    return (None, "") if manifest is None else (manifest.count, "")


def some_runs(active: Sequence[str], pool: str) -> str:
    """The end of a line about a run that is not there: which ones are."""
    return f"active in pool {pool!r}: {', '.join(active)}" if active else f"no run is active in pool {pool!r}"


# -- the pool --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker of the pool; `obstacle` says why it takes no runs of this side, or is empty."""

    info: WorkerInfo
    obstacle: str


def pool_workers(
    workers: Iterable[WorkerInfo], runs: Iterable[RunStatus], keyring: Keyring, broker: str = ""
) -> list[WorkerStatus]:
    """By name. `broker`: where this side publishes, as in `WorkerInfo.broker`.

    `runs`: those that are active; they say which slots are busy."""
    busy = Counter(slot.lease.worker for run in runs for slot in run.slots)
    seen = [replace(info, busy=max(info.busy, busy[info.name])) for info in workers]
    return [WorkerStatus(info, _obstacle(info, keyring, broker)) for info in sorted(seen, key=lambda info: info.name)]


def _obstacle(info: WorkerInfo, keyring: Keyring, broker: str) -> str:
    if info.version == __version__ and info.protocol != PROTOCOL_VERSION:
        return f"speaks protocol {info.protocol}, this side {PROTOCOL_VERSION}: install the same version on both sides"
    return Fleet("", "", __version__, PROTOCOL_VERSION, keyring.ids[0], broker=broker).obstacle(info)


def cancel(run: str, ledger: Ledger, reason: str, *, active: Sequence[str], pool: str) -> None:
    """Slots learn of it at their next renewal, the dispatcher at its next look. UsageError when there is nothing to cancel, or it
    is not the run of this key; Untrusted."""
    state = ledger.state()
    if state is RunState.NONE:
        raise UsageError(f"the store knows no run {run!r}; {some_runs(active, pool)}")
    if state not in (RunState.OPEN, RunState.TAMPERED):
        how = "is cancelled already" if state is RunState.CANCELLED else "has ended"
        raise UsageError(f"run {run!r} {how}; {some_runs([name for name in active if name != run], pool)}")
    try:
        ledger.spec()
    except Untrusted as error:
        raise Untrusted(f"run {run!r} cannot be cancelled from here: its specification {error}") from None
    ledger.cancel(reason)
