"""What the shells need of the world, as Protocols. Every port has a real adapter, a fake, and one contract suite for both.

Store time is milliseconds of the store's own clock; nobody else's clock decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dct_celery.core.marks import Found, Mark
from dct_celery.core.model import Chunk
from dct_celery.wire import messages

#: Milliseconds between two reaps of a run, or two looks at a registry, from which on their clock is held to have stood still.
STALL_MS = 2000
#: Milliseconds without a reap after which another dispatcher may adopt a run unasked, and after which workers may close it.
DISPATCHER_LEASE_MS = 10_000
ABANDONED_MS = 60_000
#: Milliseconds for which a chunk stays closed to the worker that it had better not run on; then anybody is better than nobody.
AVOID_MS = 10_000


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a chunk, or why there is none."""

    #: ok | held | done | stale | unknown | no-run | cancelled | avoid
    status: str
    fence: int = 0
    chunk: Chunk | None = None
    epoch: int = 1

    @property
    def granted(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True, slots=True)
class Held:
    """Who writes: the holder of one lease on one attempt of a chunk, in the epoch of the run that it knows."""

    chunk: str
    attempt: int
    fence: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A chunk that a dispatcher counts on: on offer, or leased (`fence` > 0) to `worker`, `slot` for `lease_ms` at a time."""

    chunk: Chunk
    fence: int = 0
    worker: str = ""
    slot: int = 0
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class Adoption:
    """What became of the wish to be a run's dispatcher."""

    #: ok | held (by a dispatcher that was alive `wait_ms` before its lease ends) | closed | none (no such run)
    status: str
    epoch: int = 0
    #: Of the store when the run was last put there.
    incarnation: str = ""
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry of a run's event stream."""

    id: str
    #: offered | claimed | records | completed | released | expired | avoided | host
    kind: str
    chunk: str
    attempt: int
    fence: int
    worker: str
    slot: int
    #: Sequence number of the last record in `data`, within (chunk, attempt).
    seq: int
    data: Any
    epoch: int = 1

    @property
    def position(self) -> int:
        """How far its attempt is journalled with this entry; the end of an attempt counts as one more record."""
        return self.seq + (self.kind in ("completed", "released"))


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as the registry knows it."""

    name: str
    host: str
    slots: int
    version: str
    protocol: int
    #: First 12 hex digits of SHA-256 of the signing key.
    key_id: str
    #: run id -> preparing | ready | refused
    runs: dict[str, str] = field(default_factory=dict)
    busy: int = 0
    #: Why it claims nothing for now; empty when it does.
    trouble: str = ""
    #: Its machine's Unix time at this beat, 0 where it does not say; for people alone, nothing is decided by it.
    wall: float = 0.0
    #: Its surroundings, see `worker.about`.
    about: dict[str, str] = field(default_factory=dict)


class Ledger(Protocol):
    """The truth about one run's chunks and leases. Every write of a slot carries its fence and is refused when stale.

    What a slot's write is answered
        ok         it is done
        cancelled  it is done, and the slot should stop
        lost       the lease is another's or nobody's: what the slot still has is void
        gone       the store knows no such run: it is over, or the store was wiped and will be told again
        moved      the run has a newer epoch, and nothing was written: what is not acknowledged has to be sent again, with that
    What a dispatcher calls raises Superseded once another one has adopted the run.
    """

    def open_run(self, owner: str, spec: str, ttl_seconds: int) -> bool:
        """Opens the run for `owner`; False when the run id is taken."""

    def spec(self) -> str | None:
        """The signed run specification, or None when there is no such run."""

    def publish_manifest(self, manifest: str) -> None:
        """Makes the signed manifest summary known; workers compare theirs with it."""

    def manifest(self) -> str | None: ...

    def publish_head(self, head: bytes) -> None:
        """Keeps what another dispatcher needs to go on with the run."""

    def head(self) -> bytes | None: ...

    def offer(self, chunk: Chunk) -> None:
        """Makes a chunk claimable, with an `offered` event."""

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        """Takes the lease. Duplicates lose here, and for AVOID_MS the worker that the chunk avoids: then its message is used up,
        which the stream tells ("avoided")."""

    def renew(self, held: Held, lease_ms: int) -> str:
        """In whatever epoch. ok | cancelled | lost | gone"""

    def append(self, held: Held, seq: int, records: str, lease_ms: int) -> str:
        """Adds records (a JSON list, the last of them numbered `seq`) and renews. ok | cancelled | lost | gone | moved"""

    def complete(self, held: Held, seq: int, summary: str) -> str:
        """Ends the lease with the chunk done. ok | lost | gone | moved"""

    def release(self, held: Held, seq: int, reason: str) -> str:
        """Gives the chunk back unfinished; `reason` is JSON for the dispatcher. ok | lost | gone | moved"""

    def reap(self) -> list[str]:
        """Ends every lease that ran out, with an `expired` event each; the ids of those chunks. To be called often.

        When the last reap is more than STALL_MS ago, the store may have taken no writes in between: every deadline moves on by
        that time first, but to no more than a whole lease from now. So a dispatcher that was away itself learns of a dead
        holder at most one lease after its return.
        """

    def tell(self, worker: str, message: Mapping[str, Any]) -> None:
        """A `host` event: a worker's word about the run as a whole (ready, refused, failed)."""

    def read(self, after: str, *, block_ms: int, count: int = 500) -> list[StreamEntry]:
        """Entries after the given id ("0" for all), waiting at most block_ms for the first."""

    def acknowledge(self, positions: Mapping[str, int]) -> None:
        """Journalled up to these positions; keys are "chunk.attempt"."""

    def acknowledged(self, keys: Sequence[str]) -> list[int]:
        """Position journalled for each key, 0 for none."""

    def epoch(self) -> int:
        """How often the run was put into the store; 0 when the store knows no such run."""

    def incarnation(self) -> str:
        """Another text after each start of the store and after each failover; empty where the store does not tell."""

    def silence(self) -> float:
        """Seconds since the last reap, on the store's clock: since the dispatcher was last known to be alive."""

    def adopt(self, owner: str, *, dead: bool) -> Adoption:
        """Makes `owner` the dispatcher of the run, unless the one before may be alive: it has DISPATCHER_LEASE_MS from its last
        reap. `dead`: the caller knows that it is."""

    def reopen(
        self,
        owner: str,
        epoch: int,
        fields: Mapping[str, str],
        standing: Sequence[Standing],
        acknowledged: Mapping[str, int],
    ) -> bool:
        """Puts the run back under a new epoch: `fields` (state, reason, spec, manifest), chunks, leases, acknowledgements; no
        stream. False when the run has another owner, or that epoch already."""

    def restore(self, entries: Iterable[StreamEntry]) -> None:
        """Adds entries of earlier epochs to the stream, for who replays the run from the store alone."""

    def abandon(self) -> bool:
        """Closes the run if its dispatcher has not reaped for ABANDONED_MS; True when this call did it."""

    def cancel(self, reason: str) -> None:
        """Slots learn of it at their next renewal."""

    def state(self) -> str:
        """open | cancelled | closed | none"""

    def reason(self) -> str:
        """Why the run was cancelled; empty where it was not."""

    def refused(self) -> int:
        """Writes with a stale fence that were turned away so far."""

    def extend(self, ttl_seconds: int) -> None:
        """Keeps the run's keys alive."""

    def close(self) -> None:
        """Ends the run: nothing can be claimed, keys vanish soon."""


