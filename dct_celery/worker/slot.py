"""A slot: one pool child of the worker. It claims chunks and keeps one test process with its clones between them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from dct_celery.core import signing
from dct_celery.core.clonestate import CloneState
from dct_celery.core.model import Chunk
from dct_celery.core.names import clone_name
from dct_celery.errors import DatabaseError, DctError
from dct_celery.ports import DatabaseServer, DatabaseSpec, Ledger
from dct_celery.wire import messages
from dct_celery.worker.chunkrun import ChunkRun
from dct_celery.worker.layout import RunFolder
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.spool import sweep
from dct_celery.worker.templates import Templates
from dct_celery.worker.testprocess import TestProcess

log = logging.getLogger("dct_celery.worker")
#: Seconds to attach: a project's own setup_databases may load rows.
ATTACH_SECONDS = 600.0


class SlotRun:
    """One run in one slot: test process, clones and their state."""

    def __init__(self, services: WorkerServices, run: str, folder: RunFolder, slot: int, state: Mapping[str, Any]) -> None:
        self.run = run
        self.folder = folder
        #: Seconds that one test may take, its class fixtures included; None for no limit.
        self.test_timeout: float | None = state["test_timeout"]
        self.ledger: Ledger = services.ledger(run)
        self._services = services
        self._slot = slot
        self._specs = [DatabaseSpec.from_dict(data) for data in state["specs"]]
        self._serialized: dict[str, str] = state["serialized"]
        self._servers: dict[str, DatabaseServer] = {s.alias: services.server_for(s, folder.sqlite) for s in self._specs}
        mark = f"run={run} worker={services.name}"
        self._templates = Templates(state["fingerprint"], self._specs, self._servers, self._fork, folder.path, mark)
        self._mark = mark
        self._forks = 0
        self._numbers = 0
        self._clones: dict[str, str] = {}
        self._state = CloneState()
        self.process: TestProcess | None = None

    def process_for(self, chunk: Chunk) -> TestProcess:
        """A test process whose clones suit the chunk. Raises DatabaseError, ProcessDied."""
        if self.process is None or not self._state.suits(chunk):
            self.retire()
            self._renew(chunk)
        assert self.process is not None
        return self.process

    def used(self, chunk: Chunk) -> None:
        """The chunk ran to its end in the current process."""
        self._state = self._state.after(chunk)

    def _renew(self, chunk: Chunk) -> None:
        if chunk.flushed:
            self._templates.ensure_flushed(s.alias for s in self._specs if s.alias in chunk.flushed and not s.late_flush)
        self.process = self._fork(f"{self._slot}")
        late = [s.alias for s in self._specs if s.late_flush and s.alias in chunk.flushed]
        for spec in self._specs:
            self._clone(spec, flushed=spec.alias in chunk.flushed and not spec.late_flush)
        places = {alias: self._servers[alias].place(name) for alias, name in self._clones.items()}
        answer = self.process.ask(messages.Attach(places, self._serialized, late), messages.Attached, ATTACH_SECONDS)
        if isinstance(answer, messages.Fatal):
            self.retire()
            raise DatabaseError(f"the test process could not attach: {answer.message}", detail=answer.detail)
        self.process.pid = answer.pid
        self._state = CloneState(chunk.flushed)

    def _fork(self, purpose: str) -> TestProcess:
        self._forks += 1
        folder = self.folder.fork_folder(f"{purpose}-{self._slot}-{self._forks}")
        temporary = folder / "tmp"
        temporary.mkdir()
        environment = {"TMPDIR": str(temporary), "DCT_SLOT": str(self._slot)}
        return TestProcess(folder, self.folder.fork_fifo, environment)

    def _clone(self, spec: DatabaseSpec, *, flushed: bool) -> None:
        self._numbers += 1
        name = clone_name(self._services.short_name, self._slot, f"{self.run}@{self._services.name}", spec.alias, self._numbers)
        self.folder.note_clone(name, spec.alias)
        self._clones[spec.alias] = name
        self._servers[spec.alias].clone(self._templates.name(spec.alias, flushed=flushed), name, self._mark)

    def retire(self, *, kill: bool = False) -> None:
        """Ends the test process and drops its clones. Never raises: what stays behind is noted for the host."""
        if self.process is not None:
            self.process.kill() if kill else self.process.finish()
            self.process = None
        for alias, name in self._clones.items():
            with contextlib.suppress(DctError):
                self._servers[alias].drop(name)
                self.folder.forget_clone(name)
        self._clones = {}

    def close(self) -> None:
        self.retire(kill=True)
        for server in self._servers.values():
            with contextlib.suppress(DctError):
                server.close()


class Slot:
    """One lane of the worker. `run` is called by Celery, one message after the other; a thread retires runs that ended."""

    def __init__(self, services: WorkerServices, index: int) -> None:
        self._services = services
        self._index = index
        self._runs: dict[str, SlotRun] = {}
        self._busy = threading.Lock()
        self._warden = threading.Thread(target=self._watch, name="dct-slot", daemon=True)
        self._warden.start()

    def run(self, message: str) -> str:
        """Runs the chunk that the message names, if this slot gets its lease; says what became of it."""
        try:
            hint = signing.verify(message, self._services.key, what="a chunk message")
            run, chunk, attempt = str(hint["run"]), str(hint["chunk"]), int(hint["attempt"])
        except (DctError, KeyError, ValueError, TypeError) as error:
            log.warning("message refused: %s", error)
            return "refused"
        with self._busy:
            return self._claim_and_run(run, chunk, attempt)

    def _claim_and_run(self, run: str, chunk: str, attempt: int) -> str:
        slot_run = self._slot_run(run)
        if slot_run is None:
            return "no-run"
        settings = self._services.settings
        lease_ms = int(settings.lease_seconds * 1000)
        claim = slot_run.ledger.claim(chunk, attempt, worker=self._services.name, slot=self._index, lease_ms=lease_ms)
        if not claim.granted or claim.chunk is None:
            return claim.status
        result = ChunkRun(slot_run, claim.chunk, claim.fence, self._services, lease_ms).execute()
        with contextlib.suppress(DctError, OSError):
            sweep(slot_run.folder.spool, slot_run.ledger)
        return result

    def _slot_run(self, run: str) -> SlotRun | None:
        if run not in self._runs:
            folder = self._services.folder.run(run)
            state = folder.published()
            if state is None or folder.over:
                return None
            self._runs[run] = SlotRun(self._services, run, folder, self._index, state)
        return self._runs[run]

    def _watch(self) -> None:
        while True:
            time.sleep(0.2)
            for run, slot_run in list(self._runs.items()):
                if slot_run.folder.over and self._busy.acquire(blocking=False):
                    try:
                        self._runs.pop(run).close()
                    except Exception:
                        log.exception("run %s could not be left cleanly", run)
                    finally:
                        self._busy.release()

    def close(self) -> None:
        """The pool child ends: nothing of it stays."""
        for run in list(self._runs):
            self._runs.pop(run).close()
