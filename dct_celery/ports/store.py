"""The store and the broker: ledger, registry, blobs, timings, queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dct_celery.core.model import Chunk
from dct_celery.core.run.events import ChunkEnd
from dct_celery.core.run.leases import LeaseRef
from dct_celery.protocol.leases import Adoption, Claim, OutstandingChunk, WriteAnswer
from dct_celery.protocol.runs import Announcement, ManifestSummary, RunSpec, RunState
from dct_celery.protocol.stream import Page, StreamEntry
from dct_celery.protocol.summary import RunSummary
from dct_celery.protocol.workers import WorkerInfo, WorkerReport

#: Milliseconds between two reaps of a run, or two looks at a registry, from which on their clock is
#: held to have stood still.
STALL_MS = 2000
#: Milliseconds without a reap after which another dispatcher may adopt a run unasked, and after
#: which workers may close it.
DISPATCHER_LEASE_MS = 10_000
ABANDONED_MS = 60_000
#: Milliseconds for which a chunk stays closed to the worker that it had better not run on; then
#: anybody is better than nobody.
AVOID_MS = 10_000
#: Seconds for which the store keeps a run whose dispatcher does not prolong it.
RUN_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True)
class RunContents:
    """What a dispatcher puts back into a store that has lost the run, besides chunks. `cancelled`:
    why it is to stop, or None.
    """

    spec: RunSpec
    manifest: ManifestSummary | None = None
    cancelled: str | None = None


class Ledger(Protocol):
    """The truth about one run's chunks and leases. Every write of a slot carries its lease and is
    refused when stale.

    Messages are signed and verified in here. What is not signed with the run's key raises
    Untrusted, or, where it is one of many, is passed over and told. What a dispatcher calls raises
    Superseded once another one has adopted the run.
    """

    def open_run(self, dispatcher: str, spec: RunSpec, ttl_seconds: int) -> bool:
        """Opens the run for this dispatcher; False when the run id is taken."""

    def spec(self) -> RunSpec | None:
        """None when there is no such run. Raises Untrusted, also for one that has expired or is
        another run's.
        """

    def publish_manifest(self, manifest: ManifestSummary) -> None:
        """Makes the manifest summary known; workers compare theirs with it."""

    def manifest(self) -> ManifestSummary | None:
        """Raises Untrusted."""

    def publish_summary(self, summary: RunSummary) -> None:
        """Keeps the view of the run for those who look at it; a run that was put back has none at
        first.
        """

    def summary(self) -> RunSummary | None:
        """Raises Untrusted."""

    def publish_head(self, head: bytes) -> None:
        """Keeps what another dispatcher needs to go on with the run."""

    def head(self) -> bytes | None: ...

    def commit(
        self, offers: Sequence[Chunk] = (), acknowledged: Mapping[str, int] | None = None
    ) -> None:
        """What a round of the dispatcher has to write, in one round trip: makes the chunks
        claimable, with an `offered` event each, and says how far attempts are journalled (keys are
        "chunk.attempt"). Doing it again changes nothing.
        """

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        """Takes the lease. Duplicates lose here, and for AVOID_MS the worker that the chunk avoids:
        then its message is used up, which the stream tells ("avoided").
        """

    def renew(self, lease: LeaseRef, lease_ms: int) -> WriteAnswer:
        """In whatever epoch; never MOVED."""

    def append(self, lease: LeaseRef, seq: int, records: str, lease_ms: int) -> WriteAnswer:
        """Adds records (a JSON list, the last of them numbered `seq`) and renews."""

    def end(self, lease: LeaseRef, seq: int, end: ChunkEnd) -> WriteAnswer:
        """Ends the lease: the chunk is done, or is given back unfinished. Never CANCELLED."""

    def reap(self) -> list[str]:
        """Ends every lease that ran out, with an `expired` event each; the ids of those chunks. To
        be called often.

        When the last reap is more than STALL_MS ago, the store may have taken no writes in between:
        every deadline moves on by that time first, but to no more than a whole lease from now. So a
        dispatcher that was away itself learns of a dead holder at most one lease after its return.
        """

    def intact(self, spec: RunSpec, manifest: ManifestSummary | None) -> bool:
        """What workers read of the run is what its dispatcher has written."""

    def fences(self, chunks: Sequence[str]) -> list[int | None]:
        """What the store holds of each chunk: 0 for one that is on offer, the fence of its lease,
        None for neither.
        """

    def tell(self, worker: str, report: WorkerReport) -> None:
        """A `report` event: what a worker says of the run as a whole."""

    def read(self, after: str, *, block_ms: int, count: int = 500) -> Page:
        """Entries after the given id ("0" for all), waiting at most block_ms for the first."""

    def acknowledged(self, keys: Sequence[str]) -> list[int]:
        """Position journalled for each key, 0 for none."""

    def epoch(self) -> int:
        """How often the run was put into the store; 0 when the store knows no such run."""

    def incarnation(self) -> str:
        """Another text after each start of the store and after each failover; empty where the store
        does not tell.
        """

    def silence(self) -> float:
        """Seconds since the last reap, on the store's clock: since the dispatcher was last known to
        be alive.
        """

    def adopt(self, dispatcher: str, *, dead: bool) -> Adoption:
        """Makes this one the dispatcher of the run, unless the one before may be alive: it has
        DISPATCHER_LEASE_MS from its last reap. `dead`: the caller knows that it is.
        """

    def reopen(
        self,
        dispatcher: str,
        epoch: int,
        run: RunContents,
        outstanding: Sequence[OutstandingChunk],
        acknowledged: Mapping[str, int],
    ) -> bool:
        """Puts the run back under a new epoch: its fields, chunks, leases, acknowledgements; no
        stream. False when the run has another owner.
        """

    def restore(self, entries: Iterable[StreamEntry]) -> None:
        """Adds entries of earlier epochs to the stream, for who replays the run from the store
        alone.
        """

    def abandon(self) -> bool:
        """Closes the run if its dispatcher has not reaped for ABANDONED_MS; True when this call did
        it.
        """

    def cancel(self, reason: str) -> None:
        """Slots learn of it at their next renewal."""

    def state(self) -> RunState: ...

    def reason(self) -> str:
        """Why the run was cancelled; empty where it was not, or by nobody who has the key."""

    def refused(self) -> int:
        """Writes with a stale fence that were turned away so far."""

    def extend(self, ttl_seconds: int) -> None:
        """Keeps the run's keys alive."""

    def close(self) -> None:
        """Ends the run: nothing can be claimed, keys vanish soon."""


