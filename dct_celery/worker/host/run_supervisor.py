"""One run on a worker, in a thread of its own.

Its life: `_prepare` (publish it to the slots, or refuse it), `_serve` until it is over, then
`_clean_up`. Reports that cannot reach the store are sent when it is back (I3).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
from collections.abc import Callable

from dct_celery.core.databases.usage import Changes
from dct_celery.errors import (
    DatabaseError,
    DatabaseUnfit,
    DctError,
    LeaseLost,
    ProjectError,
    UsageError,
)
from dct_celery.ports import Announced
from dct_celery.protocol.runs import RunState
from dct_celery.protocol.workers import (
    MAX_DETAIL,
    CheckedReport,
    FailedReport,
    ReadyReport,
    RefusedReport,
    RunStage,
    UsageReport,
    WorkerReport,
)
from dct_celery.worker.health.slot_backoff import backing_off
from dct_celery.worker.host.preparation import Preparation, Refused
from dct_celery.worker.logs import about
from dct_celery.worker.processes.strays import end_marked
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.slot.spool import send_again

log = logging.getLogger(__name__)
#: Seconds for which a run is kept that was neither renewed nor closed: another dispatcher may
#: resume it, or the dispatcher may restore a store that was wiped.
LINGER = 120.0
#: Seconds that slots need to release the chunks whose processes died with their loader.
GIVE_BACK = 6.0
#: Seconds that slots get to give back their clones when a run ends.
RETIRE_SECONDS = 10.0
#: Seconds between two checks of the clone pool when there is nothing to do.
POOL_PAUSE = 0.05
#: Seconds between two usage reports, and between two searches for results to be sent again.
USE_SECONDS = 1.0
#: Seconds after which system checks begin even if some slot has no clone yet.
CHECKS_AFTER = 3.0


class RunSupervisor:
    """One run on this worker, from its announcement until its last trace is removed."""

    def __init__(
        self, services: WorkerServices, announced: Announced, slots: int, ready: Callable[[], None]
    ) -> None:
        run = announced.announcement.run
        self.run = run
        self.nonce = announced.announcement.nonce
        self.state = RunStage.PREPARING
        #: Slots that the database servers of this run have room for.
        self.fit = slots
        self._services = services
        self._clock = services.clock
        self._folder = services.folder.run(run)
        self._signing_key = announced.key_id
        door = services.door.of_run(run, self.nonce, announced.key_id)
        self._ledger = services.ledger(run, door)
        self._end = threading.Event()
        #: Ends a pause of `_serve`.
        self._wake = threading.Event()
        self._preparation = Preparation(
            services,
            run,
            self._folder,
            self._ledger,
            self._end.is_set,
            slots,
            door,
            self._wake.set,
        )
        self._ready = ready
        self._changes = Changes()
        #: Every report on this worker's state; a store that was wiped gets all of them again.
        self._reports: list[WorkerReport] = []
        #: Those that the store does not have yet.
        self._due: list[WorkerReport] = []
        #: The newest announcement in the registry.
        self.announced = announced
        #: Epoch in which the store has the reports.
        self._reported_epoch = announced.epoch
        #: When results were last sent again.
        self._sent_at = 0.0
        #: Monotonic seconds of the last renewal of the announcement.
        self.seen_at = self._clock.monotonic()
        #: When usage was last reported.
        self._usage_at = 0.0
        self._ready_at = 0.0
        #: When the loader was found dead.
        self._loader_died_at = 0.0
        self._thread = threading.Thread(target=self._keep, name=f"run-{run}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def epoch(self) -> int:
        return self.announced.epoch

    def hear(self, announced: Announced) -> None:
        """The registry names the run. Only a newer announcement proves its dispatcher alive."""
        if announced.renews(self.announced):
            self.announced, self.seen_at = announced, self._clock.monotonic()

    def end(self) -> None:
        """The run is over here. Returns at once; `join` waits for the clean-up."""
        if self._end.is_set():
            return  # the clean-up may be removing the folder: write nothing more there
        self._end.set()
        self._wake.set()
        self._folder.end()
        process = self._preparation.process
        tears_down = self._preparation.lasting or self._folder.has_sessions
        if process is not None and not tears_down:
            process.kill()  # preparation, checks and pool stop waiting for it

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def backing_off(self) -> list[str]:
        """Why slots that the servers have room for claim nothing at present."""
        return (
            backing_off(self._folder.backoff, self._clock.monotonic())
            if self.state is RunStage.READY
            else []
        )

    @property
    def working(self) -> int:
        return self.fit - len(self.backing_off())

    @property
    def ended(self) -> bool:
        return self._end.is_set()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def _keep(self) -> None:
        with about(run=self.run):
            self._live()

    def _live(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            log.exception("run %s", self.run)
            self.state = RunStage.REFUSED
            with contextlib.suppress(Exception):
                said = f"internal error of the worker: {type(error).__name__}: {error}"
                self._refuse(RefusedReport(said, _end_of(traceback.format_exc())))
        try:
            self._serve()
        finally:
            self.state = RunStage.OVER
            self._clean_up()

    def _serve(self) -> None:
        while not self._end.is_set():
            if not self._tend():
                self._clock.wait(self._wake, POOL_PAUSE)
                self._wake.clear()

    @property
    def stale(self) -> bool:
        """Its announcement has not been renewed for too long."""
        return self._clock.monotonic() - self.seen_at > LINGER

    def still_wanted(self) -> bool:
        """Called when the registry no longer names the run, or its announcement is stale.

        A closed run is over at once, any other one after LINGER. After False, the run is over here
        for good, unless a newer epoch begins.
        """
        if self._ledger.state() is RunState.CLOSED:
            return False
        if self._clock.monotonic() - self.seen_at < LINGER:
            return True
        log.warning("run %s: given up, as its dispatcher has been silent for too long", self.run)
        self._ledger.abandon()
        return False

    def _send_reports(self) -> None:
        """Sends the reports that are due; after the store was wiped, all of them."""
        if self.epoch > self._reported_epoch:
            self._reported_epoch, self._due = self.epoch, list(self._reports)
        while self._due:
            self._ledger.report(self._services.name, self._due[0])
            self._due.pop(0)

    def _send_again(self) -> None:
        # Once a second: a slot may note an end of the previous epoch a moment later.
        if self.epoch > 1 and self._clock.monotonic() - self._sent_at >= USE_SECONDS:
            self._sent_at = self._clock.monotonic()
            lease_ms = int(self._services.settings.lease_seconds * 1000)
            if sent := send_again(self._folder.spool, self._ledger, self.epoch, lease_ms):
                log.info("run %s: sent the results of %s chunks again", self.run, sent)

    def _report(self, report: WorkerReport) -> None:
        """Sends it now, or when the store is back: without the report, the run would wait for ever
        for a worker that has refused it.
        """
        self._reports.append(report)
        self._due.append(report)
        try:
            self._send_reports()
        except DctError as error:
            log.warning("run %s: %s follows later: %s", self.run, type(report).__name__, error)

    def _tend(self) -> bool:
        """One step of everything that is due; False when the clone pool has nothing to do."""
        try:
            self._send_reports()
            self._send_again()
        except DctError as error:
            log.warning("run %s: %s", self.run, error)
        except Exception:  # a full disk, for example, must not end the run here
            log.exception("run %s: sending reports and results again", self.run)
        self._check_loader(self._clock.monotonic())
        if self.state is RunStage.READY and (line := self._folder.refusal):
            self._folder.unpublish()
            self._refuse(RefusedReport(line, permanent=True))
        pool = self._preparation.pool
        if pool is None or self.state is not RunStage.READY:
            return False
        try:
            busy = pool.step()
            self._check()
            self._report_usage()
        except DctError as error:
            log.warning("run %s: %s", self.run, error)
            busy = False
        except Exception:
            log.exception("run %s: clones", self.run)
            busy = False
        return busy

    def _check_loader(self, now: float) -> None:
        """Starts the run afresh on this worker after its loader was killed, which takes all forks
        with it. Slots release their chunks first.
        """
        process = self._preparation.process
        if self.state is RunStage.READY and process is not None and not process.alive():
            log.warning("run %s: the loader died; the run is prepared again", self.run)
            self.state, self._loader_died_at = RunStage.PREPARING, now
            self._folder.unpublish()
        if self._loader_died_at and now - self._loader_died_at > GIVE_BACK:
            self._end.set()

    def _check(self) -> None:
        """System checks: begun once the slots have what they need, reported when they end."""
        pool, checks = self._preparation.pool, self._preparation.checks
        assert pool is not None
        assert checks is not None
        waited = self._clock.monotonic() - self._ready_at > CHECKS_AFTER
        if (pool.filled or waited) and not pool.quiet:
            with contextlib.suppress(DatabaseError):  # the pool has logged it, and pauses
                checks.start()
        news = checks.news()
        if isinstance(news, ProjectError):
            self._refuse(FailedReport(str(news), _end_of(news.detail)))
        elif isinstance(news, DctError):
            self._refuse(
                RefusedReport(f"system checks could not be run: {news}", _end_of(news.detail))
            )
        elif news:
            self._report(CheckedReport())
        if news:
            checks.reported()

    def _report_usage(self) -> None:
        """Reports what was done with the databases since the last time; regularly, because a run
        that has ended takes no more reports.
        """
        if self._clock.monotonic() - self._usage_at < USE_SECONDS:
            return
        self._usage_at = self._clock.monotonic()
        if new := self._changes.since(self._preparation.database_use()):
            self._ledger.report(self._services.name, UsageReport(new))

    def _prepare(self) -> None:
        start = self._clock.monotonic()
        try:
            prepared = self._preparation.prepare()
        except LeaseLost:
            # The store may have been wiped: once the dispatcher has restored it, the run starts
            # afresh here.
            self._end.set()
        except Refused as refused:
            self._refuse(RefusedReport(refused.reason, _end_of(refused.detail), permanent=True))
        except ProjectError as error:
            self._refuse(FailedReport(str(error), _end_of(error.detail)))
        except DctError as error:
            if not self._end.is_set():
                permanent = isinstance(error, (UsageError, DatabaseUnfit))
                self._refuse(RefusedReport(str(error), _end_of(error.detail), permanent))
        else:
            self.fit = prepared.slots
            self._folder.publish(prepared.published(self.nonce, self._signing_key))
            self.state = RunStage.READY
            self._ready_at = self._clock.monotonic()
            self._ready()
            self._report(
                ReadyReport(
                    self._services.host,
                    round(self._clock.monotonic() - start, 3),
                    prepared.templates,
                    checked=prepared.templates == "built",
                    steps=prepared.steps,
                )
            )

    def _refuse(self, report: RefusedReport | FailedReport) -> None:
        log.warning("run %s is refused: %s", self.run, report.message)
        self._report(report)
        self.state = RunStage.REFUSED

    def _used(self) -> bool:
        """A slot has not left yet."""
        return bool(self._folder.clones.in_use()) or self._folder.has_sessions

    def _clean_up(self) -> None:
        self._folder.end()
        deadline = self._clock.monotonic() + RETIRE_SECONDS
        while self._used() and self._clock.monotonic() < deadline:
            self._clock.sleep(0.05)
        try:
            self._preparation.close()
        except Exception:
            log.exception("run %s: the garbage collector removes what is left", self.run)
        end_marked(self._folder.path, self._clock)
        self._folder.remove()


def _end_of(detail: str) -> str:
    return detail[-MAX_DETAIL:]
