"""Follows a run: stream entries become events, the machine's effects become writes, until every
entry has a disposition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from dct_celery.core.model import Chunk, RunReport
from dct_celery.core.run import events as ev
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.run.view import RunView
from dct_celery.core.text import plural
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

#: Milliseconds that one read of the stream waits.
_BLOCK = 100
#: Least seconds between two reads; and so many more for each slot, up to the most: the more there
#: are, the more each read finds, while a chunk that waits for each slot keeps them busy.
_PACE, _PACE_OF_SLOT, _MOST_PACE = 0.05, 0.0001, 0.2
#: Seconds between looks at the registry, and between summaries of the run for those who look at it.
_LOOK, _SUMMARY = 0.2, 2.0
#: Seconds between partial reports: at least so many, and so many times what the last one took.
_PARTIAL, _PARTIAL_COSTS = 10.0, 20.0
#: A look asks several questions one after the other: where the store is far away, so many times its
#: own length lies between two, up to the most seconds. Less often, the leases' clock would be held
#: to have stood still.
_REST_AFTER_LOOK, _LONGEST_REST = 4.0, 1.0
#: Seconds for which acknowledgements wait for an offer to go with: all that hangs on them is room
#: on the workers' disks.
_ACKNOWLEDGE = 0.25
#: Seconds to wait for the word of a worker that the system checks have passed: longer than a worker
#: gives them.
_CHECKS = 700.0
#: Seconds without anybody who could say so.
_NOBODY = 5.0
#: Rounds (of at most _BLOCK each) to wait for the ends of chunks whose tests all have verdicts.
_LAST_WORDS = 10
#: Seconds to wait for other workers when all that are there refused, or could not take part for
#: reasons that stay.
_REFUSED, _PERMANENT = 2.0, 4.0
#: Entries of one read of the stream.
_PAGE = 2000
#: Seconds for which all workers must have listened to another broker: they ask for its identity
#: every second, and beat as often.
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
        #: What is folded has happened before: nothing is done about it but to show the verdicts.
        self._replaying = False
        self._fell_back = False
        #: Where the stream was read to, and in which epoch of the run: another one has another
        #: stream.
        self._after, self._epoch = "0", stored_run.epoch
        #: What the store has still to be told, see `_write_due`: chunks by id, positions by
        #: attempt, the reason of a stop.
        self._due_offers: dict[str, Chunk] = {}
        self._due_positions: dict[str, int] = {}
        self._due_cancel: str | None = None
        self._acknowledged_at = 0.0
        self._began = services.clock()
        self._read_at = 0.0
        self._first_claim = 0.0
        self._store_lost = 0.0
        self._refused_since = self._permanent_since = 0.0
        #: Entries of the stream that were passed over.
        self._rejects = Rejects()
        #: Why the store has to be told the whole run again: somebody has meddled with it.
        self._meddled = ""
        #: "chunk.attempt" -> number of the last record that was heard, without a gap before it.
        self._sequences: dict[str, int] = {}
        self._reported_workers: WorkersChanged | None = None
        #: Epoch and entry of the stream up to which the store has a summary.
        self._summarized = (0, "")
        #: There is more in the stream than was read.
        self._behind = False
        self._next = {"look": 0.0, "broker": 0.0, "summary": 0.0}
        self._next["partial"] = self._began + _PARTIAL
        self._artifacts = ArtifactFetcher(services)
        self.worker_reports = WorkerReports(fleet, services.report)
        #: wait (manifest to first claim) and run (first claim to last verdict), in seconds.
        self.seconds: dict[str, float] = {}

    def follow(self, journal: Callable[[], Journal]) -> None:
        """Returns when the machine has finished. Raises Superseded when another dispatcher has
        adopted the run.
        """
        try:
            # Slots get their first chunks before the journal and its long head are written.
            self._try(lambda: self._look(self._services.clock()))
            self._try(self._write_due)
            self._journal = journal()
            while not self._machine.finished:
                self.step()
            self._await_checks()
            self._hear_out()
            self._try(lambda: self._write_due(at_once=True))
            self._try(lambda: self._artifacts.fetch(everything=True))
            for line in self._rejects.summary():
                self._services.report(Warned(line))
        finally:
            if self._journal is not None:
                self._journal.close()
            now = self._services.clock()
            first = self._first_claim or now
            self.seconds = {"wait": round(first - self._began, 3), "run": round(now - first, 3)}

    def catch_up(self, journal: Journal, *, whole: bool) -> None:
        """Folds what happened under another dispatcher: the journal, and then the store's stream if
        it is `whole`; else the run is put back into the store.
        """
        self._journal, self._replaying = journal, True
        seen = 0  # without a journal of ours, the stream alone has what came before it was put back
        for entry in journal.replay():
            if self._follows(entry):
                self._fold(entry)
            seen, self._after = entry.epoch, entry.id if entry.epoch == self._epoch else "0"
        if journal.passed_over:
            self._services.report(
                Warned(
                    f"{plural(journal.passed_over, 'damaged line')} of {journal.path} passed over"
                )
            )
        if whole:
            # A stream that was put back has what came before it among what came since.
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
        for chunk, lease, _ in self._machine.standing():
            if lease is None:
                self._act([ev.Offer(chunk)])
        if self._machine.stop is not None:
            self._act([ev.Cancel(self._machine.stop.reason)])
        # The dispatcher before may have died between journal and store.
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
        """No run has passed whose system checks nobody has seen pass."""
        deadline = self._services.clock() + _CHECKS
        while not self.worker_reports.checked and self._machine.stop is None:
            now = self._services.clock()
            if self._store_lost:
                # Nobody can be heard of; how long that may last is for `_without_store` to say.
                self.step()
                continue
            # Not at once when nobody is fit: a store that was wiped hears of its workers within
            # seconds.
            if now > deadline or now - self._fleet.last_fit > _NOBODY:
                reason = "no worker has reported the system checks of the project"
                self._act(self._machine.handle(ev.Stopped(reason, 7, late=True)))
            self.step()

    def _hear_out(self) -> None:
        """The end of a chunk follows its last record within moments, and carries the seconds of its
        slot and classes.
        """
        rounds = _LAST_WORDS
        while self._machine.busy and self._machine.stop is None and rounds:
            self.step()
            rounds -= 1

    def step(self) -> None:
        """One round: read, fold, look around, write."""
        # One wake-up for what many slots sent: on the workers' own machine each costs the tests
        # more than it is worth.
        self._services.sleep(
            max(self._read_at + _pace(self._fleet.slots) - self._services.clock(), 0.0)
        )
        now = self._read_at = self._services.clock()
        trouble = self._try(lambda: self._hear(now))
        # Also without a store: an interrupt and a time limit count at any time.
        trouble = self._try(lambda: self._mind(now)) or trouble
        trouble = trouble or self._try(self._write_due) or self._try(self._artifacts.fetch)
        if trouble:
            self._without_store(trouble, now)
        elif self._store_lost:
            self._store_lost = 0.0
            self._fleet.heard_again(self._services.clock())
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

    def _hear(self, now: float) -> None:
        if self._epoch != self._stored_run.epoch:
            self._after, self._epoch = "0", self._stored_run.epoch
        page = self._services.ledger.read(self._after, block_ms=_BLOCK, count=_PAGE)
        self._behind = len(page.entries) + len(page.rejected) >= _PAGE
        self._take(page)
        # Before the look, which compares what the store has with what it should have.
        self._write_due()
        self._look(now)

    def _mind(self, now: float) -> None:
        self._watch_limits(now)
        self._act(self._machine.handle(ev.Ticked(now, behind=self._behind)))

    def _take(self, page: Page) -> None:
        """Journals and folds; what is journalled is due to be acknowledged. What was put back into
        a new store is in the journal already.
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
        """Nothing of its attempt is missing before this entry. Where something is, somebody has
        meddled with the stream: what its worker still has of the attempt has to be sent again, and
        until then nothing more of it counts.
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
            self._meddled = f"has lost events of chunk {lease.chunk}"
            return False
        self._sequences[lease.key] = max(known, last)
        return True

    def _write(self, entries: list[StreamEntry]) -> dict[str, int]:
        """What may be acknowledged: nothing while the journal cannot be written, so that workers
        keep it.
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
        """Never raises: an entry is folded once, whatever becomes of what is to be done about it."""
        summary.take(self.view, entry, self._services.clock())
        event: ev.Event | None
        match entry.fact:
            case Reported(worker, report):
                event = self.worker_reports.hear(worker, report, again=self._replaying)
            case fact:
                event = fact
        if isinstance(event, ev.Ended):
            self.worker_reports.databases.add(event.end.databases)
            if (
                isinstance(event.end, ev.ChunkReleased)
                and event.end.why is ev.ReleaseReason.UNTRUSTED
            ):
                self._meddled = f"has another chunk in the place of {event.lease.chunk}"
        if event is not None:
            self._act(self._machine.handle(event))

    def _act(self, effects: list[ev.Effect]) -> None:
        """Does what concerns people; what the store has to be told is due at the end of the round.
        Of what happened under another dispatcher nothing is done but to show the verdicts.
        """
        services = self._services
        for effect in effects:
            match effect:
                case ev.Judge(verdict):
                    self.view.judge(verdict, services.clock())
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

    def _write_due(self, *, at_once: bool = False) -> None:
        """One round trip for all that the store has to be told, and one for the broker. What the
        store cannot take now stays due: a lost offer is a test that never runs. `at_once`:
        acknowledgements, too, wait for nothing. Raises StoreUnavailable, Superseded.
        """
        ledger, offers, now = (
            self._services.ledger,
            list(self._due_offers.values()),
            self._services.clock(),
        )
        if offers or (
            self._due_positions and (at_once or now - self._acknowledged_at >= _ACKNOWLEDGE)
        ):
            ledger.commit(offers, self._due_positions)
            self._due_offers, self._due_positions = {}, {}
            self._acknowledged_at = now
        if offers:
            self._publish(offers)
        if self._due_cancel is not None:
            ledger.cancel(self._due_cancel)
            self._due_cancel = None

    def _publish(self, chunks: list[Chunk]) -> None:
        services = self._services
        try:
            services.queue.publish(
                *(
                    services.door.seal(ChunkHint(services.run, chunk.id, chunk.attempt))
                    for chunk in chunks
                )
            )
        except BrokerUnavailable as error:
            # A lost message is published again when nobody claims its chunk.
            services.report(Warned(str(error)))

    # -- looking around ----------------------------------------------------------------

    def _due(self, what: str, now: float, pause: float) -> bool:
        if now < self._next[what]:
            return False
        self._next[what] = now + pause
        return True

    def _look(self, now: float) -> None:
        services = self._services
        if self._due("look", now, _LOOK):
            begun = services.clock()
            self._stored_run.tend()
            if (not self._fleet.broker or self._fleet.elsewhere_since) and self._due(
                "broker", now, 1.0
            ):
                # Asked again: a broker that lost its data has another identity for both sides, one
                # after the other.
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
            services.ledger.reap()
            for line in services.registry.complaints():
                services.report(Warned(line))
            if trouble := self._meddled or self._stored_run.trouble(
                now, self._machine, caught_up=not self._behind
            ):
                self._reopen(trouble)
            self._look_for_cancel()
            ended = services.clock()
            rest = min(_REST_AFTER_LOOK * (ended - begun), _LONGEST_REST)
            self._next["look"] = max(self._next["look"], ended + rest)
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
        """For those who look at the run: they read the stream from here on."""
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
        """What a run that does not get on waits for; empty while it does."""
        if self._store_lost:
            return "the store is away"
        if self._machine.finished:
            return "" if self.worker_reports.checked else "waiting for the project's system checks"
        if self._machine.stop is not None:
            return "stopping"
        return "" if self._machine.busy else self._fleet.awaited()

    def _reopen(self, trouble: str) -> None:
        """A store that may have lost something holds the whole run again. Slots that hold leases go
        on.
        """
        if self._journal is None:
            return  # before the first round: the next look comes at once
        self._stored_run.reopen(self._machine, self._journal)
        self._meddled = ""
        self._services.report(
            Warned(
                f"the store {trouble}; the run goes on in it from the journal, as epoch"
                f" {self._stored_run.epoch}"
            )
        )
        # It holds them already; what is due is their messages.
        self._due_offers = {
            chunk.id: chunk for chunk, lease, _ in self._machine.standing() if lease is None
        }
        self._due_positions = {}

    def _look_for_cancel(self) -> None:
        """Somebody else may have cancelled the run in the store; our own cancels come from a stop."""
        if self._machine.stop is None and self._stored_run.state is RunState.CANCELLED:
            reason = self._services.ledger.reason() or "cancelled by dct cancel"
            self._act(
                self._machine.handle(ev.Stopped(reason, 2, late=not self.worker_reports.checked))
            )

    def _watch_limits(self, now: float) -> None:
        settings = self._services.settings
        late = not self.worker_reports.checked  # all verdicts are there, but the run is not over
        if self._services.interrupted():
            self._act(self._machine.handle(ev.Stopped("interrupted", 2, late=late)))
        if not self._machine.stop and (trouble := self._services.fleet_trouble()):
            line, _, detail = trouble.partition("\n")
            self._services.report(Warned(line + indented(detail)))
            self._act(self._machine.handle(ev.Stopped(line, 7, late=late)))
        if settings.timeout and now - self._began > settings.timeout:
            reason = f"the run took longer than {settings.timeout:g} s (--timeout)"
            self._act(self._machine.handle(ev.Stopped(reason, 7, late=late)))
        # Slots of this machine take what the pool cannot.
        last_hope = self._services.fall_back is None or self._fell_back
        misled = self._fleet.elsewhere_since and now - self._fleet.elsewhere_since > ELSEWHERE
        if last_hope and misled and not self._machine.busy:
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
            (self._permanent_since or now) if last_hope and self._fleet.permanent else 0.0
        )
        pool = f"no worker of pool {settings.pool!r} takes the run"
        if self._permanent_since and now - self._permanent_since > _PERMANENT:
            self._act(self._machine.handle(ev.Stopped(f"{pool}: {self._fleet.reasons()}", 4)))
        elif self._refused_since and now - self._refused_since > _REFUSED:
            code = 4 if self._fleet.permanent else 7
            self._act(self._machine.handle(ev.Stopped(f"{pool}: {self._fleet.reasons()}", code)))

    def _fall_back(self, now: float) -> None:
        """Once, when nobody of the pool has been there for long."""
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
        many = (
            f"{slots} slots of this machine take" if slots > 1 else "one slot of this machine takes"
        )
        self._services.report(
            Warned(f"no worker was there for {after:g} s (--fallback-after); {many} the run")
        )
        self._fleet.last_usable = now

    def _without_store(self, error: StoreUnavailable, now: float) -> None:
        if not self._store_lost:
            self._services.report(Warned(f"{error}; trying again for {PATIENCE:.0f} s"))
            self._store_lost = now
        elif now - self._store_lost > PATIENCE:
            # Its effects need the store that is not there.
            self._machine.handle(
                ev.Stopped(
                    f"the store did not come back: {error}", 7, late=not self.worker_reports.checked
                )
            )


def _pace(slots: int) -> float:
    return min(_PACE + slots * _PACE_OF_SLOT, _MOST_PACE)