class Registry(Protocol):
    """Who is there: workers of a pool and runs that want them.

    Everybody who beats or looks again and again tends it. When the last tending was more than STALL_MS ago, the store may have
    taken no writes in between: every life goes on by that time, but to no more than a whole horizon from now. While the store
    refuses writes, nobody ends. A registry that does not tend is for a single look: it shows who is alive by the clock alone.
    """

    def announce(self, run: str, horizon_seconds: float, epoch: int = 1) -> None:
        """The run is alive for so long from now, on the store's clock."""

    def withdraw(self, run: str) -> None: ...

    def active_runs(self) -> dict[str, int]:
        """Run id -> epoch."""

    def open_runs(self, turn_seconds: float) -> list[str]:
        """Runs that the store holds and nobody has closed, of every pool. Workers take turns: one of a pool gets an answer in
        `turn_seconds`, the others an empty list."""

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        """The worker is alive for so long from now."""

    def leave(self, name: str) -> None: ...

    def workers(self) -> list[WorkerInfo]: ...


class BlobStore(Protocol):
    """Content-addressed files, compressed."""

    def missing(self, digests: Sequence[str]) -> set[str]:
        """Those not in the store; the others are kept alive."""

    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None: ...

    def get(self, digests: Sequence[str]) -> dict[str, bytes]:
        """What is there of the asked."""


