"""Entries of a run's stream, field by field, as a store would have them."""

from __future__ import annotations

from dct_celery.core.model import Chunk
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import Record
from dct_celery.protocol import stream
from dct_celery.protocol.door import Door
from dct_celery.protocol.workers import WorkerReport
from tests.support.runs import as_sent

Fields = dict[str, str]


def offered(door: Door, chunk: Chunk, epoch: int = 1) -> Fields:
    return {
        "k": "offered",
        "e": str(epoch),
        "c": chunk.id,
        "a": str(chunk.attempt),
        "d": stream.offer(door, chunk, epoch),
    }


def claimed(lease: LeaseRef, lease_ms: int = 5000) -> Fields:
    return {**_of("claimed", lease), "d": str(lease_ms)}


def recorded(door: Door, lease: LeaseRef, seq: int, *records: Record) -> Fields:
    return {
        **_of("records", lease),
        "q": str(seq),
        "d": stream.records(door, lease, seq, as_sent(*records)),
    }


def ended(door: Door, lease: LeaseRef, seq: int, end: ev.ChunkEnd) -> Fields:
    kind = "completed" if isinstance(end, ev.ChunkCompleted) else "released"
    return {**_of(kind, lease), "q": str(seq), "d": stream.chunk_end(door, lease, seq, end)}


def expired(lease: LeaseRef) -> Fields:
    return _of("expired", lease)


def reported(door: Door, worker: str, report: WorkerReport, epoch: int = 1) -> Fields:
    return {"k": "report", "e": str(epoch), "w": worker, "d": stream.report(door, worker, report)}


def _of(kind: str, lease: LeaseRef) -> Fields:
    return {
        "k": kind,
        "e": str(lease.epoch),
        "c": lease.chunk,
        "a": str(lease.attempt),
        "f": str(lease.fence),
        "w": lease.worker,
        "s": str(lease.slot),
    }
