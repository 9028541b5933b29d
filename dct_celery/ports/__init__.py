"""What the shells need of the world, as Protocols. Every port has a real adapter, a fake, and one
contract suite for both.

Store time is milliseconds of the store's own clock; nobody else's clock decides anything.
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
    "TimingStore",
    "UserProcess",
    "WorkerInfo",
]