class TimingStore(Protocol):
    """Measured seconds per test of one project."""

    def load(self) -> dict[str, str]: ...

    def save(self, samples: Mapping[str, str]) -> None: ...


class ChunkQueue(Protocol):
    """Carries hints to slots. Messages may vanish or double."""

    def check(self) -> None:
        """Proves that the broker answers. Raises BrokerUnavailable."""

    def publish(self, message: Mapping[str, Any]) -> None: ...

    def purge(self) -> None:
        """Forgets the run's queue."""


@dataclass(frozen=True, slots=True)
class DatabaseSpec:
    """One test database of the selection, as the loader described it. `repr` hides the password."""

    alias: str
    vendor: str
    name: str
    host: str = ""
    port: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    in_memory: bool = False
    serialize: bool = False
    late_flush: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """All aliases of this database; a flush through one of them empties it for each."""
        return {self.alias, *self.aliases}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatabaseSpec:
        return cls(**{**data, "aliases": tuple(data["aliases"])})


@dataclass(frozen=True, slots=True)
class DatabasePolicy:
    """How a worker treats database servers. Times are seconds."""

    #: Statements after which, and age at which, a connection is replaced; 0 never.
    max_operations: int = 1000
    max_age: float = 3600.0
    #: A connection that was silent for longer is asked whether it still answers before it is used.
    health_check_seconds: float = 60.0
    #: Clones that one server makes at a time, over all workers; 0: what suits the vendor.
    clones_at_once: int = 0


@dataclass(slots=True)
class DatabaseStats:
    """What one adapter really did, for the run's report. Seconds are sums."""

    opened: int = 0
    reused: int = 0
    recycled: int = 0
    failed: int = 0
    statements: int = 0
    cloned: int = 0
    clone_seconds: float = 0.0
    healed: int = 0
    heal_seconds: float = 0.0
    adopted: int = 0
    dropped: int = 0


class SignOfLife(Protocol):
    """An owner's session on a database server: as long as it stands, nobody collects what the owner made.

    It ends with the process that holds it, however that dies; a server that does not hear of it for a minute ends it as well.
    Not for use by two threads at once.
    """

    def hold(self, template: str) -> None:
        """The template is not dropped while this sign stands."""

    def renew(self) -> None:
        """To be called every 10 s. After a loss (server restart) it comes back with all its holds. Raises DatabaseError."""

    def close(self) -> None: ...


