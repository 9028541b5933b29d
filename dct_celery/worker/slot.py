"""A slot: one pool child of the worker. It claims chunks and keeps one test process with its clones between them."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from dct_celery.core import retry
from dct_celery.core.clonestate import CloneState
from dct_celery.core.databaseuse import Changes, totals
from dct_celery.core.events import ChunkReleased, ReleaseReason
from dct_celery.core.model import Chunk
from dct_celery.core.retry import Retry
from dct_celery.core.serverfault import fault_in_answer
from dct_celery.errors import DatabaseError, DctError, ServerFault, Untrusted
from dct_celery.ports import DatabaseServer, DatabaseSpec, Ledger
from dct_celery.protocol.door import peek
from dct_celery.protocol.leases import ClaimAnswer
from dct_celery.protocol.runs import ChunkHint
from dct_celery.wire import messages
from dct_celery.worker.canary import Canary
from dct_celery.worker.chunkrun import ChunkRun
from dct_celery.worker.clone_maker import FLUSHED, PRISTINE, CloneMaker
from dct_celery.worker.layout import PublishedRun, RunFolder
from dct_celery.worker.naming import CloneNaming
from dct_celery.worker.rest import Permits, Rest
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.spool import sweep
from dct_celery.worker.templates import Templates, identities
from dct_celery.worker.testprocess import TestProcess

log = logging.getLogger("dct_celery.worker")
#: Seconds to attach: a project's own setup_databases may load rows.
ATTACH_SECONDS = 600.0
#: Seconds to wait for a database server that is away, the lease kept meanwhile.
AWAY_SECONDS = 120.0
#: Pauses, in seconds, before a server that has no connection left is asked again; then the slot rests.
_SHORTAGE = (1.0, 2.0, 4.0)
#: Seconds before a server that has ended our sessions is tried again.
_BREATH = 0.5
#: What becomes of a message that a resting slot received: it is handed on.
RESTING = "resting"
#: Seconds to wait for a spare in the making before making one oneself.
SPARE_SECONDS = 120.0
#: Seconds before a message is handed on: it must not race around among resting slots.
HAND_ON_PAUSE = 0.2
#: Seconds between two checks for runs that have ended.
WATCH_SECONDS = 0.2
#: Seconds of rest after a chunk that is better run on another worker.
AVOID_PAUSE = 0.2


class SlotRun:
    """One run in one slot: test process, clones and their state."""

    def __init__(self, services: WorkerServices, run: str, folder: RunFolder, slot: int, state: PublishedRun) -> None:
        self.run = run
        self.folder = folder
        self.owner = state.owner
        self.test_timeout = state.test_timeout
        self.fixture_timeout = state.fixture_timeout
        self.door = services.door.of_run(run, state.nonce, state.signing_key)
        self.ledger: Ledger = services.ledger(run, self.door)
        self._slot = slot
        self._clock = services.clock
        self._specs = list(state.specs)
        self._serialized = state.serialized
        #: Chunks that were begun here. Only a store that was wiped, or that somebody meddles with, gives one twice.
        self._begun: set[str] = set()
        self._servers: dict[str, DatabaseServer] = {s.alias: services.server_for(s) for s in self._specs}
        naming = CloneNaming(run, services.name, state.owner, services.settings.keep_days)
        cache = services.folder.template_cache(state.key)
        self._templates = Templates(state.key, self._specs, self._servers, self._fork, cache, naming, self._clock)
        self._maker = CloneMaker(self._templates, self._servers, folder.clones, naming, self._clock, slot)
        self._forks = 0
        self._waited = 0.0
        self._changes = Changes()
        self._clones: dict[str, str] = {}
        self._state = CloneState()
        #: What the clones looked like when the test process had attached.
        self._shapes: dict[str, str] = {}
        self._permits = Permits(folder.permits, state.slots)
        self.rest = Rest(folder.resting / str(slot))
        self.canary = Canary(self._servers.values(), self._clock)
        self.process: TestProcess | None = None

    def may_claim(self) -> bool:
        """The servers have room for this slot, and it has not just failed to get its databases."""
        return not self.rest.lasts(self._clock.monotonic()) and self._permits.have()

    def once(self, chunk: Chunk) -> Chunk:
        """The chunk as it is to run here: no class runs twice in one process."""
        again = chunk.id in self._begun
        self._begun.add(chunk.id)
        return replace(chunk, fresh=True) if again else chunk

    def process_for(self, chunk: Chunk, give_up: Callable[[], bool]) -> TestProcess:
        """A test process whose clones suit the chunk. While a database server is away it waits, unless `give_up` says that
        there is nothing to wait for any more. Raises DatabaseError, ProcessDied."""
        if self.process is None or not self._state.suits(chunk) or not self._healthy() or self.canary.trouble():
            self.retire()
            self._renew_patiently(chunk, give_up)
        assert self.process is not None
        return self.process

    def _renew_patiently(self, chunk: Chunk, give_up: Callable[[], bool]) -> None:
        """A server that was away is waited for, one that was short of connections is asked a few times more."""
        pauses = iter(_SHORTAGE)
        away = Retry(
            lambda failures: _BREATH,
            seconds=AWAY_SECONDS,
            ready=lambda left: self.canary.wait(left, give_up),
        )

        def rule(error: DatabaseError) -> Retry | None:
            self.retire(kill=True)
            if give_up() or error.fault is ServerFault.DISK:
                return None
            if error.fault is ServerFault.CONNECTIONS:
                pause = next(pauses, None)
                return None if pause is None else Retry(lambda failures: pause)
            return away if error.fault or self.canary.away() else None

        retry.call(
            lambda: self._renew(chunk),
            DatabaseError,
            rule,
            monotonic=self._clock.monotonic,
            sleep=self._clock.sleep,
            note=lambda error: log.warning("run %s: waiting for a database server: %s", self.run, error),
        )

    def rest_now(self, reason: str) -> None:
        """Claims nothing for a while; others may."""
        seconds = self.rest.begin(reason, self._clock.monotonic())
        log.warning("run %s: slot %d rests for %.0f s: %s", self.run, self._slot, seconds, reason)

    def used(self, chunk: Chunk) -> None:
        """The chunk ran to its end in the current process."""
        self._state = self._state.after(chunk)
        self.rest.succeeded()

    def database_use(self) -> dict[str, float]:
        """What is new since the last call: see core.databaseuse."""
        stats = (asdict(server.stats) for server in self._servers.values())
        return self._changes.since(totals(stats, waited_seconds=self._waited))

    def _healthy(self) -> bool:
        """The clones are there, and no test that rolls back has changed their schema, which no rollback mends on MySQL. Tests
        that flush truncate tables, too, and what those find they find in sequence."""
        if self._state.used_by is not None:
            return all(self._servers[alias].healthy(name) for alias, name in self._clones.items())
        try:
            return self._shapes_now() == self._shapes
        except DatabaseError:
            return False

    def _shapes_now(self) -> dict[str, str]:
        return {alias: self._servers[alias].shape(name) for alias, name in self._clones.items()}

    def _renew(self, chunk: Chunk) -> None:
        flushed = [spec for spec in self._specs if not spec.names.isdisjoint(chunk.flushed)]
        early = {spec.alias for spec in flushed if not spec.late_flush}
        late = [spec.alias for spec in flushed if spec.late_flush]
        self.canary.remember()
        self.process = self._fork(f"{self._slot}")
        start = self._clock.monotonic()
        for spec in self._specs:
            self._clones[spec.alias] = self._take(spec, FLUSHED if spec.alias in early else PRISTINE)
        self._waited += self._clock.monotonic() - start
        places = {alias: self._servers[alias].place(name) for alias, name in self._clones.items()}
        question = messages.Attach(places, self._serialized, late, identities(self._servers))
        answer = self.process.ask(question, messages.Attached, ATTACH_SECONDS, self.canary.watch)
        if isinstance(answer, messages.Fatal):
            self.retire()
            if answer.reason == "elsewhere":
                # On no slot of this worker will it be otherwise.
                self.folder.refuse(answer.message)
            fault = fault_in_answer(answer.message, answer.detail)
            why = f"{answer.message} (the server {fault})" if fault else answer.message
            raise DatabaseError(f"the test process could not attach: {why}", detail=answer.detail, fault=fault)
        self.process.attached(answer.pid)
        self._shapes = self._shapes_now()
        self._state = CloneState(chunk.flushed)

    def _fork(self, purpose: str) -> TestProcess:
        self._forks += 1
        folder = self.folder.fork_folder(f"{purpose}-{self._slot}-{self._forks}")
        temporary = self.folder.temporary(folder)
        cache = self.folder.cache(self._slot)
        environment = {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(cache), "DCT_SLOT": str(self._slot)}
        return TestProcess(folder, self.folder.fork_fifo, environment, self._clock).start()

    # -- clones ------------------------------------------------------------------------

    def _take(self, spec: DatabaseSpec, kind: str) -> str:
        """A clone, noted as this slot's: a spare, or else one of its own making. Raises DatabaseError."""
        if spare := self._spare(spec.alias, kind):
            return spare
        if kind == FLUSHED:
            self._templates.ensure_flushed([spec.alias])
        return self._maker.make(spec, kind)

    def _spare(self, alias: str, kind: str) -> str | None:
        """Waits for one that is in the making: two at a time would not be ready sooner."""
        deadline = self._clock.monotonic() + SPARE_SECONDS
        while True:
            # Asked before taking: between the two, a spare may be finished.
            coming = self.folder.clones.is_making(alias, kind) and self._clock.monotonic() < deadline
            if name := self.folder.clones.take_spare(alias, kind):
                return name
            if not coming:
                return None
            self._clock.sleep(0.005)

    def retire(self, *, kill: bool = False) -> None:
        """Ends the test process and gives its clones back. Never raises: what becomes of them is the pool's affair."""
        if self.process is not None:
            self.process.kill() if kill else self.process.finish()
            self.process = None
        for name in self._clones.values():
            self.folder.clones.retire(name)
        self._clones = {}

    def close(self) -> None:
        self.retire(kill=True)
        self._permits.give_back()
        for server in self._servers.values():
            with contextlib.suppress(DctError):
                server.close()


