"""Messages of a dispatcher about its run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from dct_celery.core import backends, ids
from dct_celery.core.codec import AtLeast, AtMost, Count, Matches, Number, Seconds

#: Id of a run; becomes part of paths, keys and queues.
RunId = Annotated[str, Matches(ids.RUN_ID)]
Nonce = Annotated[str, Matches(r"[0-9a-f]{16}")]
ChunkId = Annotated[str, Matches(ids.CHUNK_ID)]
TreeDigest = Annotated[str, Matches(ids.DIGEST)]
#: SHA-256 of a manifest.
Digest = Annotated[str, Matches(r"[0-9a-f]{64}")]
#: Names code that a worker's loader imports.
BackendName = Annotated[str, AtMost(200), Matches(backends.PATTERN)]
#: A folder below the root of the tree, or a path below that.
Relative = Annotated[str, AtMost(4096)]
#: Milliseconds of the store's clock for which a specification is good: no run lasts longer.
SPEC_LIFETIME_MS = 24 * 3600 * 1000


class RunState(StrEnum):
    OPEN = "open"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    #: The store does not know the run.
    NONE = "none"
    #: Cancelled by a party that does not have the key.
    TAMPERED = "tampered"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A run wants the pool, until `expires_ms` on the store's clock.

    Only this proves what else in the registry names the run.
    """

    run: RunId
    nonce: Nonce
    epoch: Number
    expires_ms: Count


@dataclass(frozen=True, slots=True)
class DatabaseRules:
    """How workers treat the project's databases, with the guards given to the dispatcher."""

    create_db: bool = False
    keep: Literal["auto", "always", "never"] = "auto"
    depends: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    deny_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What workers must know before the manifest exists.

    Times are seconds, or milliseconds of the store's clock.
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
    #: See wire.messages.Load.
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    directory: Relative
    #: Entries for sys.path, relative to the root.
    sys_path: tuple[Relative, ...]
    environment: dict[str, str]
    hash_seed: Annotated[str, Matches(r"[0-9]{1,10}|random")]
    #: Globs of packages and variables that may differ from the dispatcher's.
    ignore_packages: tuple[str, ...] = ()
    ignore_variables: tuple[str, ...] = ()
    #: The dispatcher keeps files that tests leave: see `core.model.Artifact`.
    artifacts: bool = False
    #: Measure coverage of the project's code.
    coverage: bool = False
    #: Globs below the root: files that tests write and that come home.
    artifact_paths: tuple[str, ...] = ()
    #: Count what tests use: see core.metrics.
    metrics: bool = False
    #: Seconds; None for the default limit, 0 for none.
    test_timeout: Seconds | None = None
    fixture_timeout: Seconds | None = None
    databases: DatabaseRules = field(default_factory=DatabaseRules)


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """What a worker's own manifest and environment must equal."""

    digest: Digest
    count: Count
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """The run is to stop."""

    reason: Annotated[str, AtMost(10_000)]


@dataclass(frozen=True, slots=True)
class Ownership:
    """Names the run's dispatcher, in the store's field "owner".

    It is signed, so that no one without the key can replace it.
    """

    dispatcher: Annotated[str, Matches(r"[0-9a-f]{8,64}")]


@dataclass(frozen=True, slots=True)
class ChunkHint:
    """A message of the broker: this chunk may be claimed.

    Only the ledger gives the right to run it.
    """

    run: RunId
    chunk: ChunkId
    attempt: Annotated[int, AtLeast(1)]
