"""The store and the broker: ledger, registry, blobs, timings, queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dct_celery.core.model import Chunk
from dct_celery.core.run.events import ChunkEnd
from dct_celery.core.run.leases import LeaseRef
from dct_celery.protocol.leases import Adoption, Claim, OutstandingChunk, WriteAnswer
from dct_celery.protocol.runs import Announcement, ManifestSummary, RunSpec, RunState
from dct_celery.protocol.stream import Page, StreamEntry
from dct_celery.protocol.workers import WorkerInfo, WorkerReport

if TYPE_CHECKING:
    from dct_celery.protocol.summary import RunSummary

#: Milliseconds between two reaps of a run, or two reads of a registry, after which the store's
#: clock counts as having stood still.
STALL_MS = 2000
#: Milliseconds without a reap after which another dispatcher may adopt a run.
DISPATCHER_LEASE_MS = 10_000
#: Milliseconds without a reap after which workers may close a run.
ABANDONED_MS = 60_000
#: Milliseconds for which the avoided worker is refused a chunk; after that, any worker may run it.
AVOID_MS = 10_000
#: Seconds for which the store keeps a run unless its dispatcher extends it.
RUN_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True)
class RunContents:
    """What a dispatcher puts back into a store that has lost the run, besides chunks.

    `cancelled`: why the run is to stop, or None.
    """

    spec: RunSpec
    manifest: ManifestSummary | None = None
    cancelled: str | None = None


class Ledger(Protocol):
    """The truth about one run's chunks and leases.

    Every write of a slot carries its lease and is refused when stale. Messages are signed and
    verified in here: one that is not signed with the run's key raises Untrusted or, if it is one of
    many, is ignored and reported. Methods for dispatchers raise Superseded once another one has
    adopted the run.
    """

    def open_run(self, dispatcher: str, spec: RunSpec, ttl_seconds: int) -> bool:
        """Opens the run for this dispatcher; False when the run id is taken."""

    def spec(self) -> RunSpec | None:
        """None if there is no such run. Raises Untrusted, also for an expired or another run's."""

    def publish_manifest(self, manifest: ManifestSummary) -> None:
        """Publishes the manifest summary; workers compare theirs with it."""

    def manifest(self) -> ManifestSummary | None:
        """Raises Untrusted."""

    def publish_summary(self, summary: RunSummary) -> None:
        """Keeps the view of the run for readers; a run that was put back has none at first."""

    def summary(self) -> RunSummary | None:
        """Raises Untrusted."""

    def publish_head(self, head: bytes) -> None:
        """Keeps what another dispatcher needs to continue the run."""

    def head(self) -> bytes | None: ...

    def commit(
        self,
        offers: Sequence[Chunk] = (),
        acknowledged: Mapping[str, int] | None = None,
        *,
        exhausted: bool = False,
    ) -> None:
        """Writes what one round of the dispatcher decided, in one round trip.

        Makes the chunks claimable, with an `offered` event each, and says how far attempts are
        journalled (keys are "chunk.attempt"). `exhausted`: nothing more is planned than what is on
        offer by then. Repeating it changes nothing.
        """

    def ending(self) -> bool:
        """Nothing is on offer, and nothing more is planned: a slot that holds no lease will
        hardly get another one.
        """

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        """Takes the lease.

        Duplicates are refused, and for AVOID_MS so is the worker that the chunk avoids: that uses
        up its message, which the stream reports ("avoided").
        """

    def renew(self, lease: LeaseRef, lease_ms: int) -> WriteAnswer:
        """Renews the lease, in whatever epoch; never MOVED."""

    def append(self, lease: LeaseRef, seq: int, records: str, lease_ms: int) -> WriteAnswer:
        """Adds records (a JSON list, the last of them numbered `seq`) and renews the lease."""

    def end(self, lease: LeaseRef, seq: int, end: ChunkEnd) -> WriteAnswer:
        """Ends the lease: the chunk is done, or is given back unfinished. Never CANCELLED."""

    def reap(self) -> list[str]:
        """Ends every lease that ran out, with an `expired` event each; returns their chunks' ids.

        To be called often. If the last reap is more than STALL_MS ago, the store may have refused
        writes in between: every deadline is first extended by that time, but to no more than a
        whole lease from now (I5). So a dispatcher that was away itself learns of a dead holder at
        most one lease after its return.
        """

    def poll(self) -> RunState:
        """`reap` and `state` in one round trip."""

    def survey(
        self, spec: RunSpec, manifest: ManifestSummary | None, chunks: Sequence[str]
    ) -> Survey:
        """What the store has of the run beside what its dispatcher has written, in one round
        trip.
        """

    def report(self, worker: str, report: WorkerReport) -> None:
        """Adds a `report` event: a worker's report about the run as a whole."""

    def read(self, after: str, *, block_ms: int, count: int = 500) -> Page:
        """Entries after the given id ("0" for all), waiting at most block_ms for the first."""

    def acknowledged(self, keys: Sequence[str]) -> list[int]:
        """Journalled position of each key, 0 for none."""

    def epoch(self) -> int:
        """How often the run was put into the store; 0 if the store does not know it."""

    def incarnation(self) -> str:
        """A text that changes with each start and failover of the store; empty if unknown."""

    def silence(self) -> float:
        """Seconds since the last reap, on the store's clock.

        The dispatcher was last known to be alive then.
        """

    def adopt(self, dispatcher: str, *, dead: bool) -> Adoption:
        """Makes this dispatcher the run's, unless the present one may be alive.

        That one has DISPATCHER_LEASE_MS from its last reap. `dead`: the caller knows that it is
        dead.
        """

    def reopen(
        self,
        dispatcher: str,
        epoch: int,
        run: RunContents,
        outstanding: Sequence[OutstandingChunk],
        acknowledged: Mapping[str, int],
    ) -> bool:
        """Puts the run back under a new epoch; False if the run has another owner.

        Writes its fields, chunks, leases and acknowledgements, but no stream.
        """

    def restore(self, entries: Iterable[StreamEntry]) -> None:
        """Adds entries of earlier epochs to the stream, for a replay from the store alone."""

    def abandon(self) -> bool:
        """Closes the run if its dispatcher has not reaped for ABANDONED_MS.

        Returns whether this call closed it.
        """

    def cancel(self, reason: str) -> None:
        """Cancels the run; slots learn of it at their next renewal."""

    def state(self) -> RunState: ...

    def reason(self) -> str:
        """Why the run was cancelled; empty if it was not, or not by a holder of the key."""

    def refused(self) -> int:
        """Number of writes that were refused because of a stale fence."""

    def extend(self, ttl_seconds: int) -> None:
        """Keeps the run's keys alive."""

    def close(self) -> None:
        """Ends the run: nothing can be claimed, and its keys expire soon."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the store has of a run."""

    #: See `Ledger.epoch` and `Ledger.incarnation`.
    epoch: int
    incarnation: str
    #: Specification and manifest, as workers read them, are the dispatcher's.
    intact: bool
    #: By chunk: 0 if it is on offer, the fence of its lease, None for neither.
    fences: dict[str, int | None]


