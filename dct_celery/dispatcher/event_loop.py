"""The event loop of a run, until every entry of the manifest has a disposition (I1).

Each round reads the event stream, journals its entries (I3), folds them as events into the run
machine, and carries out the machine's effects. What the store has to take is collected and written
once per round. Everything else has its own pace: polls of the registry, summaries, partial reports.

A store that has lost something of the run, or in which another process has tampered with it, is
given the whole run again from the journal, under the next epoch (I2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from dct_celery.core.model import BAD_OUTCOMES, Chunk, RunReport
from dct_celery.core.run import events as ev
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.run.view import RunView
from dct_celery.core.text import plural
from dct_celery.dispatcher import hints
from dct_celery.dispatcher.artifacts import ArtifactFetcher
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.journal import Journal
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.dispatcher.stored_run import PATIENCE, StoredRun
from dct_celery.dispatcher.worker_reports import WorkerReports, indented
from dct_celery.errors import BrokerUnavailable, StoreUnavailable
from dct_celery.ports.reporting import (
    FixtureJudged,
    Notice,
    PartialReport,
    Stopping,
    TestJudged,
    Ticked,
    Warned,
    WorkersChanged,
)
from dct_celery.protocol import summary
from dct_celery.protocol.door import Rejects
from dct_celery.protocol.runs import ChunkHint, RunState
from dct_celery.protocol.stream import Page, Reported, StreamEntry
from dct_celery.protocol.summary import RunSummary
from dct_celery.security import masking

#: Milliseconds that one read of the stream blocks.
_BLOCK = 100
#: Least seconds between two reads.
_PACE = 0.05
#: Seconds added to that for each slot. With more slots each read finds more, and no slot idles
#: meanwhile, since a further chunk is queued for each.
_PACE_OF_SLOT = 0.0001
#: Most seconds between two reads, however many slots there are.
_MOST_PACE = 0.2
#: Seconds between two polls of the registry.
_POLL = 0.2
#: A poll is several round trips. The pause after one is at least this many times its duration, so
#: that a distant store is not polled all the time.
_PAUSE_FACTOR = 4.0
#: Most seconds of that pause. With a longer one, the leases' clock would seem to stand still.
_LONGEST_PAUSE = 1.0
#: Seconds between two summaries of the run in the store, for `dct status`.
_SUMMARY = 2.0
#: Least seconds between two partial reports.
_PARTIAL = 10.0
#: Least pause between two partial reports, as a multiple of what the last one took.
_PARTIAL_COSTS = 20.0
#: Seconds for which acknowledgements wait for an offer to travel with. A late one only costs
#: space on the workers' disks.
_ACKNOWLEDGE = 0.25
#: Seconds to wait for a worker to report that the system checks have passed: longer than a worker
#: lets them take.
_CHECKS = 700.0
#: Seconds without a fit worker after which that wait ends early.
_NO_WORKER = 5.0
#: Rounds (of at most _BLOCK each) to wait for the ends of chunks whose tests all have verdicts.
_LAST_ROUNDS = 10
#: Seconds to wait for other workers if all that are connected have refused the run.
_REFUSED = 2.0
#: Seconds to wait for other workers if no retry helps any that is connected.
_PERMANENT = 4.0
#: Entries of one read of the stream.
_PAGE = 2000
#: Seconds for which all workers must have listened to another broker before we believe it. They
#: ask for its identity every second, and send heartbeats as often.
ELSEWHERE = 3.0


class EventLoop:
    """One run's loop. `step` does one round; `follow` repeats it."""

    def __init__(
        self,
        services: DispatcherServices,
        machine: RunMachine,
        fleet: Fleet,
        stored_run: StoredRun,
        view: RunView,
        partial: Callable[[], RunReport],
    ) -> None:
        self._services = services
        self._machine = machine
        self._fleet = fleet
        self._stored_run = stored_run
        self._partial = partial
        self.view = view
        self._journal: Journal | None = None
        self._journal_broken = False
        #: Entries are folded that an earlier dispatcher has seen: of their effects, only verdicts
        #: are carried out.
        self._replaying = False
        self._fell_back = False
        #: Where the stream was read to, and in which epoch: each epoch has a stream of its own.
        self._after, self._epoch = "0", stored_run.epoch
        #: What `_write_due` has still to write to the store: chunks by id, positions to acknowledge
        #: by attempt, the reason of a stop.
        self._due_offers: dict[str, Chunk] = {}
        self._due_positions: dict[str, int] = {}
        self._due_cancel: str | None = None
        self._acknowledged_at = 0.0
        self._began = services.clock()
        self._read_at = 0.0
        self._first_claim = 0.0
        self._store_lost = 0.0
        self._refused_since = self._permanent_since = 0.0
        #: Entries of the stream that were ignored.
        self._rejects = Rejects()
        #: How another process has tampered with the run in the store; then it is put back whole.
        self._tampering = ""
        #: "chunk.attempt" -> number of the last record that came without a gap before it.
        self._sequences: dict[str, int] = {}
        self._reported_workers: WorkersChanged | None = None
        #: Epoch and entry of the stream up to which the store has a summary.
        self._summarized = (0, "")
        #: The last read has not reached the end of the stream.
        self._behind = False
        self._next = {"poll": 0.0, "broker": 0.0, "summary": 0.0}
        self._next["partial"] = self._began + _PARTIAL
        self._artifacts = ArtifactFetcher(services)
        self.worker_reports = WorkerReports(fleet, services.report)
        #: Seconds in which nothing was left but to settle doubts, and since when that is so (0: it
        #: is not).
        self._settled = self._settling_since = 0.0
        #: When the first test failed, by the monotonic clock; 0: none has, or that was under an
        #: earlier dispatcher.
        self.first_failure = 0.0
        self._has_failed = False
        #: wait (manifest to first claim), run (first claim to last verdict) and settle (the part of
        #: that in which only doubts were settled), in seconds.
        self.seconds: dict[str, float] = {}

    def follow(self, journal: Callable[[], Journal]) -> None:
        """Returns when the machine has finished. Raises Superseded if another dispatcher has
        adopted the run.
        """
        try:
            # Slots get their first chunks before the journal and its long head are written.
            self._try(lambda: self._poll(self._services.clock()))
            self._try(self._write_due)
            self._journal = journal()
            while not self._machine.finished:
                self.step()
            self._await_checks()
            self._await_chunk_ends()
            self._try(lambda: self._write_due(at_once=True))
            self._artifacts.finish()
            for line in self._rejects.summary():
                self._services.report(Warned(line))
        finally:
            if self._journal is not None:
                self._journal.close()
            now = self._services.clock()
            first = self._first_claim or now
            self.seconds = {
                "wait": round(first - self._began, 3),
                "run": round(now - first, 3),
                "settle": round(self._settled, 3),
            }

    def catch_up(self, journal: Journal, *, whole: bool) -> None:
        """Folds what happened under an earlier dispatcher.

        That is the journal, and then the store's stream if the store is `whole`; if not, the run is
        put back into the store.
        """
        self._journal, self._replaying = journal, True
        # Latest epoch in the journal; 0 for a new one, and then all that is in the stream counts.
        seen = 0
        for entry in journal.replay():
            if self._follows(entry):
                self._fold(entry)
            seen, self._after = entry.epoch, entry.id if entry.epoch == self._epoch else "0"
        if journal.skipped:
            lines = plural(journal.skipped, "damaged line")
            self._services.report(Warned(f"skipped {lines} of {journal.path}"))
        if whole:
            # In a stream that was put back, entries of earlier epochs stand among newer ones.
            entries = [entry for entry in self._all_entries() if entry.epoch >= seen]
            self._take(Page(tuple(sorted(entries, key=lambda entry: entry.epoch))))
        self._replaying = False
        self.view.resume(self._services.clock())
        done = len(self._machine.verdicts)
        self._services.report(
            Notice(f"{done:,} of {len(self._machine.manifest):,} tests had their verdicts")
        )
        if not whole:
            self._reopen("has lost the run")
        for chunk, lease, _ in self._machine.outstanding():
            if lease is None:
                self._act([ev.Offer(chunk)])
        if self._machine.stop is not None:
            self._act([ev.Cancel(self._machine.stop.reason)])
        # The earlier dispatcher may have died after it journalled and before it acknowledged.
        self._due_positions |= journal.positions
        self._write_due(at_once=True)

    def _all_entries(self) -> list[StreamEntry]:
        entries: list[StreamEntry] = []
        while (page := self._services.ledger.read(self._after, block_ms=0)).last:
            self._pass_over(page)
            entries += page.entries
            self._after = page.last
        return entries

    def _await_checks(self) -> None:
        """A run passes only if a worker has reported that the system checks passed."""
        deadline = self._services.clock() + _CHECKS
        while not self.worker_reports.checked and self._machine.stop is None:
            now = self._services.clock()
            if self._store_lost:
                # No worker can report; `_without_store` decides how long that may last.
                self.step()
                continue
            # Not as soon as no worker is fit: in a store that was wiped, workers register again
            # within seconds.
            if now > deadline or now - self._fleet.last_fit > _NO_WORKER:
                reason = "no worker has reported the system checks of the project"
                self._act(self._machine.handle(ev.Stopped(reason, 7, late=True)))
            self.step()

    def _await_chunk_ends(self) -> None:
        """Chunk ends follow the last records at once, with the seconds of slots and classes."""
        rounds = _LAST_ROUNDS
        while self._machine.busy and self._machine.stop is None and rounds:
            self.step()
            rounds -= 1

    @property
    def stopped(self) -> ev.Stopped | None:
        """Why the run ends early, if it does."""
        return self._machine.stop

    def step(self) -> None:
        """One round: read, fold, poll, write."""
        # One wake-up for the records of many slots: where workers run on this machine, each
        # wake-up takes CPU time from the tests.
        self._services.sleep(
            max(self._read_at + _pace(self._fleet.slots) - self._services.clock(), 0.0)
        )
        now = self._read_at = self._services.clock()
        error = self._try(lambda: self._read_and_poll(now))
        # Also without a store: an interrupt and a time limit count at any time.
        error = self._try(lambda: self._check_limits(now)) or error
        error = error or self._try(self._write_due) or self._try(self._artifacts.fetch)
        if error:
            self._without_store(error, now)
        elif self._store_lost:
            self._store_lost = 0.0
            self._fleet.heard_again(self._services.clock())
        if self._settling_since:
            self._settled += now - self._settling_since
        self._settling_since = now if self._machine.settling else 0.0
        planner = self._machine.planner
        self.view.plan(planner.remaining_seconds, planner.longest_seconds)
        self.view.waiting = self._waiting()
        self._services.report(Ticked(self.view))

    def _try(self, action: Callable[[], None]) -> StoreUnavailable | None:
        try:
            action()
        except StoreUnavailable as error:
            return error
        return None

    def _read_and_poll(self, now: float) -> None:
        if self._epoch != self._stored_run.epoch:
            self._after, self._epoch = "0", self._stored_run.epoch
        page = self._services.ledger.read(self._after, block_ms=_BLOCK, count=_PAGE)
        self._behind = len(page.entries) + len(page.rejected) >= _PAGE
        self._take(page)
        # Before the poll, which compares what the store has with what it should have.
        self._write_due()
        self._poll(now)

    def _check_limits(self, now: float) -> None:
        self._stop_at_limits(now)
        self._act(self._machine.handle(ev.Ticked(now, behind=self._behind)))

    def _take(self, page: Page) -> None:
        """Journals and folds the entries; what is journalled is then due to be acknowledged (I3).

        Entries of earlier epochs, which were put back into the store, are in the journal already.
        """
        self._pass_over(page)
        new = [
            entry
            for entry in page.entries
            if (entry.epoch >= self._stored_run.epoch or self._replaying) and self._follows(entry)
        ]
        self._due_positions |= self._write(new)
        for entry in new:
            self._fold(entry)
        if page.last and not self._replaying:
            self._after = page.last
        if not self._first_claim and self._machine.started:
            self._first_claim = self._services.clock()

    def _pass_over(self, page: Page) -> None:
        for one in page.rejected:
            if line := self._rejects.note("the run's event stream", one.error):
                self._services.report(Warned(line))

    def _follows(self, entry: StreamEntry) -> bool:
        """Whether no record of its attempt is missing before this entry.

        If one is, another process has tampered with the stream. Nothing more of the attempt counts
        until its worker has sent the missing records again.
        """
        match entry.fact:
            case ev.Recorded(lease, seq, records):
                first, last = seq - len(records) + 1, seq
            case ev.Ended(lease, seq):
                first, last = seq + 1, seq
            case _:
                return True
        known = self._sequences.get(lease.key, 0)
        if first > known + 1:
            self._tampering = f"has lost events of chunk {lease.chunk}"
            return False
        self._sequences[lease.key] = max(known, last)
        return True

    def _write(self, entries: list[StreamEntry]) -> dict[str, int]:
        """Journals the entries and returns the positions that may be acknowledged.

        None are returned once the journal cannot be written, so that workers keep their records.
        """
        if not entries or self._journal is None or self._journal_broken:
            return {}
        try:
            return self._journal.append(entries)
        except OSError as error:
            self._journal_broken = True
            self._services.report(
                Warned(
                    f"the journal {self._journal.path} cannot be written ({error.strerror}); the"
                    " run goes on without it"
                )
            )
            return {}

    def _fold(self, entry: StreamEntry) -> None:
        """Never raises: an entry is folded once, even if its effects cannot be carried out yet."""
        summary.take(self.view, entry, self._services.clock())
        event: ev.Event | None
        match entry.fact:
            case Reported(worker, report):
                report = hints.of_report(report, self._services.hint)
                event = self.worker_reports.hear(worker, report, again=self._replaying)
            case ev.Recorded() as recorded:
                event = hints.of_records(recorded, self._services.hint)
            case fact:
                event = fact
        if isinstance(event, ev.Ended):
            self.worker_reports.databases.add(event.end.databases)
            if (
                isinstance(event.end, ev.ChunkReleased)
                and event.end.why is ev.ReleaseReason.UNTRUSTED
            ):
                self._tampering = f"has another chunk in the place of {event.lease.chunk}"
        if event is not None:
            self._act(self._machine.handle(event))

    def _act(self, effects: list[ev.Effect]) -> None:
        """Reports at once; what the store has to take is due at the end of the round.

        While entries of an earlier dispatcher are replayed, only verdicts are carried out.
        """
        services = self._services
        for effect in effects:
            match effect:
                case ev.Judge(verdict):
                    self.view.judge(verdict, services.clock())
                    if verdict.outcome in BAD_OUTCOMES:
                        self._note_failure()
                    services.report(TestJudged(verdict))
                    self._artifacts.want(verdict)
                case ev.JudgeFixture(fixture):
                    self.view.judge_fixture(fixture)
                    services.report(FixtureJudged(fixture))
                case _ if self._replaying:
                    pass
                case ev.Offer(chunk) | ev.Republish(chunk):
                    # Also when it is published again: the store may have lost that one chunk.
                    self._due_offers[chunk.id] = chunk
                case ev.Cancel(reason):
                    self._due_cancel = reason
                    services.report(Stopping(reason, len(self.view.busy)))
                case ev.Warn(text):
                    services.report(Warned(text))
                case _:
                    assert_never(effect)

    def _note_failure(self) -> None:
        if not self._has_failed and not self._replaying:
            self.first_failure = self._services.clock()
        self._has_failed = True

    def _write_due(self, *, at_once: bool = False) -> None:
        """Writes all that is due, in one round trip to the store and one to the broker.

        What the store cannot take now stays due, since a test whose offer is lost never runs.
        `at_once`: acknowledgements do not wait for an offer. Raises StoreUnavailable, Superseded.
        """
        ledger, now = self._services.ledger, self._services.clock()
        offers = list(self._due_offers.values())
        acknowledge = at_once or now - self._acknowledged_at >= _ACKNOWLEDGE
        if offers or (self._due_positions and acknowledge):
            ledger.commit(offers, self._due_positions, exhausted=self._machine.exhausted)
            self._due_offers, self._due_positions = {}, {}
            self._acknowledged_at = now
        if offers:
            self._publish(offers)
        if self._due_cancel is not None:
            ledger.cancel(self._due_cancel)
            self._due_cancel = None

    def _publish(self, chunks: list[Chunk]) -> None:
        services = self._services
        hints = [ChunkHint(services.run, chunk.id, chunk.attempt) for chunk in chunks]
        try:
            services.queue.publish(*map(services.door.seal, hints))
        except BrokerUnavailable as error:
            # A lost message is published again when no slot claims its chunk (I4).
            services.report(Warned(str(error)))

    # -- polling -----------------------------------------------------------------------

    def _due(self, what: str, now: float, pause: float) -> bool:
        if now < self._next[what]:
            return False
        self._next[what] = now + pause
        return True

    def _poll(self, now: float) -> None:
        services = self._services
        if self._due("poll", now, _POLL):
            begun = services.clock()
            self._stored_run.tend()
            if (not self._fleet.broker or self._fleet.elsewhere_since) and self._due(
                "broker", now, 1.0
            ):
                # Asked again while the two sides differ: a broker that has lost its data gets a new
                # identity, which they see one after the other.
                self._fleet.broker = services.broker()
            self._fleet.update(services.registry.workers(), now)
            fleet = self._fleet
            self._act(
                self._machine.handle(
                    ev.SlotsChanged(fleet.slots, fleet.ready_slots, fleet.ready_workers)
                )
            )
            self.view.connected = fleet.slots
            self._report_workers()
            for line in services.registry.complaints():
                services.report(Warned(line))
            if loss := self._tampering or self._stored_run.poll(
                now, self._machine, caught_up=not self._behind
            ):
                self._reopen(loss)
            self._check_for_cancel()
            ended = services.clock()
            pause = min(_PAUSE_FACTOR * (ended - begun), _LONGEST_PAUSE)
            self._next["poll"] = max(self._next["poll"], ended + pause)
        if self._due("summary", now, _SUMMARY):
            self._publish_summary(now)
        if self._due("partial", now, _PARTIAL):
            services.report(PartialReport(self._partial()))
            ended = services.clock()
            self._next["partial"] = ended + max(_PARTIAL, _PARTIAL_COSTS * (ended - now))

    def _report_workers(self) -> None:
        workers = tuple(worker.name for worker in self._fleet.usable)
        change = WorkersChanged(
            workers, self._fleet.slots, tuple(worker.name for worker in self._fleet.workers)
        )
        if change != self._reported_workers:
            self._reported_workers = change
            self._services.report(change)

    def _publish_summary(self, now: float) -> None:
        """For `dct status`, which then reads the stream from here on."""
        at = (self._epoch, self._after)
        if at == self._summarized or self._after == "0" or self._epoch != self._stored_run.epoch:
            return
        self._services.ledger.publish_summary(
            RunSummary.of(
                self.view, epoch=self._epoch, after=self._after, now=now, mask=masking.PROCESS
            )
        )
        self._summarized = at

    def _waiting(self) -> str:
        """What the run waits for; empty while a slot runs a chunk."""
        if self._store_lost:
            return "the store is away"
        if self._machine.finished:
            return "" if self.worker_reports.checked else "waiting for the project's system checks"
        if self._machine.stop is not None:
            return "stopping"
        if probes := self._machine.waits_for_probes:
            return probes
        return "" if self._machine.busy else self._fleet.awaited()

    def _reopen(self, loss: str) -> None:
        """Puts the whole run back into a store that may have lost some of it.

        Slots that hold leases go on.
        """
        if self._journal is None:
            return  # before the first round, which polls again at once
        self._stored_run.reopen(self._machine, self._journal)
        self._tampering = ""
        self._services.report(
            Warned(
                f"the store {loss}; the run goes on in it from the journal, as epoch"
                f" {self._stored_run.epoch}"
            )
        )
        # The store has these chunks now; what is still due is their messages to the broker.
        self._due_offers = {
            chunk.id: chunk for chunk, lease, _ in self._machine.outstanding() if lease is None
        }
        self._due_positions = {}

    def _check_for_cancel(self) -> None:
        """`dct cancel` cancels the run in the store; our own cancels come from a stop."""
        if self._machine.stop is None and self._stored_run.state is RunState.CANCELLED:
            reason = self._services.ledger.reason() or "cancelled by dct cancel"
            self._act(
                self._machine.handle(ev.Stopped(reason, 2, late=not self.worker_reports.checked))
            )

    def _stop_at_limits(self, now: float) -> None:
        settings = self._services.settings
        late = not self.worker_reports.checked  # all verdicts are there, but the run is not over
        if self._services.interrupted():
            self._act(self._machine.handle(ev.Stopped("interrupted", 2, late=late)))
        if not self._machine.stop and (failure := self._services.fleet_failure()):
            line, _, detail = failure.partition("\n")
            self._services.report(Warned(line + indented(detail)))
            self._act(self._machine.handle(ev.Stopped(line, 7, late=late)))
        if settings.timeout and not self._machine.stop:
            took, run = now - self._began, self._services.run
            for line in self._machine.near_limits.run(run, took, settings.timeout):
                self._services.report(Warned(line))
        if settings.timeout and now - self._began > settings.timeout:
            reason = f"the run took longer than {settings.timeout:g} s (--timeout)"
            self._act(self._machine.handle(ev.Stopped(reason, 7, late=late)))
        # With --local-fallback, slots of this machine take what the pool cannot.
        no_fallback = self._services.fall_back is None or self._fell_back
        misled = self._fleet.elsewhere_since and now - self._fleet.elsewhere_since > ELSEWHERE
        if no_fallback and misled and not self._machine.busy:
            self._act(self._machine.handle(ev.Stopped(self._fleet.misled(), 4, late=late)))
        self._fall_back(now)
        idle = now - self._fleet.last_usable
        if idle > settings.queue_timeout and not self._machine.busy and not self._store_lost:
            code = 4 if self._fleet.permanent else 7
            self._act(
                self._machine.handle(ev.Stopped(self._fleet.missing(settings.queue_timeout), code))
            )
        self._refused_since = (self._refused_since or now) if self._fleet.all_refused else 0.0
        self._permanent_since = (
            (self._permanent_since or now) if no_fallback and self._fleet.permanent else 0.0
        )
        pool = f"no worker of pool {settings.pool!r} takes the run"
        if self._permanent_since and now - self._permanent_since > _PERMANENT:
            self._act(self._machine.handle(ev.Stopped(f"{pool}: {self._fleet.reasons()}", 4)))
        elif self._refused_since and now - self._refused_since > _REFUSED:
            code = 4 if self._fleet.permanent else 7
            self._act(self._machine.handle(ev.Stopped(f"{pool}: {self._fleet.reasons()}", code)))

    def _fall_back(self, now: float) -> None:
        """Starts a worker on this machine, once, if the pool has had no usable worker for long."""
        start, settings = self._services.fall_back, self._services.settings
        after = min(settings.fallback_after, settings.queue_timeout)
        if (
            start is None
            or self._fell_back
            or self._machine.stop
            or self._store_lost
            or now - self._fleet.last_usable <= after
        ):
            return
        self._fell_back = True
        slots = start()
        many = f"{slots} slots of this machine take"
        if slots == 1:
            many = "one slot of this machine takes"
        self._services.report(
            Warned(f"no worker was there for {after:g} s (--fallback-after); {many} the run")
        )
        self._fleet.last_usable = now

    def _without_store(self, error: StoreUnavailable, now: float) -> None:
        if not self._store_lost:
            self._services.report(Warned(f"{error}; trying again for {PATIENCE:.0f} s"))
            self._store_lost = now
        elif now - self._store_lost > PATIENCE:
            # The effects of the stop are dropped: they would need the store.
            self._machine.handle(
                ev.Stopped(
                    f"the store did not come back: {error}", 7, late=not self.worker_reports.checked
                )
            )


def _pace(slots: int) -> float:
    return min(_PACE + slots * _PACE_OF_SLOT, _MOST_PACE)
