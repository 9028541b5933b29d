"""A slot: one pool child of the worker, which runs one chunk after the other.

A message goes through these steps: `_enter` its run, `_claim` the chunk, `_has_run_here`,
`_execute`. The thread begun by `start` leaves ended runs while the slot is idle.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from dct_celery.core.model import Chunk
from dct_celery.core.run.events import ChunkReleased, ReleaseReason
from dct_celery.core.run.leases import LeaseRef
from dct_celery.errors import DctError, Untrusted
from dct_celery.protocol.door import peek
from dct_celery.protocol.leases import Claim, ClaimAnswer
from dct_celery.protocol.runs import ChunkHint
from dct_celery.worker.logs import about
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.slot.chunk_run import ChunkRun
from dct_celery.worker.slot.slot_run import SlotRun
from dct_celery.worker.slot.spool import sweep

log = logging.getLogger(__name__)
#: Result of a message that was handed on, because this slot backs off.
BACKING_OFF = "backing-off"
#: Seconds before a message is handed on: it must not race around among slots that back off.
HAND_ON_PAUSE = 0.2
#: Seconds between two checks for runs that have ended.
WATCH_SECONDS = 0.2
#: Pause in seconds after a chunk that should run on another worker: its message comes round again,
#: and the others should have a chance to take it.
AVOID_PAUSE = 0.2


class Slot:
    """One lane of the worker. `run` is called by Celery, one message after the other."""

    def __init__(
        self, services: WorkerServices, index: int, hand_on: Callable[[str, str], None]
    ) -> None:
        """`hand_on`: publishes (run, message) again, for another slot."""
        self._services = services
        self._hand_on = hand_on
        self._index = index
        self._clock = services.clock
        self._lease_ms = int(services.settings.lease_seconds * 1000)
        self._runs: dict[str, SlotRun] = {}
        self._busy = threading.Lock()
        self._end = threading.Event()
        self._warden = threading.Thread(target=self._watch, name="dct-slot", daemon=True)

    def start(self) -> None:
        """From now on, runs are left when they have ended."""
        self._warden.start()

    def run(self, message: Any) -> str:
        """Runs the chunk that the message names, if this slot gets its lease; returns the result.
        `message` is whatever the broker delivered.
        """
        try:
            if not isinstance(message, str):
                raise Untrusted("is no text")
            run = peek(ChunkHint, message).run
            with self._busy:
                result = self._run(run, message)
        except Untrusted as error:
            log.warning("a message from the broker %s; it is ignored", error)
            return "refused"
        if result == BACKING_OFF:
            self._hand_on(run, message)
        return result

    def _run(self, run: str, message: str) -> str:
        slot_run = self._enter(run)
        if slot_run is None:
            return "no-run"
        hint = slot_run.door.unseal(ChunkHint, message)
        if not slot_run.may_claim():
            self._clock.sleep(HAND_ON_PAUSE)
            return BACKING_OFF
        claim = self._claim(slot_run, hint)
        if claim.lease is None or claim.chunk is None:
            return claim.answer.value
        if self._has_run_here(slot_run, claim.lease):
            return ClaimAnswer.DONE.value
        began = self._clock.monotonic()
        with about(run=run, chunk=claim.chunk.id):
            log.info(
                "run %s: claimed chunk %s of %d tests, attempt %d",
                run,
                claim.chunk.id,
                len(claim.chunk.indices),
                claim.lease.attempt,
            )
            result = self._execute(slot_run, claim.lease, claim.chunk)
            seconds = self._clock.monotonic() - began
            log.info("run %s: chunk %s is %s after %.1f s", run, claim.chunk.id, result, seconds)
        return result

    def _enter(self, run: str) -> SlotRun | None:
        """The run, if the worker's main process has it ready; entered again if it was prepared
        again.
        """
        folder = self._services.folder.run(run)
        state = folder.published()
        known = self._runs.get(run)
        if known is not None and (state is None or state.owner != known.owner):
            self._runs.pop(run).close()
        if state is None or folder.over:
            return None
        if run not in self._runs:
            self._runs[run] = SlotRun(self._services, run, folder, self._index, state)
        return self._runs[run]

    def _claim(self, slot_run: SlotRun, hint: ChunkHint) -> Claim:
        """The store's answer; it has no chunk if this slot is not to run it."""
        claim = slot_run.ledger.claim(
            hint.chunk,
            hint.attempt,
            worker=self._services.name,
            slot=self._index,
            lease_ms=self._lease_ms,
        )
        if claim.answer is ClaimAnswer.UNTRUSTED and claim.lease is not None:
            log.warning(
                "run %s: chunk %s in the store is not the one that the dispatcher offered",
                slot_run.run,
                hint.chunk,
            )
            slot_run.ledger.end(claim.lease, 0, ChunkReleased(ReleaseReason.UNTRUSTED))
            self._clock.sleep(AVOID_PAUSE)
        elif claim.answer is ClaimAnswer.AVOID:
            self._clock.sleep(AVOID_PAUSE)
        return claim

    def _has_run_here(self, slot_run: SlotRun, lease: LeaseRef) -> bool:
        """The chunk already ran to its end here in this epoch; it should not be on offer again."""
        if slot_run.folder.done(lease.key) < lease.epoch:
            return False
        log.warning(
            "run %s: chunk %s has run here and is offered again; it is skipped",
            slot_run.run,
            lease.chunk,
        )
        self._clock.sleep(AVOID_PAUSE)
        return True

    def _execute(self, slot_run: SlotRun, lease: LeaseRef, chunk: Chunk) -> str:
        result = ChunkRun(
            slot_run, lease, slot_run.once(chunk), self._services, self._lease_ms
        ).execute()
        with contextlib.suppress(DctError, OSError):
            sweep(slot_run.folder.spool, slot_run.ledger)
        return result

    def _watch(self) -> None:
        while not self._clock.wait(self._end, WATCH_SECONDS):
            self._leave_ended()

    def _leave_ended(self) -> None:
        """Not while a chunk runs, which ends by itself."""
        for run, slot_run in list(self._runs.items()):
            if slot_run.folder.over and self._busy.acquire(blocking=False):
                try:
                    self._runs.pop(run).close()
                except Exception:
                    log.exception("run %s could not be left cleanly", run)
                finally:
                    self._busy.release()

    def close(self) -> None:
        """The pool child ends: removes everything of it."""
        self._end.set()
        for run in list(self._runs):
            self._runs.pop(run).close()