class Slot:
    """One lane of the worker. `run` is called by Celery, one message after the other; a thread retires runs that ended."""

    def __init__(self, services: WorkerServices, index: int, hand_on: Callable[[str, str], None]) -> None:
        """`hand_on`: (run, message) -> somebody else gets the message."""
        self._services = services
        self._hand_on = hand_on
        self._index = index
        self._clock = services.clock
        self._end = threading.Event()
        self._runs: dict[str, SlotRun] = {}
        self._busy = threading.Lock()
        self._warden = threading.Thread(target=self._watch, name="dct-slot", daemon=True)

    def start(self) -> None:
        """Begins to retire runs that have ended."""
        self._warden.start()

    def run(self, message: Any) -> str:
        """Runs the chunk that the message names, if this slot gets its lease; says what became of it. `message` is whatever the
        broker has."""
        try:
            if not isinstance(message, str):
                raise Untrusted("is no text")
            run = peek(ChunkHint, message).run
            with self._busy:
                result = self._run(run, message)
        except Untrusted as error:
            log.warning("a message of the broker %s; it is passed over", error)
            return "refused"
        if result == RESTING:
            self._hand_on(run, message)
        return result

    def _run(self, run: str, message: str) -> str:
        slot_run = self._slot_run(run)
        if slot_run is None:
            return "no-run"
        hint = slot_run.door.unseal(ChunkHint, message)
        if not slot_run.may_claim():
            self._clock.sleep(HAND_ON_PAUSE)
            return RESTING
        settings = self._services.settings
        lease_ms = int(settings.lease_seconds * 1000)
        name = self._services.name
        claim = slot_run.ledger.claim(hint.chunk, hint.attempt, worker=name, slot=self._index, lease_ms=lease_ms)
        if claim.answer is ClaimAnswer.UNTRUSTED and claim.lease is not None:
            log.warning("run %s: chunk %s in the store is not the one that the dispatcher has offered", run, hint.chunk)
            slot_run.ledger.end(claim.lease, 0, ChunkReleased(ReleaseReason.UNTRUSTED))
            self._clock.sleep(AVOID_PAUSE)
        if claim.lease is None or claim.chunk is None:
            if claim.answer is ClaimAnswer.AVOID:
                self._clock.sleep(AVOID_PAUSE)  # its message is coming round again: the others should have a chance to take it
            return claim.answer.value
        if slot_run.folder.done(claim.lease.key) >= claim.lease.epoch:
            log.warning("run %s: chunk %s has run here and is on offer again; it is passed over", run, hint.chunk)
            self._clock.sleep(AVOID_PAUSE)
            return ClaimAnswer.DONE.value
        chunk = slot_run.once(claim.chunk)
        result = ChunkRun(slot_run, claim.lease, chunk, self._services, lease_ms).execute()
        with contextlib.suppress(DctError, OSError):
            sweep(slot_run.folder.spool, slot_run.ledger)
        return result

    def _slot_run(self, run: str) -> SlotRun | None:
        folder = self._services.folder.run(run)
        state = folder.published()
        known = self._runs.get(run)
        if known is not None and (state is None or state.owner != known.owner):
            # The worker has begun the run anew, while this slot was busy.
            self._runs.pop(run).close()
        if state is None or folder.over:
            return None
        if run not in self._runs:
            self._runs[run] = SlotRun(self._services, run, folder, self._index, state)
        return self._runs[run]

    def _watch(self) -> None:
        while not self._clock.wait(self._end, WATCH_SECONDS):
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
        self._end.set()
        for run in list(self._runs):
            self._runs.pop(run).close()
