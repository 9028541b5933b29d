"""What the dispatcher is given by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from dct_celery.core.model import RunReport
from dct_celery.ports import BlobStore, ChunkQueue, Ledger, Registry, TimingStore, UserProcess
from dct_celery.protocol.door import Door
from dct_celery.settings import Settings
from dct_celery.wire import messages


class Console(Protocol):
    """The part of `reports.terminal.Terminal` that the dispatcher uses."""

    def line(self, text: str) -> None: ...
    def explain(self, rerun: Callable[[Any], str]) -> None: ...
    def warn(self, text: str) -> None: ...
    def start(self, total: int) -> None: ...
    def verdict(self, v: Any) -> None: ...
    def fixture(self, f: Any) -> None: ...
    def slots(self, busy: int, connected: int, names: Any = ()) -> None: ...
    def remaining(self, seconds: float | None) -> None: ...
    def tick(self) -> None: ...
    def finish(self, report: RunReport, *, durations: int | None = None, timing: bool = False) -> None: ...
    def close(self) -> None: ...


class TakenSnapshot(Protocol):
    """The part of `adapters.source.snapshot.Snapshot` that the dispatcher uses."""

    @property
    def digest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class DispatcherServices:
    """Everything that touches the world. `clock`: monotonic seconds; `wall`: Unix seconds."""

    settings: Settings
    run: str
    #: Of this run among all that have or had its id.
    nonce: str
    #: Of this dispatcher.
    owner: str
    #: Of the run.
    door: Door
    clock: Callable[[], float]
    wall: Callable[[], float]
    sleep: Callable[[float], None]
    #: Milliseconds of the store's clock.
    store_ms: Callable[[], int]
    registry: Registry
    ledger: Ledger
    queue: ChunkQueue
    blobs: BlobStore
    timings: Callable[[str], TimingStore]
    console: Console
    state_folder: Path
    environ: Mapping[str, str]
    start_process: Callable[[str, messages.Load, Mapping[str, str], IO[bytes]], UserProcess]
    user_environment: Callable[[Mapping[str, str], Mapping[str, str]], dict[str, str]]
    #: Takes the tree below a root; uploads what the store lacks; returns (snapshot, files, bytes sent).
    snapshot: Callable[[Path, BlobStore], tuple[TakenSnapshot, int, int]]
    #: Sends again what workers miss of the code; called at every look.
    supply_code: Callable[[], None]
    #: Writes what --junit-xml and --json ask for.
    write_reports: Callable[[RunReport], None]
    #: Host names -> their addresses, as this machine sees them.
    resolve: Callable[[Iterable[str]], Mapping[str, Collection[str]]]
    #: True once after each interrupt (SIGINT, SIGTERM).
    interrupted: Callable[[], bool]
    #: The broker's identity, as in `WorkerInfo.broker`; empty where it cannot be asked.
    broker: Callable[[], str] = str
    #: Empty, or why the fleet that belongs to this run alone is gone: one line, perhaps with more lines below.
    fleet_trouble: Callable[[], str] = str
    #: Starts a worker of this machine where that is wanted; its number of slots.
    fall_back: Callable[[], int] | None = None

    @property
    def journals(self) -> Path:
        """Folder of the journals of this machine's runs."""
        return self.state_folder / "runs"