class Registry(Protocol):
    """The workers of a pool, and the runs that want them.

    Every process that reads it regularly or sends heartbeats also maintains it. If the last
    maintenance was more than STALL_MS ago, the store may have refused writes in between: every
    lifetime is extended by that time, but to no more than a whole horizon from now. While the store
    refuses writes, no entry expires. A registry that does not maintain is for a single read: it
    shows who is alive by the clock alone.

    Entries are signed and expire by themselves: the store's password alone is not enough to add one
    or to keep one alive.
    """

    def announce(self, run: str, nonce: str, horizon_seconds: float, epoch: int = 1) -> None:
        """The run is alive for this long from now, on the store's clock."""

    def withdraw(self, run: str) -> None: ...

    def active_runs(self) -> dict[str, Announced]:
        """Run id -> the announcement of its dispatcher."""

    def open_runs(self, turn_seconds: float) -> list[str]:
        """Runs of every pool that the store holds and that are not closed.

        Workers take turns: one of a pool gets an answer per `turn_seconds`, the others an empty
        list.
        """

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        """The worker is alive for this long from now."""

    def leave(self, name: str) -> None: ...

    def workers(self) -> list[WorkerInfo]:
        """By name; `foreign` is set for those that do not sign with a key of ours."""

    def complaints(self) -> list[str]:
        """A line for each new kind of entry that was ignored since the last call."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A verified announcement, and the id of the key that signed it."""

    announcement: Announcement
    key_id: str

    @property
    def epoch(self) -> int:
        return self.announcement.epoch

    def renews(self, before: Announced) -> bool:
        """The dispatcher wrote this later than `before`: it is alive.

        The same text again may be a copy by anyone.
        """
        return (self.epoch, self.announcement.expires_ms) > (
            before.epoch,
            before.announcement.expires_ms,
        )


class BlobStore(Protocol):
    """Content-addressed files, compressed."""

    def missing(self, digests: Sequence[str]) -> set[str]:
        """Those that are not in the store; the others are kept alive."""

    def put(self, blobs: Iterable[tuple[str, bytes]], seconds: int = ...) -> None:
        """Adds blobs; they are kept for `seconds`, by default a week."""

    def drop(self, digests: Iterable[str]) -> None:
        """Removes blobs that have been fetched and that no one else needs."""

    def get(self, sizes: Mapping[str, int]) -> dict[str, bytes]:
        """Those that are in the store. `sizes`: digest -> maximum size in bytes.

        Every content is verified by its digest. One that is damaged or too large counts as missing,
        is dropped from the store, and is never loaded as a whole.
        """

    def want(self, tree: str, digests: Iterable[str]) -> None:
        """Asks the dispatcher of this tree for blobs that are missing."""

    def wanted(self, tree: str) -> set[str]:
        """What was requested since the last call.

        Some may have arrived meanwhile, and some may never have been part of the tree.
        """


class TimingStore(Protocol):
    """Measured seconds per test of one project."""

    def load(self) -> dict[str, str]: ...

    def save(self, samples: Mapping[str, str]) -> None: ...


class ChunkQueue(Protocol):
    """Carries hints to slots. Messages may be lost or doubled (I4)."""

    def check(self) -> None:
        """Proves that the broker accepts us. Raises BrokerRefused, BrokerUnavailable."""

    def identity(self) -> str:
        """The id of the broker, see `WorkerInfo.broker`. Raises BrokerUnavailable."""

    def publish(self, *texts: str) -> None:
        """Signed ChunkHints, in one round trip where the broker's protocol allows it."""

    def purge(self) -> None:
        """Removes the run's queue."""
