"""What the ledger answers."""

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
    #: This worker should leave the chunk to others for a while.
    AVOID = "avoid"
    #: What is on offer was not put there by the run's dispatcher.
    UNTRUSTED = "untrusted"


class WriteAnswer(StrEnum):
    """What a slot's write under its lease is answered."""

    OK = "ok"
    #: It is done, and the slot should stop.
    CANCELLED = "cancelled"
    #: The lease is another's or nobody's: what the slot still has is void.
    LOST = "lost"
    #: The store knows no such run: it is over, or the store was wiped and will be told again.
    GONE = "gone"
    #: The run has a newer epoch, and nothing was written: what is not acknowledged has to be sent
    #: again, with that.
    MOVED = "moved"


class AdoptAnswer(StrEnum):
    OK = "ok"
    #: By a dispatcher that is alive.
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
    """What became of the wish to be a run's dispatcher."""

    answer: AdoptAnswer
    epoch: int = 0
    #: Of the store when the run was last put there.
    incarnation: str = ""
    #: HELD: until the lease of the dispatcher before ends, if it does not come back.
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class OutstandingChunk:
    """A chunk that a dispatcher counts on: on offer, or leased for `lease_ms` at a time."""

    chunk: Chunk
    lease: LeaseRef | None = None
    lease_ms: int = 0
