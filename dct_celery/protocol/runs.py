"""What a dispatcher says of its run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from dct_celery.core import backends, ids
from dct_celery.core.codec import AtLeast, AtMost, Count, Matches, Number, Seconds

#: Names that become parts of paths, keys and queues.
RunId = Annotated[str, Matches(ids.RUN_ID)]
Nonce = Annotated[str, Matches(r"[0-9a-f]{16}")]
ChunkId = Annotated[str, Matches(ids.CHUNK_ID)]
TreeDigest = Annotated[str, Matches(ids.DIGEST)]
#: Of a manifest: SHA-256.
Digest = Annotated[str, Matches(r"[0-9a-f]{64}")]
#: Code that a worker's loader imports.
BackendName = Annotated[str, AtMost(200), Matches(backends.PATTERN)]
#: A folder below the root of the tree, or a path below that.
Relative = Annotated[str, AtMost(4096)]
#: Milliseconds of the store's clock for which a specification is good: no run lasts longer.
SPEC_LIFETIME_MS = 24 * 3600 * 1000


class RunState(StrEnum):
    OPEN = "open"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    #: The store knows no such run.
    NONE = "none"
    #: Cancelled, but by nobody who has the key.
    TAMPERED = "tampered"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A run wants the pool, until `expires_ms` on the store's clock. What names the run is proven
    by this alone.
    """

    run: RunId
    nonce: Nonce
    epoch: Number
    expires_ms: Count


@dataclass(frozen=True, slots=True)
class DatabaseRules:
    """How workers treat the project's databases, and the guards that the dispatcher was given."""

    create_db: bool = False
    keep: Literal["auto", "always", "never"] = "auto"
    depends: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    deny_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What workers have to know before the manifest is there. Times are seconds, or milliseconds of
    the store's clock.
    """

    run: RunId
    nonce: Nonce
    protocol: Number
    version: str
    expires_ms: Count
    #: Digest of the tree's index.
    tree: TreeDigest
    code: Literal["snapshot", "checkout"]
    backend: BackendName
    #: What the backend takes: see wire.messages.Load.
    words: tuple[str, ...]
    directory: Relative
    #: Entries for sys.path, relative to the root.
    sys_path: tuple[Relative, ...]
    environment: dict[str, str]
    hash_seed: Annotated[str, Matches(r"[0-9]{1,10}|random")]
    ignore_packages: tuple[str, ...] = ()
    #: None for the usual limits, 0 for none.
    #: The dispatcher keeps files that tests leave: see `core.model.Artifact`.
    artifacts: bool = False
    test_timeout: Seconds | None = None
    fixture_timeout: Seconds | None = None
    databases: DatabaseRules = field(default_factory=DatabaseRules)


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """What a worker's own manifest and environment must be equal to."""

    digest: Digest
    count: Count
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """The run is to stop."""

    reason: Annotated[str, AtMost(10_000)]


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who is the dispatcher of the run: in the store's field "owner", so that nobody else can put
    another one there.
    """

    dispatcher: Annotated[str, Matches(r"[0-9a-f]{8,64}")]


@dataclass(frozen=True, slots=True)
class ChunkHint:
    """A message of the broker: somebody may claim this chunk. Only the ledger gives the right to
    run it.
    """

    run: RunId
    chunk: ChunkId
    attempt: Annotated[int, AtLeast(1)]
