"""One run on a worker: prepared, kept ready for its slots, told of to the dispatcher, and cleaned up."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from dct_celery.core.databaseuse import Changes
from dct_celery.errors import DatabaseError, DctError, LeaseLost, ProjectError
from dct_celery.worker.preparation import Preparation, Refused
from dct_celery.worker.rest import resting
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.spool import send_again
from dct_celery.worker.strays import end_marked

log = logging.getLogger("dct_celery.worker")
#: Seconds that a run which is announced no more, yet was not closed, is kept: its dispatcher may be dead and another one adopt
#: it, or the store may have been wiped and be told again. A dead dispatcher's run is announced for `standing.HORIZON` before.
LINGER = 60.0
#: Seconds that slots need to tell the store of chunks whose processes died with their loader.
GIVE_BACK = 6.0
#: Seconds that slots get to give back their clones when a run ends.
RETIRE_SECONDS = 10.0
#: Seconds between two looks at the clones when there is nothing to do, and between two words about their use or two looks for
#: what is to be sent again.
POOL_PAUSE, USE_SECONDS = 0.05, 1.0
#: Seconds after which system checks begin although some slot has no clone yet.
CHECKS_AFTER = 3.0


class RunKeeper:
    """One run on this worker, from announcement to the last trace, in a thread of its own."""

    def __init__(self, services: WorkerServices, run: str, slots: int, ready: Callable[[], None], epoch: int = 1) -> None:
        self.run = run
        self.state = "preparing"
        #: Slots that the database servers of this run have room for.
        self.fit = slots
        self._services = services
        self._folder = services.folder.run(run)
        self._ledger = services.ledger(run)
        self._end = threading.Event()
        self._preparation = Preparation(services, run, self._folder, self._ledger, self._end.is_set, slots)
        self._ready = ready
        self._changes = Changes()
        #: What was said of this worker's state; a store that was wiped is told again.
        self._words: list[dict[str, Any]] = []
        #: Of them, what the store has still to be told.
        self._due: list[dict[str, Any]] = []
        #: Epoch of the run in the registry, and the one in which the store is told all that was said.
        self.epoch = self._told_epoch = epoch
        self._sent_at = 0.0
        #: Monotonic seconds of the last sign of the run in the registry.
        self.seen_at = time.monotonic()
        self._told_at = self._ready_at = 0.0
        #: When the loader was found dead.
        self._bereft_at = 0.0
        self._thread = threading.Thread(target=self._keep, name=f"run-{run}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """The run is over here. Returns at once; `join` waits for the clean-up."""
        if self._end.is_set():
            return  # the clean-up may be removing the folder: nothing more is written there
        self._end.set()
        self._folder.end()
        process = self._preparation.process
        if process is not None:
            process.kill()  # whatever preparation, checks and pool wait for ends with it

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def resting(self) -> list[str]:
        """Why slots rest that the servers have room for."""
        return resting(self._folder.resting, time.monotonic()) if self.state == "ready" else []

    @property
    def working(self) -> int:
        return self.fit - len(self.resting())

    @property
    def ended(self) -> bool:
        return self._end.is_set()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def _keep(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            log.exception("run %s", self.run)
            self.state = "refused"
            with contextlib.suppress(Exception):
                self._tell("refused", f"internal error of the worker: {type(error).__name__}: {error}", traceback.format_exc())
        try:
            while not self._end.wait(0.0 if self._tend() else POOL_PAUSE):
                pass
        finally:
            self.state = "over"
            self._clean_up()

    def still_wanted(self) -> bool:
        """The registry names the run no more. Only a closed run is over at once."""
        if self._ledger.state() == "closed":
            return False
        if time.monotonic() - self.seen_at < LINGER:
            return True
        log.warning("run %s: nobody has cared for it for a long time; it is given up", self.run)
        self._ledger.abandon()
        return False

    def _tell_again(self) -> None:
        """What could not be said while the store was away; and all of it, where the store was wiped and has the run again."""
        if self.epoch > self._told_epoch:
            self._told_epoch, self._due = self.epoch, list(self._words)
        while self._due:
            self._ledger.tell(self._services.name, self._due[0])
            self._due.pop(0)

    def _send_again(self) -> None:
        # Once a second: an end that was told in the epoch before may be written down a moment later.
        if self.epoch > 1 and time.monotonic() - self._sent_at >= USE_SECONDS:
            self._sent_at = time.monotonic()
            lease_ms = int(self._services.settings.lease_seconds * 1000)
            if sent := send_again(self._folder.spool, self._ledger, self.epoch, lease_ms):
                log.info("run %s: results of %s chunks are sent again", self.run, sent)

    def _say(self, word: dict[str, Any]) -> None:
        """Now, or when the store is back: a run waits for ever for a worker that has refused it without a word."""
        self._words.append(word)
        self._due.append(word)
        try:
            self._tell_again()
        except DctError as error:
            log.warning("run %s: %s is said later: %s", self.run, word["state"], error)

    def _tend(self) -> bool:
        """One step for the clones; False when there is nothing to do."""
        try:
            self._tell_again()
            self._send_again()
        except DctError as error:
            log.warning("run %s: %s", self.run, error)
        except Exception:  # a full disk, say: it must not end the run here
            log.exception("run %s: what was said and sent before", self.run)
        self._mourn(time.monotonic())
        if self.state == "ready" and (line := self._folder.refusal):
            self._folder.unpublish()
            self._tell("refused", line, "")
        pool = self._preparation.pool
        if pool is None or self.state != "ready":
            return False
        try:
            busy = pool.step()
            self._check()
            self._tell_use()
        except Exception:
            log.exception("run %s: clones", self.run)
            busy = False
        return busy

    def _mourn(self, now: float) -> None:
        """A loader that was killed (its memory is the largest here) takes all forks with it, and no slot can go on without it:
        the run begins anew on this worker, once slots have given back what they had."""
        process = self._preparation.process
        if self.state == "ready" and process is not None and not process.alive():
            log.warning("run %s: the loader died; the run is prepared anew", self.run)
            self.state, self._bereft_at = "preparing", now
            self._folder.unpublish()
        if self._bereft_at and now - self._bereft_at > GIVE_BACK:
            self._end.set()

    def _check(self) -> None:
        """System checks: begun once the slots have what they need, reported when they end."""
        pool, checks = self._preparation.pool, self._preparation.checks
        assert pool is not None
        assert checks is not None
        waited = time.monotonic() - self._ready_at > CHECKS_AFTER
        if (pool.filled or waited) and not pool.quiet:
            with contextlib.suppress(DatabaseError):  # the pool has said so, and pauses
                checks.start()
        news = checks.news()
        if isinstance(news, ProjectError):
            self._tell("failed", str(news), news.detail)
        elif isinstance(news, DctError):
            self._tell("refused", f"system checks could not be run: {news}", news.detail)
        elif news:
            self._say({"state": "checked"})
        if news:
            checks.told()  # not before: the store may have been away

    def _tell_use(self) -> None:
        """What was done with the databases since the last word, now and then: a run that ends takes no more words."""
        if time.monotonic() - self._told_at < USE_SECONDS:
            return
        self._told_at = time.monotonic()
        if new := self._changes.since(self._preparation.database_use()):
            self._ledger.tell(self._services.name, {"state": "databases", "use": new})

    def _prepare(self) -> None:
        start = time.monotonic()
        try:
            prepared = self._preparation.prepare()
        except LeaseLost:
            # Perhaps a store that was wiped, and is told again: then the run begins anew here.
            self._end.set()
        except Refused as refused:
            self._tell("refused", refused.reason, refused.detail)
        except ProjectError as error:
            self._tell("failed", str(error), error.detail)
        except DctError as error:
            if not self._end.is_set():
                self._tell("refused", str(error), error.detail)
        else:
            self.fit = prepared.slots
            self._folder.publish(prepared.published())
            self.state = "ready"
            self._ready_at = time.monotonic()
            self._ready()
            self._say(
                {
                    "state": "ready",
                    "host": self._services.host,
                    "seconds": round(time.monotonic() - start, 3),
                    "templates": prepared.templates,
                    "checked": prepared.templates == "built",
                    "steps": prepared.steps,
                }
            )

    def _tell(self, state: str, message: str, detail: str) -> None:
        log.warning("run %s %s: %s", self.run, state, message)
        self._say({"state": state, "message": message, "detail": detail[-20_000:]})
        self.state = "refused"

    def _clean_up(self) -> None:
        self._folder.end()
        deadline = time.monotonic() + RETIRE_SECONDS
        while self._folder.clones() and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            self._preparation.close()
        except Exception:
            log.exception("run %s: what is left is collected later", self.run)
        end_marked(self._folder.path)
        self._folder.remove()
