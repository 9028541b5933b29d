"""The store and the broker: ledger, registry, blobs, timings, queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dct_celery.core.model import Chunk

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
    #: Where its messages come from: "<id that lies at the broker>|<its URL, masked>"; empty while it does not know.
    broker: str = ""


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
        """Proves that the broker serves us. Raises BrokerRefused, BrokerUnavailable."""

    def identity(self) -> str:
        """Of the broker, see `WorkerInfo.broker`. Raises BrokerUnavailable."""

    def publish(self, message: Mapping[str, Any]) -> None: ...

    def purge(self) -> None:
        """Forgets the run's queue."""