class Registry(Protocol):
    """Who is there: workers of a pool and runs that want them.

    Everybody who beats or looks again and again tends it. When the last tending was more than
    STALL_MS ago, the store may have taken no writes in between: every life goes on by that time,
    but to no more than a whole horizon from now. While the store refuses writes, nobody ends. A
    registry that does not tend is for a single look: it shows who is alive by the clock alone.

    Entries are signed, and expire by themselves: whoever has the store's password alone can neither
    add one nor keep one alive.
    """

    def announce(self, run: str, nonce: str, horizon_seconds: float, epoch: int = 1) -> None:
        """The run is alive for so long from now, on the store's clock."""

    def withdraw(self, run: str) -> None: ...

    def active_runs(self) -> dict[str, Announced]:
        """Run id -> what its dispatcher says."""

    def open_runs(self, turn_seconds: float) -> list[str]:
        """Runs that the store holds and nobody has closed, of every pool. Workers take turns: one
        of a pool gets an answer in `turn_seconds`, the others an empty list.
        """

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        """The worker is alive for so long from now."""

    def leave(self, name: str) -> None: ...

    def workers(self) -> list[WorkerInfo]:
        """By name; with `foreign` set for those who have no key of ours."""

    def complaints(self) -> list[str]:
        """A line for each new kind of entry that was passed over since the last call."""


@dataclass(frozen=True, slots=True)
class Announced:
    """An announcement that was verified, and the id of the key that it was signed with."""

    announcement: Announcement
    key_id: str

    @property
    def epoch(self) -> int:
        return self.announcement.epoch

    def renews(self, before: Announced) -> bool:
        """The run's dispatcher has said it later than the one before: it lives. The same text again
        may be anybody's.
        """
        return (self.epoch, self.announcement.expires_ms) > (
            before.epoch,
            before.announcement.expires_ms,
        )


class BlobStore(Protocol):
    """Content-addressed files, compressed."""

    def missing(self, digests: Sequence[str]) -> set[str]:
        """Those not in the store; the others are kept alive."""

    def put(self, blobs: Iterable[tuple[str, bytes]], seconds: int = ...) -> None:
        """Kept for so long, a week unless it is said."""

    def drop(self, digests: Iterable[str]) -> None:
        """They have been fetched, and are needed by no one else."""

    def get(self, sizes: Mapping[str, int]) -> dict[str, bytes]:
        """What is there of the asked: digest -> the size in bytes that it has at most. Every
        content is proven by its digest. One that is damaged or larger is as if it were missing, is
        dropped from the store, and never comes into memory as a whole.
        """

    def want(self, tree: str, digests: Iterable[str]) -> None:
        """Asks the dispatcher of this tree for blobs that are missing."""

    def wanted(self, tree: str) -> set[str]:
        """What was asked for since the last call. Some may have come meanwhile, and some may never
        have been part of the tree.
        """


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

    def publish(self, *texts: str) -> None:
        """Signed ChunkHints, in one round trip where the broker's protocol allows it."""

    def purge(self) -> None:
        """Forgets the run's queue."""
