"""Events (what happened to a run) and effects (what the shell is to do about it)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from dct_celery.core.codec import AtMost, Count, Seconds
from dct_celery.core.metrics import FixtureUse
from dct_celery.core.model import (
    MAX_KEPT,
    Artifact,
    Chunk,
    FixtureRef,
    FixtureVerdict,
    KeptFile,
    Verdict,
)
from dct_celery.core.run.leaks import LeakRecord
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import Record


class ReleaseReason(StrEnum):
    """Why a slot gave a chunk back unfinished."""

    #: The worker is stopping.
    DRAIN = "drain"
    #: The run was stopped.
    CANCELLED = "cancelled"
    #: The test process died.
    CRASH = "crash"
    #: A test or fixture exceeded its limit; its record says so.
    TIMEOUT = "timeout"
    #: The test process sent nothing for too long, outside any test or fixture.
    SILENCE = "silence"
    #: The database server made the results void.
    DATABASE = "database"
    #: The loader died, or the worker itself failed.
    LOADER = "loader"
    #: The slot has no databases; nothing was run.
    UNREADY = "unready"
    #: What runs before the chunk did not come to its end; nothing of the chunk was run.
    PREAMBLE = "preamble"
    #: The offer in the store was not written by the run's dispatcher; nothing was run.
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class ChunkCompleted:
    """A slot's report at the end of a chunk that ran to its end."""

    busy_seconds: Seconds = 0.0
    #: Class -> seconds of its fixtures.
    class_seconds: Mapping[str, Seconds] = field(default_factory=dict)
    #: Indices that did not run because the process cannot go on; they run elsewhere.
    left: tuple[Count, ...] = ()
    stopped: Literal["", "failfast", "aborted"] = ""
    leaks: tuple[LeakRecord, ...] = ()
    #: What is new in the use of databases: see core.databases.usage.
    databases: Mapping[str, float] = field(default_factory=dict)
    #: Process id of its test process, which is how chunks that shared one are known; 0: not known.
    process: Count = 0
    #: That goes on, and has fixtures of the session to tear down, see `core.model.END_OF_SESSION`.
    session: bool = False
    #: What was measured, where something was; None also for data that were too large or are lost.
    coverage: Artifact | None = None
    #: What its tests have written and is to come home, and how many such files were left out.
    files: Annotated[tuple[KeptFile, ...], AtMost(MAX_KEPT)] = ()
    files_left: Count = 0
    #: What its fixtures of classes, modules and the session took.
    fixtures: tuple[FixtureUse, ...] = ()


@dataclass(frozen=True, slots=True)
class ChunkReleased:
    """A slot's report when it gives a chunk back."""

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
    process: Count = 0
    #: Of the classes that had ended.
    coverage: Artifact | None = None

    @property
    def in_tear_down(self) -> bool:
        return self.fixture is not None and not self.fixture.sets_up


ChunkEnd = ChunkCompleted | ChunkReleased


@dataclass(frozen=True, slots=True)
class Offered:
    """A chunk became claimable: the echo of an offer, and all that a replay knows of the plan."""

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
    """The chunk ran to its end, or its slot gave it back."""

    lease: LeaseRef
    #: Sequence number of the last record before it.
    seq: int
    end: ChunkEnd


@dataclass(frozen=True, slots=True)
class Avoided:
    """The worker that the chunk avoids took its message, and left the chunk to others."""

    lease: LeaseRef


@dataclass(frozen=True, slots=True)
class Expired:
    """The lease ran out on the store's clock: slot, worker or host is gone or cut off."""

    lease: LeaseRef


@dataclass(frozen=True, slots=True)
class SlotsChanged:
    """How many slots of the pool can take chunks of this run, now or soon; `ready` of them now."""

    slots: int
    ready: int
    #: Workers that these ready slots belong to.
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time went by. Seconds on the dispatcher's monotonic clock."""

    now: float
    #: Events are waiting to be handled: a slot that seems idle may be busy.
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run is to end early: interrupt, time limit, project error, no workers."""

    reason: str
    exit_code: int
    #: It counts although every entry has its verdict.
    late: bool = False


Event = Offered | Claimed | Recorded | Ended | Avoided | Expired | SlotsChanged | Ticked | Stopped


@dataclass(frozen=True, slots=True)
class Offer:
    """Make the chunk claimable and publish its message."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Republish:
    """Publish the message of a chunk again: no slot claimed it although one is idle."""

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
    """Show the user a message that is not a verdict."""

    text: str


Effect = Offer | Republish | Judge | JudgeFixture | Cancel | Warn
