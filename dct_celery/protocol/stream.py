"""A run's event stream: entries as the store has them, and as facts.

The store itself writes what only it knows: claims and expiries. A forged one can delay a run, until
the dispatcher's check of leases finds it; verdicts come from signed records and ends alone (I11).

Offers are in the stream although the dispatcher knows them: `dct attach` on a machine without the
journal replays the stream in its order. The chunks in the store have every offer too, but not its
place among the ends that led to it: a replay that learnt of a retry before the loss behind it would
offer those tests twice. The dispatcher recognises its own offers by their text (`OwnOffers`), and
neither verifies nor decodes them.

Each field of an entry is text:

    k kind · e epoch · c chunk · a attempt · f fence · w worker · s slot · q sequence number ·
    d data, signed by its author
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from dct_celery.core import codec
from dct_celery.core.model import Chunk, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import PASSED_FORM, FixtureRecord, Record, TestRecord
from dct_celery.errors import Untrusted
from dct_celery.protocol import workers
from dct_celery.protocol.door import Door, parse

#: Names of the record kinds, as the test process sends them.
_RECORDS: dict[str, codec.Decode] = {
    "TestFinished": codec.decoder(TestRecord),
    "FixtureFinished": codec.decoder(FixtureRecord),
}
_REPORTS: dict[str, codec.Decode] = {
    cls.__name__: codec.decoder(cls)
    for cls in (
        workers.ReadyReport,
        workers.CheckedReport,
        workers.UsageReport,
        workers.MeasuredReport,
        workers.ShortReport,
        workers.RefusedReport,
        workers.FailedReport,
    )
}
#: Upper limit for the records of one entry.
_MOST_RECORDS = 1_000_000
#: Upper limit for the digits of a number.
_MOST_DIGITS = 15

_PASSED = re.compile(PASSED_FORM)
#: A list of such records alone, as most are.
_ALL_PASSED = re.compile(rf"\[{PASSED_FORM}(?:,{PASSED_FORM})*\]")


class EntryKind(StrEnum):
    OFFERED = "offered"
    CLAIMED = "claimed"
    RECORDS = "records"
    COMPLETED = "completed"
    RELEASED = "released"
    EXPIRED = "expired"
    AVOIDED = "avoided"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker's report about the run as a whole."""

    worker: str
    report: workers.WorkerReport


