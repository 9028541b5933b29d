"""The services that the composition root hands to the dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from dct_celery.core.model import Artifact, Entry
from dct_celery.dispatcher.timing_files import TimingFiles
from dct_celery.ports import BlobStore, ChunkQueue, Ledger, Registry, TimingStore, UserProcess
from dct_celery.ports.reporting import ReportEvent
from dct_celery.protocol.door import Door
from dct_celery.settings import Settings
from dct_celery.wire import messages


class TakenSnapshot(Protocol):
    """The part of `adapters.source.snapshot.Snapshot` that the dispatcher uses."""

    @property
    def digest(self) -> str: ...

    @property
    def paths(self) -> Collection[str]: ...


@dataclass(frozen=True, slots=True)
class DispatcherServices:
    """All input and output of a dispatcher. `clock`: monotonic seconds; `wall`: Unix seconds."""

    settings: Settings
    run: str
    #: Distinguishes this run from earlier ones with the same id.
    nonce: str
    #: Identifies this dispatcher.
    owner: str
    #: Seals and verifies the run's messages.
    door: Door
    #: The same for what outlives the run.
    pool_door: Door
    clock: Callable[[], float]
    wall: Callable[[], float]
    sleep: Callable[[float], None]
    #: Milliseconds of the store's clock.
    store_ms: Callable[[], int]
    registry: Registry
    ledger: Ledger
    queue: ChunkQueue
    blobs: BlobStore
    #: What workers have sent for this run alone.
    files: BlobStore
    timings: Callable[[str], TimingStore]
    #: Passes an event to every reporter. Raises DctError if a requested report cannot be written.
    report: Callable[[ReportEvent], None]
    state_folder: Path
    environ: Mapping[str, str]
    start_process: Callable[[str, messages.Load, Mapping[str, str], IO[bytes]], UserProcess]
    user_environment: Callable[[Mapping[str, str], Mapping[str, str]], dict[str, str]]
    #: Takes the tree below a root; uploads what the store lacks; returns (snapshot, files, bytes
    #: sent).
    snapshot: Callable[[Path, BlobStore], tuple[TakenSnapshot, int, int]]
    #: Sends code that workers miss again; called at every poll.
    supply_code: Callable[[], None]
    #: Host names -> their addresses, as this machine sees them.
    resolve: Callable[[Iterable[str]], Mapping[str, Collection[str]]]
    #: True once the run is to end early.
    interrupted: Callable[[], bool]
    #: The broker's identity, as in `WorkerInfo.broker`; empty where it cannot be asked.
    broker: Callable[[], str] = str
    #: Why the fleet of this run alone (--local) is gone: a line, perhaps with details below; or
    #: empty.
    fleet_failure: Callable[[], str] = str
    #: Whether an earlier dispatcher of the run has kept this file of the test.
    has_artifact: Callable[[Entry, Artifact], bool] = lambda entry, artifact: False
    #: What the failure with this text misses of the files on this machine: a sentence, or "".
    hint: Callable[[str], str] = lambda text: ""
    #: Files of timings that the settings name.
    timing_files: TimingFiles = field(default_factory=TimingFiles)
    #: Paths below the root of the code that differ from this git commit. Raises ConfigError.
    changed_files: Callable[[str], Collection[str]] = lambda commit: ()
    #: Starts a worker on this machine and returns its number of slots; None if not wanted.
    fall_back: Callable[[], int] | None = None

    @property
    def journals(self) -> Path:
        """Folder of the journals of this machine's runs."""
        return self.state_folder / "runs"
