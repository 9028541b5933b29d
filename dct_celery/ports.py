"""What the shells need of the world, as Protocols. Every port has a real adapter, a fake, and one contract suite for both.

Store time is milliseconds of the store's own clock; nobody else's clock decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from dct_celery.core.model import Chunk
from dct_celery.wire import messages


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a chunk, or why there is none."""

    #: ok | held | done | stale | unknown | no-run | cancelled
    status: str
    fence: int = 0
    chunk: Chunk | None = None

    @property
    def granted(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry of a run's event stream."""

    id: str
    #: claimed | records | completed | released | expired | host
    kind: str
    chunk: str
    attempt: int
    fence: int
    worker: str
    slot: int
    #: Sequence number of the last record in `data`, within (chunk, attempt).
    seq: int
    data: Any


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


class Ledger(Protocol):
    """The truth about one run's chunks and leases. Every write of a slot carries its fence and is refused when stale."""

    def open_run(self, owner: str, spec: str, ttl_seconds: int) -> bool:
        """Opens the run for `owner`; False when the run id is taken."""

    def spec(self) -> str | None:
        """The signed run specification, or None when there is no such run."""

    def publish_manifest(self, manifest: str) -> None:
        """Makes the signed manifest summary known; workers compare theirs with it."""

    def manifest(self) -> str | None: ...

    def offer(self, chunk: Chunk) -> None:
        """Makes a chunk claimable."""

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        """Takes the lease. Duplicates lose here."""

    def renew(self, chunk: str, fence: int, lease_ms: int) -> str:
        """ok | lost | cancelled"""

    def append(self, chunk: str, fence: int, attempt: int, seq: int, records: str, lease_ms: int) -> str:
        """Adds records (a JSON list) to the stream and renews. ok | lost | cancelled"""

    def complete(self, chunk: str, fence: int, attempt: int, seq: int, summary: str) -> str:
        """Ends the lease with the chunk done. ok | lost"""

    def release(self, chunk: str, fence: int, attempt: int, seq: int, reason: str) -> str:
        """Gives the chunk back unfinished; `reason` is JSON for the dispatcher. ok | lost"""

    def reap(self) -> list[str]:
        """Ends every lease that ran out, with an `expired` event each; the ids of those chunks."""

    def tell(self, worker: str, message: Mapping[str, Any]) -> None:
        """A `host` event: a worker's word about the run as a whole (ready, refused, failed)."""

    def read(self, after: str, *, block_ms: int, count: int = 500) -> list[StreamEntry]:
        """Entries after the given id ("0" for all), waiting at most block_ms for the first."""

    def acknowledge(self, positions: Mapping[str, int]) -> None:
        """Journalled up to these sequence numbers; keys are "chunk.attempt"."""

    def acknowledged(self, keys: Sequence[str]) -> list[int]:
        """Sequence number journalled for each key, 0 for none."""

    def cancel(self, reason: str) -> None:
        """Slots learn of it at their next renewal."""

    def state(self) -> str:
        """open | cancelled | closed | none"""

    def extend(self, ttl_seconds: int) -> None:
        """Keeps the run's keys alive."""

    def close(self) -> None:
        """Ends the run: nothing can be claimed, keys vanish soon."""


class Registry(Protocol):
    """Who is there: workers of a pool and runs that want them."""

    def announce(self, run: str, horizon_seconds: float) -> None:
        """The run is alive for so long from now, on the store's clock."""

    def withdraw(self, run: str) -> None: ...

    def active_runs(self) -> list[str]: ...

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

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatabaseSpec:
        return cls(**{**data, "aliases": tuple(data["aliases"])})


class DatabaseServer(Protocol):
    """Templates and clones of one database server (or of one folder, for SQLite)."""

    #: Clones are visible on this host alone.
    local: bool

    def check(self) -> None:
        """Proves that the server answers and lets us create databases. Raises DatabaseError with the mend."""

    def place(self, name: str) -> str:
        """What the test process is to be told for a database of this name: the name, or a path."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Held by one builder of this template at a time, over all workers."""

    def is_ready(self, template: str) -> bool: ...

    def seal(self, template: str, mark: str) -> None:
        """Declares a template finished. Nothing connects to it any more."""

    def clone(self, template: str, name: str, mark: str) -> None:
        """Copies a sealed template. Raises CloneFailed; then nothing of that name is left."""

    def discard(self, template: str) -> None:
        """Drops what a failed build left of a template: our name, but perhaps no mark yet."""

    def drop(self, name: str) -> None:
        """Drops a database of ours, sessions and all; absent is fine. Raises DatabaseError for a name that is not ours."""

    def close(self) -> None: ...


class UserProcess(Protocol):
    """A collect process or a loader."""

    @property
    def pid(self) -> int: ...

    def receive(self, timeout: float | None = None) -> messages.Message | None:
        """The next message, None when `timeout` seconds pass. Raises ProcessDied or ProtocolError."""

    def alive(self) -> bool: ...

    def kill(self) -> None:
        """Ends it and its forks at once; safe from any thread."""

    def close(self, grace: float = 5.0) -> None:
        """Closes the channel, which ends it, and kills what is left after `grace` seconds."""
