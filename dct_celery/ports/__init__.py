"""The Protocols that shells are written against.

`store` is the ledger of a run, the registry of the pool, blobs, timings and the chunk queue;
`databases` one database server with its marks, templates and clones; `processes` a process of the
project; `clock` the time of this machine; `reporting` what a run reports as it goes on. Every port
has a real adapter, a fake, and one contract suite for both.

Store time is milliseconds of the store's own clock; no other clock decides anything (I5). Ledger
writes carry a lease and are refused when it is stale (I2), and nothing is deleted before it is
acknowledged one step further on (I3).
"""

from __future__ import annotations

from dct_celery.ports.clock import Clock, Signal
from dct_celery.ports.databases import (
    DatabasePolicy,
    DatabaseServer,
    DatabaseSpec,
    DatabaseStats,
    LivenessLock,
)
from dct_celery.ports.processes import UserProcess
from dct_celery.ports.store import (
    ABANDONED_MS,
    AVOID_MS,
    DISPATCHER_LEASE_MS,
    RUN_SECONDS,
    STALL_MS,
    Announced,
    BlobStore,
    ChunkQueue,
    Ledger,
    Registry,
    RunContents,
    Survey,
    TimingStore,
)
from dct_celery.protocol.workers import WorkerInfo

__all__ = [
    "ABANDONED_MS",
    "AVOID_MS",
    "DISPATCHER_LEASE_MS",
    "RUN_SECONDS",
    "STALL_MS",
    "Announced",
    "BlobStore",
    "ChunkQueue",
    "Clock",
    "DatabasePolicy",
    "DatabaseServer",
    "DatabaseSpec",
    "DatabaseStats",
    "Ledger",
    "LivenessLock",
    "Registry",
    "RunContents",
    "Signal",
    "Survey",
    "TimingStore",
    "UserProcess",
    "WorkerInfo",
]
