"""The host thread of a worker's main process: announces the worker and supervises its runs.

Its life: `start` (lock the folder, remove what an earlier life left, start the threads), then one
`_round` after the other (`_poll` the registry, `_beat`), `drain` when the worker is asked to stop,
`stop` when its slots have finished.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from dct_celery import __version__
from dct_celery.core.text import plural
from dct_celery.errors import ConfigError, DctError
from dct_celery.ports import WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol.workers import RunStage
from dct_celery.security.files import try_lock
from dct_celery.security.folders import private_folder
from dct_celery.worker.databases.collector_thread import CollectorThread
from dct_celery.worker.health.circuit_breaker import CircuitBreaker, FailureLog
from dct_celery.worker.host.ended_runs import EndedRuns
from dct_celery.worker.host.machine_environment import MachineEnvironment
from dct_celery.worker.host.machine_facts import about
from dct_celery.worker.host.run_supervisor import RunSupervisor
from dct_celery.worker.processes.strays import end_marked
from dct_celery.worker.services import WorkerServices

log = logging.getLogger(__name__)
#: Seconds between two polls of the registry.
POLL = 0.1
#: Seconds between two heartbeats.
BEAT = 1.0
#: Seconds after which a silent worker counts as gone.
HORIZON = 10.0
#: Longest pause between two polls, in seconds, however long one took: worker and runs must be heard
#: of within the horizon.
LONGEST_PAUSE = 2.0
#: Seconds between two polls while the store is away.
AWAY = 0.5
#: Seconds without its dispatcher after which a run that no worker supervises is closed (a replica
#: that lagged may bring back one that was over). Longer than supervisors wait.
FORGOTTEN = 140.0
#: Seconds between two searches for such runs, by all workers together.
TURN = 20.0


def pause_after(seconds: float) -> float:
    """Seconds until the next poll, after one that took `seconds`.

    A registry flooded with entries takes a tenth of our time, not all of it; after one slow answer
    the store is polled again soon.
    """
    return min(max(POLL, 10 * seconds), LONGEST_PAUSE)


class Host:
    """All runs of one worker. `ready` and `active` are read by the consumer; everything else
    happens in the host thread.
    """

    def __init__(self, services: WorkerServices, slots: int, busy: Callable[[], int] = int) -> None:
        """`busy`: number of slots that run something."""
        self._services = services
        self._clock = services.clock
        self._slots = slots
        self._busy = busy
        self._supervisors: dict[str, RunSupervisor] = {}
        self._stop = threading.Event()
        self._collecting = CollectorThread(services)
        self._breaker = CircuitBreaker(FailureLog(services.folder.failures, services.clock))
        self._backing_off = ""
        self._ended = EndedRuns(services.folder.ended)
        #: The store has not answered yet, or not lately; talking to it would last until its
        #: timeouts.
        self._away = True
        self._complained = False
        #: Monotonic seconds of the last beat.
        self._beaten = -BEAT
        self._about = about(services.settings)
        self._environment = MachineEnvironment(services)
        self._thread = threading.Thread(target=self._loop, name="dct-host", daemon=True)

    def start(self) -> None:
        """Raises SystemExit when the work folder cannot be used."""
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
        """Only this user may enter it."""
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
        """Removes what an earlier life of this worker left."""
        folder = self._services.folder
        folder.draining.unlink(missing_ok=True)
        if strays := end_marked(folder.runs, self._clock):
            log.warning(
                "ended %d test processes that an earlier life of this worker had left", strays
            )
        for run in folder.leftovers():
            run.remove()
        FailureLog(folder.failures, self._clock).clear()
        folder.prune_template_caches(
            self._clock.wall() - self._services.settings.keep_days * 86_400
        )

    def ready(self) -> set[str]:
        """Runs whose chunks the slots may take now."""
        if self._backing_off:
            return set()
        return {
            run
            for run, supervisor in list(self._supervisors.items())
            if supervisor.state is RunStage.READY
        }

    def active(self) -> set[str]:
        """Runs that are not over: there may be more work for them."""
        return {run for run, supervisor in list(self._supervisors.items()) if not supervisor.ended}

    def drain(self) -> None:
        """The worker is to stop: slots finish their chunk, or release it after `drain_seconds`."""
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
        pause = 0.0
        while not self._clock.wait(self._stop, pause):
            pause = self._round()

    def _round(self) -> float:
        """Polls the registry, and beats when due; returns the seconds until the next round."""
        began = self._clock.monotonic()
        try:
            self._poll()
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
            self._environment.renew()
            self._services.registry.beat(self._info(), HORIZON)
            self._beaten = self._clock.monotonic()
            self._close_forgotten()

    def _miss_store(self, error: DctError) -> None:
        """Runs do not age while the store is away: if it comes back empty, their slots must still
        be here.
        """
        if not self._complained:
            log.warning("%s; trying again", error)
        self._complained = self._away = True
        for supervisor in self._supervisors.values():
            supervisor.seen_at = self._clock.monotonic()

    def _poll(self) -> None:
        self._watch_back_off()
        active = self._services.registry.active_runs()
        for line in self._services.registry.complaints():
            log.warning("%s", line)
        for run in [run for run, one in active.items() if self._ended.covers(one)]:
            del active[run]
        for run in active.keys() - self._supervisors.keys():
            log.info("run %s: preparing", run)
            # The run may use a server that is new to this worker and holds what others left: the
            # garbage collector is to check it soon.
            supervisor = RunSupervisor(
                self._services, active[run], self._slots, self._collecting.soon
            )
            self._supervisors[run] = supervisor
            supervisor.start()
        for run, supervisor in list(self._supervisors.items()):
            if supervisor.ended:
                if supervisor.done:  # if the registry still names the run, it starts afresh
                    del self._supervisors[run]
            elif run in active and active[run].announcement.nonce == supervisor.nonce:
                supervisor.hear(active[run])
            elif run in active:  # another run of the same name: this one is over
                self._ended.note(supervisor.nonce, supervisor.epoch)
                supervisor.end()
        # Last: a store that fails for one run must not keep the others from being supervised.
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
                log.warning("run %s: closed, as its dispatcher has been silent for too long", run)

    def _watch_back_off(self) -> None:
        reason = self._breaker.backing_off(self._clock.monotonic()) or self._all_back_off()
        if reason and reason != self._backing_off:
            log.warning("this worker %s", reason)
        self._backing_off = reason

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
        """Slots that do not back off, in the run that has the fewest of them."""
        return max(
            1,
            min(
                (supervisor.working for supervisor in list(self._supervisors.values())),
                default=self._slots,
            ),
        )

    def _standing_back(self) -> dict[str, str]:
        """Why some slots claim nothing at present, for people; empty where all do."""
        reasons = [
            reason
            for supervisor in list(self._supervisors.values())
            for reason in supervisor.backing_off()
        ]
        if not reasons:
            return {}
        slots = plural(self._slots, "slot")
        return {"short": f"{len(reasons)} of {slots} backing off: {reasons[0]}"}

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
            backing_off=self._backing_off,
            wall=round(self._clock.wall(), 3),
            about={**self._about, **self._environment.about, **self._standing_back()},
            broker=self._services.broker(),
        )
