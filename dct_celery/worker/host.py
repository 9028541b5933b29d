"""The host thread of a worker's main process: says that the worker is there, and prepares each run that wants it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from dct_celery import __version__
from dct_celery.core import signing
from dct_celery.core.databaseuse import Changes
from dct_celery.errors import DatabaseError, DctError, LeaseLost, ProjectError
from dct_celery.ports import WorkerInfo
from dct_celery.wire.messages import PROTOCOL_VERSION
from dct_celery.worker.about import about
from dct_celery.worker.breaker import Breaker, Troubles
from dct_celery.worker.collecting import Collecting
from dct_celery.worker.preparation import Preparation, Refused
from dct_celery.worker.rest import resting
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.spool import send_again
from dct_celery.worker.strays import end_marked

log = logging.getLogger("dct_celery.worker")
#: Seconds between two looks at the registry, between two beats, and after which a silent worker counts as gone.
LOOK, BEAT, HORIZON = 0.1, 1.0, 10.0
#: Seconds that a run which is announced no more, yet was not closed, is kept: its dispatcher may be dead and another one adopt
#: it, or the store may have been wiped and be told again. A dead dispatcher's run is announced for `standing.HORIZON` before.
LINGER = 60.0
#: Seconds without its dispatcher after which a run is closed that no worker keeps (a replica that lagged may bring one back that
#: was over): longer than those that keep it wait. And seconds between two looks for such runs, by all workers together.
FORGOTTEN, TURN = 140.0, 20.0
#: Seconds that slots need to tell the store of chunks whose processes died with their loader.
GIVE_BACK = 6.0
#: Seconds that slots get to give back their clones when a run ends.
RETIRE_SECONDS = 10.0
#: Seconds between two looks at the clones when there is nothing to do, and between two words about their use.
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
        if self.epoch > 1:
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


class Host:
    """All runs of one worker. `ready` and `active` are read by the consumer; everything else happens in the host thread."""

    def __init__(self, services: WorkerServices, slots: int, busy: Callable[[], int] = int) -> None:
        """`busy`: slots that have something to do."""
        self._services = services
        self._slots = slots
        self._busy = busy
        self._keepers: dict[str, RunKeeper] = {}
        self._stop = threading.Event()
        self._collecting = Collecting(services)
        self._breaker = Breaker(Troubles(services.folder.troubles))
        self._trouble = ""
        self._about = about(services.settings)
        self._thread = threading.Thread(target=self._loop, name="dct-host", daemon=True)

    def start(self) -> None:
        self._services.folder.base.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._claim_folder()
        self._services.folder.draining.unlink(missing_ok=True)
        if not self._services.key:
            log.warning("no DCT_SIGNING_KEY: whoever can write to store or broker can run code on this worker")
        if strays := end_marked(self._services.folder.runs):
            log.warning("%d processes of tests were left by an earlier life of this worker; they were ended", strays)
        for folder in self._services.folder.leftovers():
            folder.remove()
        Troubles(self._services.folder.troubles).clear()
        self._services.folder.prune_template_caches(time.time() - self._services.settings.keep_days * 86_400)
        self._collecting.start()
        self._thread.start()

    def _claim_folder(self) -> None:
        """One worker per work folder; the lock lives as long as this process."""
        self._lock = (self._services.folder.base / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(
                f"dct: error: another worker uses {self._services.folder.base}; "
                "give this one another name (-n) or folder (DCT_WORK_DIR)"
            ) from None

    def ready(self) -> set[str]:
        """Runs whose chunks the slots may take now."""
        if self._trouble:
            return set()
        return {run for run, keeper in list(self._keepers.items()) if keeper.state == "ready"}

    def active(self) -> set[str]:
        """Runs that are not over: somebody may have work for them yet."""
        return {run for run, keeper in list(self._keepers.items()) if not keeper.ended}

    def drain(self) -> None:
        """The worker was told to stop: slots finish their chunk, or give it back after `drain_seconds`."""
        self._services.folder.draining.touch()

    def stop(self, timeout: float = 30.0) -> None:
        """Ends every run here; returns when databases and folders are gone."""
        self._stop.set()
        self._collecting.stop()
        self._thread.join(5.0)
        for keeper in self._keepers.values():
            keeper.end()
        deadline = time.monotonic() + timeout
        for keeper in self._keepers.values():
            keeper.join(max(deadline - time.monotonic(), 0.0))
        with contextlib.suppress(DctError):
            self._services.registry.leave(self._services.name)

    def _loop(self) -> None:
        beaten = 0.0
        complained = False
        while not self._stop.wait(LOOK):
            try:
                self._look()
                if time.monotonic() - beaten >= BEAT:
                    self._services.registry.beat(self._info(), HORIZON)
                    beaten = time.monotonic()
                    self._close_forgotten()
                complained = False
            except DctError as error:
                if not complained:
                    log.warning("%s; trying again", error)
                complained = True
                # Nobody could be seen: a store that comes back empty must find the run's slots still there.
                for keeper in self._keepers.values():
                    keeper.seen_at = time.monotonic()
            except Exception:
                log.exception("host thread")

    def _look(self) -> None:
        self._watch_trouble()
        active = self._services.registry.active_runs()
        for run in active.keys() - self._keepers.keys():
            log.info("run %s: preparing", run)
            # A run brings servers that this worker may never have seen: they may hold what others left.
            self._keepers[run] = RunKeeper(self._services, run, self._slots, self._collecting.soon, active[run])
        for run, keeper in list(self._keepers.items()):
            if keeper.ended:
                if keeper.done:  # should the run be there again, it begins anew
                    del self._keepers[run]
            elif run in active:
                keeper.epoch, keeper.seen_at = active[run], time.monotonic()
        # Last: a store that does not answer for one run must not keep the others from being followed.
        for run, keeper in list(self._keepers.items()):
            if not keeper.ended and run not in active and not keeper.still_wanted():
                keeper.end()

    def _close_forgotten(self) -> None:
        for run in self._services.registry.open_runs(TURN):
            ledger = self._services.ledger(run)
            if run not in self._keepers and ledger.silence() > FORGOTTEN and ledger.abandon():
                log.warning("run %s: closed, since nobody has cared for it for a long time", run)

    def _watch_trouble(self) -> None:
        trouble = self._breaker.trouble(time.monotonic()) or self._all_rest()
        if trouble and trouble != self._trouble:
            log.warning("this worker %s", trouble)
        self._trouble = trouble

    def _all_rest(self) -> str:
        """Why no slot of any run claims anything; empty when some does."""
        ready = [keeper for keeper in list(self._keepers.values()) if keeper.state == "ready"]
        reasons = [keeper.resting() for keeper in ready]
        if not ready or any(len(why) < keeper.fit for why, keeper in zip(reasons, ready, strict=True)):
            return ""
        return f"rests, since no slot gets its databases: {reasons[0][0]}"

    def _working_slots(self) -> int:
        """Those that do not rest, for the run that has the fewest."""
        return max(1, min((keeper.working for keeper in list(self._keepers.values())), default=self._slots))

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            name=self._services.name,
            host=self._services.host,
            slots=self._working_slots(),
            version=__version__,
            protocol=PROTOCOL_VERSION,
            key_id=signing.key_id(self._services.key),
            runs={run: keeper.state for run, keeper in self._keepers.items()},
            busy=min(self._busy(), self._slots),
            trouble=self._trouble,
            wall=round(time.time(), 3),
            about=self._about,
        )
