"""What happens to a run (events: past facts) and what its shell is to do about it (effects: imperatives)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dct_celery.core.model import Chunk, FixtureVerdict, Verdict


@dataclass(frozen=True, slots=True)
class Lease:
    """Who speaks: the holder of one lease on one attempt of a chunk."""

    chunk: str
    attempt: int
    fence: int
    worker: str
    slot: int


@dataclass(frozen=True, slots=True)
class Offered:
    """A chunk was made claimable: the echo of an offer, and all that a replay knows of the plan."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Claimed:
    """A slot took the lease, for `lease_ms` at a time."""

    lease: Lease
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """Records of finished tests and fixtures: wire messages as dicts, `kind` included."""

    lease: Lease
    #: Sequence number of the last one within the attempt, counted from 1.
    seq: int
    records: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Completed:
    """The chunk came to its explicit end."""

    lease: Lease
    busy_seconds: float
    class_seconds: dict[str, float] = field(default_factory=dict)
    left: tuple[int, ...] = ()
    stopped: str = ""
    #: What its tests left behind: see worker.leaks.
    leaks: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Released:
    """The slot gave the chunk back unfinished.

    `why`: drain, cancelled, crash, timeout, silence, database, loader, unready (no databases, nothing was run).
    `index`: the test that was running, where one was.
    """

    lease: Lease
    why: str
    index: int | None = None
    #: One line: "signal 11", "no room on the server".
    cause: str = ""
    #: Stack dump and last output.
    detail: str = ""
    busy_seconds: float = 0.0
    #: The class or module fixture that was running, where one was: "setUpClass (a.T)". Then `index` is the test after it.
    fixture: str = ""


@dataclass(frozen=True, slots=True)
class Avoided:
    """The worker that the chunk had better not run on took its message, and left the chunk to others."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Expired:
    """The lease ran out on the store's clock: slot, worker or host is gone or cut off."""

    lease: Lease


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


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run is to end early: interrupt, time limit, project error, no workers."""

    reason: str
    exit_code: int
    #: It counts though every entry has its verdict.
    late: bool = False


Event = Offered | Claimed | Recorded | Completed | Released | Avoided | Expired | SlotsChanged | Ticked | Stopped


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
