"""A slot that is in a run: store, database server, forks and clock are fakes, and nothing waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.core.model import Chunk, Need, Phase
from dct_celery.core.run.leases import LeaseRef
from dct_celery.ports import DatabaseSpec
from dct_celery.settings import Settings
from dct_celery.worker.folders.work_folder import PublishedRun, WorkFolder
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.slot import chunk_run, slot_run
from dct_celery.worker.slot.chunk_run import ChunkRun
from dct_celery.worker.slot.lease_keeper import LeaseKeeper
from dct_celery.worker.slot.slot_run import SlotRun
from tests.support.factories import KEY_ID, NONCE, make_spec, pool_door, run_door
from tests.support.fake_clock import FakeClock
from tests.support.fake_process import FakeForks, FakeProcess
from tests.support.memory_database import MemoryDatabases, MemoryServer
from tests.support.memory_ledger import MemoryLedger, MemoryStore

RUN, OWNER, WORKER = "run-one", "01234567", "build-a@host"
KEY = "0123456789abcdef" * 4
CHUNK = Chunk("c1", (0, 1), Phase.ISOLATED, Need.PRISTINE)
FLUSHING = Chunk(
    "c2", (2,), Phase.TRANSACTIONAL, Need.FLUSHED, flushed=("default",), flushes=("default",)
)


class QuietLease(LeaseKeeper):
    """Without its thread: tests renew by hand."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class SlotScene:
    """Slot 3 of a worker that has the run ready; the templates of its one database are there."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        aliases: Sequence[str] = ("default",),
    ) -> None:
        self.clock = FakeClock()
        self.sent_files: list[tuple[str, bytes]] = []
        self.forks = FakeForks(self.clock)
        monkeypatch.setattr(slot_run, "TestProcess", self.forks)
        monkeypatch.setattr(chunk_run, "LeaseKeeper", QuietLease)
        self.store, self.world = MemoryStore(), MemoryDatabases()
        self.ledger = MemoryLedger(self.store, RUN, run_door())
        self.ledger.open_run(OWNER, make_spec())
        self.server = MemoryServer(self.world)
        self.specs = [DatabaseSpec(alias, "postgresql", "shop") for alias in aliases]
        self.services = self._services(WorkFolder(folder))
        self.folder = self.services.folder.run(RUN)
        self.folder.create()
        self.state = PublishedRun(NONCE, KEY_ID, tuple(self.specs), KEY, "owner")
        self.folder.publish(self.state)
        self.run = SlotRun(self.services, RUN, self.folder, 3, self.state)
        self._make_templates()

    def _services(self, folder: WorkFolder) -> WorkerServices:
        unused: Any = Mock()
        return WorkerServices(
            settings=Settings(drain_seconds=5.0),
            name=WORKER,
            host="host",
            folder=folder,
            clock=self.clock,
            door=pool_door(),
            registry=unused,
            ledger=lambda run, door: MemoryLedger(self.store, run, door),
            code=unused,
            server_for=lambda spec: self.server,
            start_process=unused,
            user_environment=unused,
            resolve=unused,
            send_files=lambda run, files: self.sent_files.extend(files),
        )

    def _make_templates(self) -> None:
        maker = self.run._databases._maker
        for spec in self.specs:
            for kind, rows in (("template", [(1,)]), ("flushed", [])):
                name = maker.templates.name(spec.alias, flushed=kind == "flushed")
                self.world.put(name, maker.naming.mark(kind, self.world.time), rows=rows)

    def claim(self, chunk: Chunk = CHUNK) -> LeaseRef:
        self.ledger.commit([chunk])
        claim = self.ledger.claim(chunk.id, chunk.attempt, worker=WORKER, slot=3, lease_ms=15_000)
        assert claim.lease is not None
        return claim.lease

    def chunk_run(self, chunk: Chunk = CHUNK) -> ChunkRun:
        return ChunkRun(self.run, self.claim(chunk), chunk, self.services, 15_000)

    def process_for(self, chunk: Chunk, lost: Callable[[], bool] = lambda: False) -> FakeProcess:
        """The fork that a chunk is to run in."""
        found: Any = self.run.process_for(chunk, lost)
        return found

    @property
    def process(self) -> FakeProcess:
        """The latest fork."""
        return self.forks.made[-1]

    @property
    def clones(self) -> list[str]:
        return [name for name, _ in self.folder.clones.in_use()]

    def facts(self) -> list[Any]:
        """Of the run's stream, without the offers and claims."""
        facts = [entry.fact for entry in self.ledger.read("0", block_ms=0).entries]
        return [fact for fact in facts if type(fact).__name__ not in ("Offered", "Claimed")]


__all__ = ["CHUNK", "FLUSHING", "RUN", "WORKER", "QuietLease", "SlotScene", "replace"]