class DatabaseServer(Protocol):
    """Templates and clones of one database server (or of one folder, for SQLite). Not for use by two threads at once.

    Names are checked against `core.names.OURS` by every method that writes: DatabaseError "... is not one of our databases".
    Server errors are DatabaseError with one line that names alias, server and mend.
    """

    #: Clones are visible on this host alone.
    local: bool
    #: "postgresql", "mysql" or "sqlite", and the server in words ("db.example:5432"), without secrets.
    vendor: str
    where: str
    stats: DatabaseStats

    def check(self) -> None:
        """Proves that the server answers, is not too old, and lets us do what we do. Raises DatabaseError with the mend."""

    def warnings(self) -> list[str]:
        """What `dct doctor` should say though it stops nothing: slow settings, a pooler in between."""

    def facts(self) -> dict[str, str]:
        """Versions, encodings and collations that are part of a template's key."""

    def capacity(self) -> int:
        """Connections that the server can still give us, reserved and used ones taken off."""

    def now(self) -> int:
        """Unix seconds on the server's clock."""

    def incarnation(self) -> str:
        """Another text after each start of the server. Raises DatabaseError while it does not answer."""

    def place(self, name: str) -> str:
        """What the test process is to be told for a database of this name: the name, or a path."""

    # -- marks and signs of life

    def find(self, name: str) -> Mark | None:
        """The mark of a database that is there and complete; None for absent, unmarked or half dropped ones."""

    def found(self, *, sizes: bool = False) -> list[Found]:
        """Every database whose name matches our pattern, marked or not."""

    def announce(self, name: str, mark: Mark) -> None:
        """Says that a database of this name is about to be made by somebody else's hand (Django's), so that it is ours
        from its first moment. On PostgreSQL its maker must give it `CONNECTION LIMIT core.names.born_limit(name)` instead."""

    def remark(self, name: str, mark: Mark) -> None:
        """Replaces the mark."""

    def sign_of_life(self, owner: str) -> SignOfLife: ...

    def alive(self, owners: Iterable[str]) -> set[str]:
        """Those of the owners whose sign of life stands."""

    def in_use(self, template: str) -> bool:
        """Somebody alive holds the template."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Held by one builder of this template at a time, over all workers. Ends with its holder."""

    def locked(self, name: str) -> bool:
        """Somebody holds the lock of that name."""

    # -- templates

    def seal(self, template: str, mark: Mark) -> None:
        """Declares a template finished, the mark last. Nothing connects to it any more."""

    def state(self, name: str) -> str:
        """Hash of everything a test could see: schema, rows, positions of sequences. Equal for a template's clones."""

    def export(self, name: str, file: Path) -> bool:
        """Writes what makes an equal database on an empty server; False where the means for it are missing."""

    def restore(self, file: Path, name: str, mark: Mark) -> None:
        """Makes a database of an exported file, not yet sealed. Raises DatabaseError; then nothing of that name is left."""

    # -- clones

    def clone(self, template: str, name: str, mark: Mark) -> None:
        """Copies a sealed template and verifies the copy. Raises CloneFailed; then nothing of that name is left."""

    def heal(self, name: str, template: str, fresh: str, mark: Mark) -> str:
        """Makes a used clone equal to the template again, proves it, and returns its name from now on: `fresh` where the
        server can rename, else `name`. Nobody may be connected; who is, is thrown out. Raises CloneFailed; then nothing
        of either name is left."""

    def heals_cheaper(self, template: str) -> bool:
        """By what was measured so far (or is known of the vendor): healing beats cloning this template."""

    def adopt(self, template: str, fresh: str, mark: Mark) -> str | None:
        """Takes an idle clone of the template, which nobody else gets then, and proves it equal to the template. Its name from
        now on (see `heal`), or None when there is none that is equal; one that is not is dropped."""

    def healthy(self, name: str) -> bool:
        """The server answers, and the database is there."""

    def shape(self, name: str) -> str:
        """Cheap hash of the catalogs: another one after DDL or TRUNCATE in this database. Raises DatabaseError."""

    def discard(self, template: str) -> None:
        """Drops what a failed build left of a template, under its lock: announced or born, but perhaps without a mark.
        Raises DatabaseError for a database that is neither."""

    def drop(self, name: str) -> None:
        """Drops a database of ours, sessions and all; absent is fine. Raises DatabaseError for one that is not ours."""

    def close(self) -> None: ...


class UserProcess(Protocol):
    """A collect process or a loader."""

    @property
    def pid(self) -> int: ...

    def receive(self, timeout: float | None = None) -> messages.Message | None:
        """The next message, None when `timeout` seconds pass. Raises ProcessDied or ProtocolError."""

    def alive(self) -> bool: ...

    def show_stacks(self) -> None:
        """Has it write the stacks of its threads into its log, and gives it a moment for that."""

    def kill(self) -> None:
        """Ends it and its forks at once; safe from any thread."""

    def close(self, grace: float = 5.0) -> None:
        """Closes the channel, which ends it, and kills what is left after `grace` seconds."""
