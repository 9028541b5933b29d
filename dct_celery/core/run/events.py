"""What happens to a run (events: past facts) and what its shell is to do about it (effects:
imperatives).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from dct_celery.core.codec import Count, Seconds
from dct_celery.core.model import Chunk, FixtureRef, FixtureVerdict, Verdict
from dct_celery.core.run.leaks import LeakRecord
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import Record


class ReleaseReason(StrEnum):
    """Why a slot gave a chunk back unfinished."""

    #: The worker was told to stop.
    DRAIN = "drain"
    #: The run was stopped.
    CANCELLED = "cancelled"
    #: The test process died.
    CRASH = "crash"
    #: A test or fixture took longer than it may; its record says so.
    TIMEOUT = "timeout"
    #: The test process said nothing for too long, outside any test or fixture.
    SILENCE = "silence"
    #: The database server made the results void.
    DATABASE = "database"
    #: The loader died, or the worker itself is at fault.
    LOADER = "loader"
    #: The slot has no databases; nothing was run.
    UNREADY = "unready"
    #: What the store has on offer was not put there by the run's dispatcher; nothing was run.
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class ChunkCompleted:
    """What a slot says at the end of a chunk that ran to its end. Seconds of class fixtures by
    class.
    """

    busy_seconds: Seconds = 0.0
    class_seconds: Mapping[str, Seconds] = field(default_factory=dict)
    #: Indices that were not run because the process may not go on; they go elsewhere.
    left: tuple[Count, ...] = ()
    stopped: Literal["", "failfast", "aborted"] = ""
    leaks: tuple[LeakRecord, ...] = ()
    #: What is new in the use of databases: see core.databases.usage.
    databases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChunkReleased:
    """What a slot says when it gives a chunk back."""

    why: ReleaseReason
    #: One line: "signal 11", "no room on the server".
    cause: str = ""
    #: Stack dump and last output.
    detail: str = ""
    #: The test that was running, where one was.
    index: Count | None = None
    #: The fixture that was running, where one was. Then `index` is the test after it.
    fixture: FixtureRef | None = None
    busy_seconds: Seconds = 0.0
    databases: Mapping[str, float] = field(default_factory=dict)


ChunkEnd = ChunkCompleted | ChunkReleased


@dataclass(frozen=True, slots=True)
class Offered:
    """A chunk was made claimable: the echo of an offer, and all that a replay knows of the plan."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Claimed:
    """A slot took the lease, for `lease_ms` at a time."""

    lease: LeaseRef
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """Records of finished tests and fixtures, in the order in which they ended."""

    lease: LeaseRef
    #: Sequence number of the last one within the attempt, counted from 1.
    seq: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The chunk came to its explicit end, or the slot gave it back."""

    lease: LeaseRef
    #: Sequence number of the last record before it.
    seq: int
    end: ChunkEnd


@dataclass(frozen=True, slots=True)
class Avoided:
    """The worker that the chunk had better not run on took its message, and left the chunk to
    others.
    """

    lease: LeaseRef


@dataclass(frozen=True, slots=True)
class Expired:
    """The lease ran out on the store's clock: slot, worker or host is gone or cut off."""

    lease: LeaseRef


@dataclass(frozen=True, slots=True)
class SlotsChanged:
    """So many slots of the pool can or will soon take chunks of this run; `ready` of them can now."""

    slots: int
    ready: int
    #: Workers that these ready slots belong to.
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time went by. Seconds on the dispatcher's monotonic clock."""

    now: float
    #: More has happened than the machine has been told: what it holds for idle may long be busy.
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run is to end early: interrupt, time limit, project error, no workers."""

    reason: str
    exit_code: int
    #: It counts though every entry has its verdict.
    late: bool = False


Event = Offered | Claimed | Recorded | Ended | Avoided | Expired | SlotsChanged | Ticked | Stopped


@dataclass(frozen=True, slots=True)
class Offer:
    """Make the chunk claimable and publish its message."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Republish:
    """Publish the message of a chunk again: nobody claimed it though a slot is idle."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Judge:
    """An entry has its verdict."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class JudgeFixture:
    """A fixture failed or skipped, for the first time in this run."""

    fixture: FixtureVerdict


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop every slot."""

    reason: str


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the user something that is no verdict."""

    text: str


Effect = Offer | Republish | Judge | JudgeFixture | Cancel | Warn
