"""The host thread of a worker's main process: says that the worker is there, and keeps each run
that wants it.

Its life: `start` (the folder is made ours alone, what an earlier life left goes, the threads
begin), then a `_round` after the other (`_look` at the registry, `_beat`), `drain` when the worker
is told to stop, `stop` when its slots have finished.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from dct_celery import __version__
from dct_celery.errors import ConfigError, DctError
from dct_celery.ports import WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol.workers import RunStage
from dct_celery.security.files import try_lock
from dct_celery.security.folders import private_folder
from dct_celery.worker.databases.collector_thread import CollectorThread
from dct_celery.worker.health.circuit_breaker import CircuitBreaker, FailureLog
from dct_celery.worker.host.ended_runs import EndedRuns
from dct_celery.worker.host.machine_facts import about
from dct_celery.worker.host.run_supervisor import RunSupervisor
from dct_celery.worker.processes.strays import end_marked
from dct_celery.worker.services import WorkerServices

log = logging.getLogger("dct_celery.worker")
#: Seconds between two looks at the registry, between two beats, and after which a silent worker
#: counts as gone.
LOOK, BEAT, HORIZON = 0.1, 1.0, 10.0
#: Seconds between two looks at most, however long one took: worker and runs have to be heard of
#: within the horizon.
LONGEST_PAUSE = 2.0
#: Seconds between two looks while the store is away.
AWAY = 0.5
#: Seconds without its dispatcher after which a run is closed that no worker keeps (a replica that
#: lagged may bring one back that was over): longer than those that keep it wait. And seconds
#: between two looks for such runs, by all workers together.
FORGOTTEN, TURN = 140.0, 20.0


def pause_after(seconds: float) -> float:
    """Seconds until the next look, after one that took so long. A registry that is full of
    somebody's entries takes a tenth of our time, and not all of it; a store that stood still once
    is looked at again soon.
    """
    return min(max(LOOK, 10 * seconds), LONGEST_PAUSE)


class Host:
    """All runs of one worker. `ready` and `active` are read by the consumer; everything else
    happens in the host thread.
    """

    def __init__(self, services: WorkerServices, slots: int, busy: Callable[[], int] = int) -> None:
        """`busy`: slots that have something to do."""
        self._services = services
        self._clock = services.clock
        self._slots = slots
        self._busy = busy
        self._supervisors: dict[str, RunSupervisor] = {}
        self._stop = threading.Event()
        self._collecting = CollectorThread(services)
        self._breaker = CircuitBreaker(FailureLog(services.folder.failures, services.clock))
        self._trouble = ""
        self._ended = EndedRuns(services.folder.ended)
        #: The store has not answered lately, or not yet: leaving it would take as long as its
        #: time-outs.
        self._away = True
        self._complained = False
        #: Monotonic seconds of the last beat.
        self._beaten = -BEAT
        self._about = about(services.settings)
        self._thread = threading.Thread(target=self._loop, name="dct-host", daemon=True)

    def start(self) -> None:
        """Raises SystemExit when the work folder cannot be had."""
        self._close_folder()
        self._claim_folder()
        self._clear_leftovers()
        if not self._services.door.keyring.secure:
            log.warning(
                "DCT_INSECURE: without a signing key, whoever can write to the store can run code"
                " on this worker"
            )
        self._collecting.start()
        self._thread.start()

    def _close_folder(self) -> None:
        """To everybody but this user."""
        try:
            if private_folder(self._services.folder.base, "the work folder"):
                log.warning(
                    "%s was open to others; only its owner may enter it now",
                    self._services.folder.base,
                )
        except ConfigError as error:
            raise SystemExit(f"dct: error: {error}") from None

    def _claim_folder(self) -> None:
        """One worker per work folder; the lock lives as long as this process."""
        self._lock = (self._services.folder.base / "lock").open("w")
        if not try_lock(self._lock):
            raise SystemExit(
                f"dct: error: another worker uses {self._services.folder.base}; "
                "give this one another name (-n) or folder (DCT_WORK_DIR)"
            )

    def _clear_leftovers(self) -> None:
        """Of an earlier life of this worker."""
        folder = self._services.folder
        folder.draining.unlink(missing_ok=True)
        if strays := end_marked(folder.runs, self._clock):
            log.warning(
                "%d processes of tests were left by an earlier life of this worker; they were"
                " ended",
                strays,
            )
        for run in folder.leftovers():
            run.remove()
        FailureLog(folder.failures, self._clock).clear()
        folder.prune_template_caches(
            self._clock.wall() - self._services.settings.keep_days * 86_400
        )

    def ready(self) -> set[str]:
        """Runs whose chunks the slots may take now."""
        if self._trouble:
            return set()
        return {
            run
            for run, supervisor in list(self._supervisors.items())
            if supervisor.state is RunStage.READY
        }

    def active(self) -> set[str]:
        """Runs that are not over: somebody may have work for them yet."""
        return {run for run, supervisor in list(self._supervisors.items()) if not supervisor.ended}

    def drain(self) -> None:
        """The worker was told to stop: slots finish their chunk, or give it back after
        `drain_seconds`.
        """
        self._services.folder.draining.touch()

    def stop(self, timeout: float = 30.0) -> None:
        """Ends every run here; returns when databases and folders are gone."""
        self._stop.set()
        self._collecting.stop()
        self._thread.join(0.5 if self._away else 5.0)
        for supervisor in self._supervisors.values():
            supervisor.end()
        deadline = self._clock.monotonic() + timeout
        for supervisor in self._supervisors.values():
            supervisor.join(max(deadline - self._clock.monotonic(), 0.0))
        if not self._away:
            with contextlib.suppress(DctError):
                self._services.registry.leave(self._services.name)

    def _loop(self) -> None:
        pause = LOOK
        while not self._clock.wait(self._stop, pause):
            pause = self._round()

    def _round(self) -> float:
        """One look at the registry, and a beat if it is time for one; seconds until the next round."""
        began = self._clock.monotonic()
        try:
            self._look()
            pause = pause_after(self._clock.monotonic() - began)
            self._beat()
        except DctError as error:
            self._miss_store(error)
            return AWAY
        except Exception:
            log.exception("host thread")
            return pause_after(self._clock.monotonic() - began)
        self._complained = self._away = False
        return pause

    def _beat(self) -> None:
        if self._clock.monotonic() - self._beaten >= BEAT:
            self._services.registry.beat(self._info(), HORIZON)
            self._beaten = self._clock.monotonic()
            self._close_forgotten()

    def _miss_store(self, error: DctError) -> None:
        """No run could be seen: a store that comes back empty must find their slots still here."""
        if not self._complained:
            log.warning("%s; trying again", error)
        self._complained = self._away = True
        for supervisor in self._supervisors.values():
            supervisor.seen_at = self._clock.monotonic()

    def _look(self) -> None:
        self._watch_trouble()
        active = self._services.registry.active_runs()
        for line in self._services.registry.complaints():
            log.warning("%s", line)
        for run in [run for run, one in active.items() if self._ended.covers(one)]:
            del active[run]
        for run in active.keys() - self._supervisors.keys():
            log.info("run %s: preparing", run)
            # A run brings servers that this worker may never have seen: they may hold what others
            # left.
            supervisor = RunSupervisor(
                self._services, active[run], self._slots, self._collecting.soon
            )
            self._supervisors[run] = supervisor
            supervisor.start()
        for run, supervisor in list(self._supervisors.items()):
            if supervisor.ended:
                if supervisor.done:  # should the run be there again, it begins anew
                    del self._supervisors[run]
            elif run in active and active[run].announcement.nonce == supervisor.nonce:
                supervisor.hear(active[run])
            elif run in active:  # another run of the same name: this one is over
                self._ended.note(supervisor.nonce, supervisor.epoch)
                supervisor.end()
        # Last: a store that does not answer for one run must not keep the others from being
        # followed.
        for run, supervisor in list(self._supervisors.items()):
            if (
                not supervisor.ended
                and (run not in active or supervisor.stale)
                and not supervisor.still_wanted()
            ):
                self._ended.note(supervisor.nonce, supervisor.epoch)
                supervisor.end()

    def _close_forgotten(self) -> None:
        for run in self._services.registry.open_runs(TURN):
            ledger = self._services.ledger(run, self._services.door)
            if run not in self._supervisors and ledger.silence() > FORGOTTEN and ledger.abandon():
                log.warning("run %s: closed, since nobody has cared for it for a long time", run)

    def _watch_trouble(self) -> None:
        trouble = self._breaker.trouble(self._clock.monotonic()) or self._all_back_off()
        if trouble and trouble != self._trouble:
            log.warning("this worker %s", trouble)
        self._trouble = trouble

    def _all_back_off(self) -> str:
        """Why no slot of any run claims anything; empty when some does."""
        ready = [
            supervisor
            for supervisor in list(self._supervisors.values())
            if supervisor.state is RunStage.READY
        ]
        reasons = [supervisor.backing_off() for supervisor in ready]
        if not ready or any(
            len(why) < supervisor.fit for why, supervisor in zip(reasons, ready, strict=True)
        ):
            return ""
        return f"backs off, since no slot gets its databases: {reasons[0][0]}"

    def _working_slots(self) -> int:
        """Those that do not rest, for the run that has the fewest."""
        return max(
            1,
            min(
                (supervisor.working for supervisor in list(self._supervisors.values())),
                default=self._slots,
            ),
        )

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            name=self._services.name,
            host=self._services.host,
            slots=self._working_slots(),
            version=__version__,
            protocol=PROTOCOL_VERSION,
            key_id=self._services.door.keyring.ids[0],
            keys=self._services.door.keyring.ids,
            runs={run: supervisor.state for run, supervisor in self._supervisors.items()},
            busy=min(self._busy(), self._slots),
            trouble=self._trouble,
            wall=round(self._clock.wall(), 3),
            about=self._about,
            broker=self._services.broker(),
        )
