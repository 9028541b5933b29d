"""Answers of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dct_celery.core.model import Chunk
from dct_celery.core.run.leases import LeaseRef


class ClaimAnswer(StrEnum):
    #: The lease is given.
    OK = "ok"
    #: Another slot has it.
    HELD = "held"
    #: The attempt has ended.
    DONE = "done"
    #: The message is of an attempt that was overtaken.
    STALE = "stale"
    UNKNOWN = "unknown"
    NO_RUN = "no-run"
    CANCELLED = "cancelled"
    #: The chunk avoids this worker for a while.
    AVOID = "avoid"
    #: The offer was not written by the run's dispatcher.
    UNTRUSTED = "untrusted"


class WriteAnswer(StrEnum):
    """The answer to a slot's write under its lease."""

    OK = "ok"
    #: Written, and the slot should stop.
    CANCELLED = "cancelled"
    #: The lease is no longer the slot's: what it still has is void.
    LOST = "lost"
    #: The store does not know the run: it is over, or the store was wiped and the run will be put
    #: back.
    GONE = "gone"
    #: The run has a newer epoch, and nothing was written: what is not acknowledged must be sent
    #: again with that epoch.
    MOVED = "moved"


class AdoptAnswer(StrEnum):
    OK = "ok"
    #: Another dispatcher has it and is alive.
    HELD = "held"
    CLOSED = "closed"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a chunk, or why there is none."""

    answer: ClaimAnswer
    lease: LeaseRef | None = None
    chunk: Chunk | None = None


@dataclass(frozen=True, slots=True)
class Adoption:
    """The answer to a dispatcher that wants to take over a run."""

    answer: AdoptAnswer
    epoch: int = 0
    #: Incarnation of the store when the run was last put there.
    incarnation: str = ""
    #: HELD: until the lease of the present dispatcher ends, if it does not come back.
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class OutstandingChunk:
    """A chunk that a dispatcher counts on: on offer, or leased for `lease_ms` at a time."""

    chunk: Chunk
    lease: LeaseRef | None = None
    lease_ms: int = 0
