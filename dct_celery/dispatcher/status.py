"""What the store knows of a run, for those who only look: a fold of its event stream, and the words of its workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dct_celery import __version__
from dct_celery.core.model import BAD_OUTCOMES, Outcome
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.errors import ConfigError, UsageError
from dct_celery.ports import Ledger, StreamEntry, WorkerInfo
from dct_celery.security import signing
from dct_celery.wire.messages import PROTOCOL_VERSION

#: Entries of one read of the stream.
_PAGE = 1000
#: A test that runs again after one of these (--reruns) is acquitted by a pass.
_DOUBTFUL = frozenset({Outcome.FAILED, Outcome.ERROR})


@dataclass(slots=True)
class Holding:
    """A slot that holds a chunk. `since`: Unix seconds on the store's clock; `tests`: so many of its chunk have ended."""

    worker: str
    slot: int
    chunk: str
    attempt: int
    fence: int
    since: float
    tests: int = 0


@dataclass(slots=True)
class Folded:
    """A run by its stream alone. What only its dispatcher decides (a test given up, a death blamed) is not in there."""

    #: Index of an entry -> outcome. The first verdict stands, but for a failure that a rerun acquits.
    outcomes: dict[int, str] = field(default_factory=dict)
    #: (id, phase, outcome) of each fixture that failed.
    fixtures: set[tuple[str, str, str]] = field(default_factory=set)
    #: "chunk.attempt" -> sequence number of its last record.
    positions: dict[str, int] = field(default_factory=dict)
    #: Chunk -> who holds it.
    held: dict[str, Holding] = field(default_factory=dict)
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
        if entry.seq:
            folded.positions[f"{entry.chunk}.{entry.attempt}"] = entry.seq
        if entry.kind == "host":
            _host(folded, entry)
        elif entry.kind == "claimed":
            lease = (entry.worker, entry.slot, entry.chunk, entry.attempt, entry.fence)
            folded.held[entry.chunk] = Holding(*lease, since=_seconds(entry))
        elif entry.kind == "records":
            _records(folded, entry)
        elif (holding := folded.held.get(entry.chunk)) and holding.fence == entry.fence:
            del folded.held[entry.chunk]
    return folded


def _seconds(entry: StreamEntry) -> float:
    return int(entry.id.partition("-")[0]) / 1000


def _host(folded: Folded, entry: StreamEntry) -> None:
    if entry.data["state"] in ("refused", "failed"):
        folded.refusals[entry.worker] = entry.data["message"]


def _records(folded: Folded, entry: StreamEntry) -> None:
    for record in entry.data:
        if record["kind"] == "TestFinished":
            _test(folded, entry.chunk, record)
        elif record["kind"] == "FixtureFinished" and record["outcome"] in BAD_OUTCOMES:
            folded.fixtures.add((record["id"], record["phase"], record["outcome"]))


def _test(folded: Folded, chunk: str, record: dict[str, Any]) -> None:
    if record["outcome"] == Outcome.NOT_RUN and not record.get("covered_by"):
        return  # it stays open and runs again
    known = folded.outcomes.setdefault(record["index"], record["outcome"])
    if known in _DOUBTFUL and record["outcome"] == Outcome.PASSED:
        folded.outcomes[record["index"]] = record["outcome"]
    if chunk in folded.held:
        folded.held[chunk].tests += 1


# -- a run -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run as it stands. Times are Unix seconds on the store's clock."""

    run: str
    #: open | cancelled | closed
    state: str
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
    slots: tuple[Holding, ...]
    #: Worker -> preparing | ready | refused | over
    workers: dict[str, str]
    refusals: dict[str, str]
    note: str = ""

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    @property
    def bad(self) -> int:
        """What makes the run red so far: failed tests and fixtures."""
        return self.fixtures + sum(self.outcomes.get(outcome, 0) for outcome in BAD_OUTCOMES)


def inspect(run: str, ledger: Ledger, *, workers: Sequence[WorkerInfo], active: Sequence[str], pool: str, key: str) -> RunStatus:
    """`workers` and `active` of the pool. Raises UsageError for a run that the store does not know."""
    state = ledger.state()
    if state == "none":
        raise UsageError(f"the store knows no run {run!r}; {some_runs(active, pool)}")
    folded = fold(_stream(ledger))
    total, note = _total(ledger, key)
    reached = ledger.acknowledged(list(folded.positions))
    return RunStatus(
        run=run,
        state=state,
        announced=run in active,
        total=total,
        silence=round(ledger.silence(), 1),
        outcomes=dict(Counter(folded.outcomes.values())),
        fixtures=len(folded.fixtures),
        streamed=sum(folded.positions.values()),
        acknowledged=sum(map(min, reached, folded.positions.values())),
        began=folded.first,
        last=folded.last,
        slots=tuple(sorted(folded.held.values(), key=lambda one: (one.worker, one.slot))),
        workers={info.name: info.runs[run] for info in workers if run in info.runs},
        refusals=folded.refusals,
        note=note,
    )


def _stream(ledger: Ledger) -> Iterator[StreamEntry]:
    """All that is there now; what comes meanwhile may be in it."""
    after, page = "0", ledger.read("0", block_ms=0, count=_PAGE)
    while page:
        yield from page
        after = page[-1].id
        page = ledger.read(after, block_ms=0, count=_PAGE) if len(page) == _PAGE else []


def _total(ledger: Ledger, key: str) -> tuple[int | None, str]:
    text = ledger.manifest()
    if text is None:
        return None, ""
    try:
        return int(signing.verify(text, key, what="the manifest of the run")["count"]), ""
    except ConfigError as error:
        return None, str(error)


def some_runs(active: Sequence[str], pool: str) -> str:
    """The end of a line about a run that is not there: which ones are."""
    return f"active in pool {pool!r}: {', '.join(active)}" if active else f"no run is active in pool {pool!r}"


# -- the pool --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker of the pool; `obstacle` says why it takes no runs of this side, or is empty."""

    info: WorkerInfo
    obstacle: str


def pool_workers(workers: Iterable[WorkerInfo], runs: Iterable[RunStatus], key: str, broker: str = "") -> list[WorkerStatus]:
    """By name. `broker`: where this side publishes, as in `WorkerInfo.broker`.

    `runs`: those that are active; they say which slots are busy."""
    busy = Counter(holding.worker for run in runs for holding in run.slots)
    seen = [replace(info, busy=max(info.busy, busy[info.name])) for info in workers]
    return [WorkerStatus(info, _obstacle(info, key, broker)) for info in sorted(seen, key=lambda info: info.name)]


def _obstacle(info: WorkerInfo, key: str, broker: str) -> str:
    if info.version == __version__ and info.protocol != PROTOCOL_VERSION:
        return f"speaks protocol {info.protocol}, this side {PROTOCOL_VERSION}: install the same version on both sides"
    return Fleet("", "", __version__, PROTOCOL_VERSION, signing.key_id(key), broker=broker).obstacle(info)


def cancel(run: str, ledger: Ledger, reason: str, *, active: Sequence[str], pool: str) -> None:
    """Slots learn of it at their next renewal, the dispatcher at its next look. UsageError when there is nothing to cancel."""
    state = ledger.state()
    if state == "none":
        raise UsageError(f"the store knows no run {run!r}; {some_runs(active, pool)}")
    if state != "open":
        how = "is cancelled already" if state == "cancelled" else "has ended"
        raise UsageError(f"run {run!r} {how}; {some_runs([name for name in active if name != run], pool)}")
    ledger.cancel(reason)