#: Offers of one dispatcher that will come back to it: (epoch, signed text) -> chunk.
OwnOffers = MutableMapping[tuple[int, str], Chunk]
Fact = ev.Offered | ev.Claimed | ev.Recorded | ev.Ended | ev.Avoided | ev.Expired | Reported


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry of the stream.

    What happened, in which epoch of the run, and the fields as the store has them (for the
    journal).
    """

    id: str
    epoch: int
    fact: Fact
    fields: Mapping[str, str]

    @property
    def position(self) -> tuple[str, int] | None:
        """("chunk.attempt", how far this entry acknowledges that attempt).

        The end of an attempt counts as one more record.
        """
        match self.fact:
            case ev.Recorded(lease, seq):
                return lease.key, seq
            case ev.Ended(lease, seq):
                return lease.key, seq + 1
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that was rejected."""

    id: str
    error: Untrusted


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a stream, in order.

    `last` is the id to read on after; empty if there was nothing.
    """

    entries: tuple[StreamEntry, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    last: str = ""


# -- out -----------------------------------------------------------------------------------


def offer(door: Door, chunk: Chunk, epoch: int) -> str:
    return door.seal(chunk, epoch)


def records(door: Door, lease: LeaseRef, seq: int, text: str) -> str:
    """The signed text of records.

    `text`: a JSON list as the test process sent them; the last one has the number `seq`.
    """
    return door.seal_text("records", text, *_holder(lease), seq)


def chunk_end(door: Door, lease: LeaseRef, seq: int, end: ev.ChunkEnd) -> str:
    return door.seal(end, *_holder(lease), seq)


def report(door: Door, worker: str, message: workers.WorkerReport) -> str:
    body = {"kind": type(message).__name__, **codec.encode(message)}
    return door.seal_text("report", codec.dumps(body), worker)


def _holder(lease: LeaseRef) -> tuple[str | int, ...]:
    return (lease.epoch, lease.chunk, lease.attempt, lease.fence, lease.worker, lease.slot)


def rewritten(door: Door, entry: StreamEntry, change: Callable[[Any], Any]) -> StreamEntry:
    """The entry with its signed data changed, as plain JSON, and signed again by this process."""
    match entry.fact:
        case ev.Recorded(lease, seq):
            kind, bound = "records", (*_holder(lease), seq)
        case ev.Ended(lease, seq, end):
            kind, bound = type(end).__name__, (*_holder(lease), seq)
        case Reported(worker):
            kind, bound = "report", (worker,)
        case _:
            return entry
    body = change(_plain(door.unseal_text(kind, entry.fields["d"], *bound)))
    data = door.seal_text(kind, codec.dumps(body), *bound)
    return read_entry(door, entry.id, {**entry.fields, "d": data})


# -- in ------------------------------------------------------------------------------------


def unseal_offer(door: Door, text: str, epoch: int) -> Chunk:
    """Raises Untrusted."""
    return door.unseal(Chunk, text, epoch)


def read_page(
    door: Door, rows: Sequence[tuple[str, Mapping[str, str]]], own: OwnOffers | None = None
) -> Page:
    """Entries with these ids and fields.

    What is found in `own`, the reader's own offers, is removed from it: no one else could have
    signed that text.
    """
    entries, rejected = [], []
    own = {} if own is None else own
    for id_, fields in rows:
        try:
            entries.append(read_entry(door, id_, fields, own))
        except Untrusted as error:
            rejected.append(Rejected(id_, error))
    return Page(tuple(entries), tuple(rejected), rows[-1][0] if rows else "")


def read_entry(
    door: Door, id_: str, fields: Mapping[str, str], own: OwnOffers | None = None
) -> StreamEntry:
    """Raises Untrusted."""
    try:
        kind = EntryKind(fields.get("k", ""))
    except ValueError:
        raise Untrusted("is of an unknown kind") from None
    epoch = _number(fields, "e", least=1)
    if own and kind is EntryKind.OFFERED:
        chunk = own.pop((epoch, fields.get("d", "")), None)
        if chunk is not None:
            return StreamEntry(id_, epoch, ev.Offered(chunk), fields)
    return StreamEntry(id_, epoch, _fact(door, kind, epoch, fields), fields)


def _fact(door: Door, kind: EntryKind, epoch: int, fields: Mapping[str, str]) -> Fact:
    data = fields.get("d", "")
    if kind is EntryKind.REPORT:
        worker = fields.get("w", "")
        return Reported(worker, _report(door.unseal_text("report", data, worker)))
    if kind is EntryKind.OFFERED:
        return ev.Offered(unseal_offer(door, data, epoch))
    lease = LeaseRef(
        chunk=fields.get("c", ""),
        attempt=_number(fields, "a", least=1),
        fence=_number(fields, "f"),
        worker=fields.get("w", ""),
        slot=_number(fields, "s"),
        epoch=epoch,
    )
    match kind:
        case EntryKind.CLAIMED:
            return ev.Claimed(lease, _number(fields, "d"))
        case EntryKind.RECORDS:
            seq = _number(fields, "q", least=1)
            text = door.unseal_text("records", data, *_holder(lease), seq)
            return ev.Recorded(lease, seq, parse_records(text))
        case EntryKind.COMPLETED:
            seq = _number(fields, "q")
            return ev.Ended(lease, seq, door.unseal(ev.ChunkCompleted, data, *_holder(lease), seq))
        case EntryKind.RELEASED:
            seq = _number(fields, "q")
            return ev.Ended(lease, seq, door.unseal(ev.ChunkReleased, data, *_holder(lease), seq))
        case EntryKind.AVOIDED:
            return ev.Avoided(lease)
        case EntryKind.EXPIRED:
            return ev.Expired(lease)
        case _:
            assert_never(kind)


def _number(fields: Mapping[str, str], name: str, least: int = 0) -> int:
    text = fields.get(name, "0")
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
    if not is_number or int(text) < least:
        raise Untrusted(f"is malformed: {name} is not a number of at least {least}")
    return int(text)


def parse_records(text: str) -> tuple[Record, ...]:
    """A JSON list of records, as a test process sent them. Raises Untrusted."""
    if _ALL_PASSED.fullmatch(text):
        passed = tuple(
            TestRecord(int(i), Outcome.PASSED, float(seconds), measured=measured)
            for i, seconds, measured in _PASSED.findall(text)
        )
        if len(passed) <= _MOST_RECORDS:
            return passed
    rows = _plain(text)
    if not isinstance(rows, list) or not 0 < len(rows) <= _MOST_RECORDS:
        raise Untrusted("is malformed: its records are not a list")
    return tuple(_tagged(row, _RECORDS) for row in rows)


def _report(text: str) -> workers.WorkerReport:
    found: workers.WorkerReport = _tagged(_plain(text), _REPORTS)
    return found


def _plain(text: str) -> Any:
    try:
        return codec.loads(text)
    except codec.Malformed as error:
        raise Untrusted(f"is malformed: {error}") from None


def _tagged(row: Any, readers: Mapping[str, codec.Decode]) -> Any:
    kind = row.pop("kind", None) if isinstance(row, dict) else None
    read = readers.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise Untrusted("is malformed: a message of an unknown kind")
    try:
        return read(row)
    except codec.Malformed as error:
        raise Untrusted(f"is malformed: {error}") from None


def parse_end(verb: str, text: str) -> ev.ChunkEnd:
    """The end of a chunk as a spool has it. Raises Untrusted."""
    if verb == EntryKind.COMPLETED:
        return parse(ev.ChunkCompleted, text)
    return parse(ev.ChunkReleased, text)
