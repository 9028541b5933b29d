"""The run as a state machine: events in, effects out, nothing else.

Rules

1. The manifest decides: the run is finished when every entry has a disposition, and not before
(I1).

2. A verdict is given once. A record counts for the tests of the chunk whose lease its sender holds,
for as long as it holds it: the store refuses stale fences (I2), and beyond that this machine trusts
neither the store nor a worker (I11). What reached the stream before its lease ended stands.

3. What a lease leaves without a verdict goes into a new chunk, to run in a fresh fork (a class
never runs twice in one process), on another worker if there is one. Crashes of processes are
handled by `core.run.blame` (I8).

4. Infrastructure never gives a verdict: entries that were lost `MAX_LOSSES` times are `not_run`,
and the run ends with 7 (I7).

5. A tear-down without a report may have failed: when a lease is lost, or the process died in the
tear-down, the last test that was recorded runs again if nothing else of its class does, for the
sake of the fixtures; its own verdict stands.

6. A failure that --reruns doubts is not a verdict yet: its entry stays open, and runs again alone
when its chunk has ended. A pass is then its verdict; if no rerun comes to an end, its last failure
is, never `not_run`.

7. A bad verdict from a process whose past was not that of the sequential run may be due to order:
its entry stays open until `core.run.doubts` has settled it.

8. What the session's tear-down fails with in any process is judged when all tests are: it is an
error of the run, unless the suite's last test has it, which is where the sequential run reports it.

9. Nothing is offered after a stop. What is running may end; the rest is `not_run` with the reason
of the stop.

    Chunks:   queued ─claimed─▶ leased ─completed─▶ done
                ▲                  └─released | expired─▶ done; what it left is queued in new chunks

A new attempt is a new chunk, so there is never a queued chunk of an outdated attempt.

The same events in the same order give the same state, whoever handles them: `dct attach` replays
the journal without any slots, so that only past offers are repeated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from dct_celery.core.model import (
    BAD_OUTCOMES,
    END_OF_SESSION,
    Chunk,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Manifest,
    Outcome,
    Verdict,
)
from dct_celery.core.plan.planner import Planner
from dct_celery.core.run import blame
from dct_celery.core.run import events as ev
from dct_celery.core.run.doubts import AnyVerdict, Doubts
from dct_celery.core.run.events import ChunkCompleted, ChunkReleased, ReleaseReason
from dct_celery.core.run.flight import Flight, InFlight
from dct_celery.core.run.leaks import Leaks
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.left_behind import LeftBehind
from dct_celery.core.run.near_limits import NearLimits
from dct_celery.core.run.pasts import Pasts
from dct_celery.core.run.records import FixtureRecord, TestRecord
from dct_celery.core.run.reruns import Reruns
from dct_celery.core.run.uses import FixtureUses
from dct_celery.core.text import plural

#: An entry that was lost with its slot this often is given up.
MAX_LOSSES = 3
#: An entry whose slot could not get its databases this often is given up. Other slots try it first,
#: and slots back off.
MAX_UNREADY = 8
#: Processes that end because of a failure; after so many the suite is broken, and it would take
#: long.
MOST_SPOILT = 20
#: Seconds after which an unclaimed chunk is published again while a slot is idle.
CLAIM_SECONDS = 3.0
#: Seconds that slots get to finish after a stop.
STOP_GRACE = 10.0
#: Stream entries that a dispatcher can handle each second without falling behind.
ENTRIES_PER_SECOND = 4000
#: Least and most seconds for which slots collect records, to keep within that rate.
BATCH_SECONDS = (0.05, 1.0)
#: Reasons of a release after which the fixtures of the last test's class and module were not torn
#: down.
_ABRUPT = frozenset(
    {ReleaseReason.DRAIN, ReleaseReason.SILENCE, ReleaseReason.DATABASE, ReleaseReason.LOADER}
)
#: Reasons of a release of a probe after which another try would end in the same way.
_PROBE_HOPELESS = frozenset(
    {ReleaseReason.CRASH, ReleaseReason.TIMEOUT, ReleaseReason.SILENCE, ReleaseReason.PREAMBLE}
)
#: Those that a test may be to blame for.
_DEATHS = frozenset({ReleaseReason.CRASH, ReleaseReason.TIMEOUT})
#: Reasons of a release that do not count as a loss.
_INNOCENT = frozenset(
    {ReleaseReason.DRAIN, ReleaseReason.TIMEOUT, ReleaseReason.CANCELLED, ReleaseReason.UNTRUSTED}
)


@dataclass(slots=True)
class SlotUse:
    """What one slot did in this run."""

    busy_seconds: float = 0.0
    chunks: int = 0


@dataclass(slots=True)
class RunMachine:
    """One run. `handle` is its only door."""

    manifest: Manifest
    planner: Planner
    #: Stop after this many failures; 0: never.
    maxfail: int = 0
    reruns: Reruns = field(default_factory=Reruns)
    deaths: blame.Deaths = field(default_factory=blame.Deaths)
    leaks: Leaks = field(default_factory=Leaks)
    left_behind: LeftBehind = field(default_factory=LeftBehind)
    near_limits: NearLimits = field(default_factory=NearLimits)
    fixture_uses: FixtureUses = field(default_factory=FixtureUses)
    #: None: no verdict is doubted.
    doubts: Doubts | None = None
    now: float = 0.0
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    fixtures: dict[tuple[FixtureRef, Outcome], FixtureVerdict] = field(default_factory=dict)
    slots_used: dict[tuple[str, int], SlotUse] = field(default_factory=lambda: defaultdict(SlotUse))
    class_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stop: ev.Stopped | None = None
    #: Entries without a verdict because of infrastructure.
    lost: set[int] = field(default_factory=set)
    _flight: Flight = field(default_factory=Flight)
    #: Tests with verdicts that run again because no report of the tear-down behind them has
    #: arrived.
    _owed: set[int] = field(default_factory=set)
    #: Of chunks that came to their end.
    _pasts: Pasts = field(default_factory=Pasts)
    #: Records and ends that were ignored, because their lease is not held or does not cover them.
    strays: int = 0
    #: Processes that ended because of a failure.
    _spoilt: int = 0
    #: What the tear-down of the session came to in processes that had not the last test.
    _torn_down: list[FixtureVerdict] = field(default_factory=list)
    #: Slots with a process that has still to tear it down.
    _sessions: set[tuple[str, int]] = field(default_factory=set)
    _closed: bool = False
    #: Most slots that work at a time; None: all that there are.
    most_slots: int | None = None
    _slots: int = 0
    #: There are more slots than may work.
    _capped: bool = False
    _ready: int = 0
    _workers: int = 1
    _bad: int = 0
    _losses: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _unready: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _stopped_at: float = 0.0
    _stopped_by_failures: bool = False
    #: When every slot had a lease for the last time.
    _idle_since: float = 0.0

    def handle(self, event: ev.Event) -> list[ev.Effect]:
        """Takes one fact and returns what to do about it, in order."""
        return self._handled(event) + self._fill() + self._close()

    def _handled(self, event: ev.Event) -> list[ev.Effect]:
        match event:
            case ev.Offered():
                return self._offered(event)
            case ev.Claimed():
                return self._claimed(event)
            case ev.Recorded():
                return self._recorded(event)
            case ev.Ended(lease, _, end):
                return self._ended(lease, end)
            case ev.Avoided():
                return self._avoided(event)
            case ev.Expired():
                return self._expired(event)
            case ev.SlotsChanged():
                return self._slots_changed(event)
            case ev.Ticked():
                return self._ticked(event)
            case ev.Stopped():
                return self._stopped(event)
            case _:
                assert_never(event)

    @property
    def finished(self) -> bool:
        if self.doubts is not None and self.doubts.pending:
            return False
        return len(self.verdicts) == len(self.manifest) and not self._owed

    @property
    def exhausted(self) -> bool:
        """Nothing more is planned than what is on offer or runs."""
        return self.planner.empty

    @property
    def busy(self) -> int:
        """Slots that hold a lease."""
        return len(self._flight.leased)

    @property
    def settling(self) -> int:
        """Classes in doubt, once nothing else is left to do."""
        if self.doubts is None or any(
            not held.chunk.probe for held in self._flight.leased.values()
        ):
            return 0
        return self.doubts.count

    @property
    def waits_for_probes(self) -> str:
        """What is still being settled, once nothing else is left to do; else empty."""
        if self.doubts is None or not self.settling:
            return ""
        answered = plural(self.doubts.answered, "probe")
        return f"settling whether failures depend on order, {answered} so far"

    @property
    def started(self) -> bool:
        """Some slot has claimed something."""
        return bool(self._flight.leased or self.verdicts or self.slots_used)

    def outstanding(self) -> list[tuple[Chunk, LeaseRef | None, int]]:
        """(chunk, lease or None while it waits, ms of the lease) of every chunk in flight."""
        return [(held.chunk, held.lease, held.lease_ms) for held in self._flight]

    @property
    def note(self) -> str:
        """Why the run ended early, and how many failures came after that; empty if it did not."""
        if self.stop is None:
            return ""
        more = self._bad - self.maxfail
        if not self._stopped_by_failures or more <= 0:
            return self.stop.reason
        return f"{self.stop.reason}; {more:,} more in chunks that were running"

    def fixture_verdicts(self) -> tuple[FixtureVerdict, ...]:
        """Each fixture event once, with the entries that it kept from running."""
        covered: dict[FixtureRef, list[int]] = defaultdict(list)
        for index, verdict in sorted(self.verdicts.items()):
            if verdict.covered_by:
                covered[verdict.covered_by].append(index)
        return tuple(
            replace(fixture, covers=tuple(covered[fixture.fixture]))
            for fixture in self.fixtures.values()
        )

    def exit_code(self) -> int:
        """By I10. A deliberate stop has its own code; a lost entry outweighs failures."""
        if self.stop is not None:
            return self.stop.exit_code
        if self.lost:
            return 7
        return 1 if self._bad else 0

    # -- events ----------------------------------------------------------------

    def _offered(self, event: ev.Offered) -> list[ev.Effect]:
        """Only a replay learns of a chunk here: it takes the plan from past offers.

        What was offered depended on which slots were there at the time.
        """
        chunk = event.chunk
        if not self._flight.was_offered(chunk):
            self.planner.take(chunk)
            if chunk.probe and (self.doubts is None or not self.doubts.offered(chunk)):
                return []
            self._flight.queue(chunk, self.now)
        return []

    def _claimed(self, event: ev.Claimed) -> list[ev.Effect]:
        self._flight.claim(event.lease, event.lease_ms, self.now)
        # At the end of this chunk it says again whether its process has a session.
        self._sessions.discard((event.lease.worker, event.lease.slot))
        return []

    def _recorded(self, event: ev.Recorded) -> list[ev.Effect]:
        held = self._flight.held(event.lease)
        if held is None:
            self.strays += len(event.records)
            return []
        effects: list[ev.Effect] = []
        for record in event.records:
            if isinstance(record, TestRecord) and record.index not in held.members:
                self.strays += 1
                continue
            if isinstance(record, FixtureRecord) and record.fixture == END_OF_SESSION:
                self._torn_down.append(record.verdict(event.lease))
                continue
            if held.chunk.probe:
                if self.doubts is not None:
                    self.doubts.record(held.chunk, record, event.lease)
                continue
            match record:
                case TestRecord():
                    held.last = record.index
                    effects += self._test(record, held.chunk, event.lease)
                case FixtureRecord():
                    verdict = record.verdict(event.lease)
                    if not self._held_back(held.chunk, verdict):
                        effects += self._judge_fixture(verdict)
                case _:
                    assert_never(record)
        return effects

    def _ended(self, lease: LeaseRef, end: ev.ChunkEnd) -> list[ev.Effect]:
        held = self._end(lease, end.busy_seconds, end)
        if held is None:
            self.strays += 1
            return []
        self._sessions.discard((lease.worker, lease.slot))
        if isinstance(end, ChunkCompleted) and end.session:
            self._sessions.add((lease.worker, lease.slot))
        if held.chunk.probe:
            return self._probe_ended(held.chunk, end)
        return self._settle_order(held.chunk, lease, end) + self._left_by(held, lease, end)

    def _left_by(self, held: InFlight, lease: LeaseRef, end: ev.ChunkEnd) -> list[ev.Effect]:
        """What an attempt that has ended leaves to do."""
        match end:
            case ChunkCompleted():
                return self._completed(held.chunk, lease, end)
            case ChunkReleased():
                if end.in_tear_down:
                    # This report is about the tear-down itself.
                    self._owed.difference_update(held.chunk.indices)
                return self._owe(held, lease, end) + self._released(held, lease, end)
            case _:
                assert_never(end)

    def _completed(self, chunk: Chunk, lease: LeaseRef, end: ChunkCompleted) -> list[ev.Effect]:
        if not self.reruns.repeats(chunk):  # a class's cost would count twice
            for name, seconds in end.class_seconds.items():
                self.class_seconds[name] += seconds
        # Records and end come from one holder in one order, so only `left` should be open here;
        # anything else that is open runs again.
        loss = "" if end.left else "its records did not arrive"
        if set(chunk.indices) <= set(end.left):
            # Counted, so that it ends: a result class may stop before the first test each time.
            loss = f"it was stopped before its first test ({end.stopped})"
        self._owed.difference_update(chunk.indices)
        leaks = self.leaks.add(self.manifest, chunk.indices, end.leaks, lease.worker, lease.slot)
        self.fixture_uses.add(lease.worker, end.fixtures)
        near = self.near_limits.chunk(chunk, end.busy_seconds, end.fixtures)
        return [
            *(ev.Warn(text) for text in leaks),
            *(ev.Warn(text) for text in near),
            *self._rerun(chunk, lease),
            *self._again(chunk, self._open(chunk), loss=loss),
        ]

    def _released(self, held: InFlight, lease: LeaseRef, end: ChunkReleased) -> list[ev.Effect]:
        chunk = held.chunk
        if end.why is ReleaseReason.CRASH:
            return self._crashed(held, lease, end)
        if end.why is ReleaseReason.UNREADY:
            return self._passed_on(chunk, lease, end)
        if end.why is ReleaseReason.PREAMBLE:
            return self._without_preamble(chunk)
        # The fixture that exceeded its limit has a record; the manifest says what it kept from
        # running.
        timed_out = end.fixture if end.why is ReleaseReason.TIMEOUT else None
        covered = self._cover(chunk, timed_out) if timed_out is not None else []
        # A set-up that covers nothing gives no verdict: uncounted, it would be repeated forever.
        innocent = end.why in _INNOCENT and (
            covered or end.fixture is None or not end.fixture.sets_up
        )
        loss = ""
        if not innocent:
            loss = f"{end.why}: {end.cause}" if end.cause else end.why.value
        return covered + self._rest(chunk, lease, loss)

    def _expired(self, event: ev.Expired) -> list[ev.Effect]:
        held = self._end(event.lease, 0.0)
        if held is None:
            return []
        if held.chunk.probe:
            return self._probe_ended(held.chunk, None)
        return (
            self._settle_order(held.chunk, event.lease, None)
            + self._owe(held, event.lease)
            + self._rest(held.chunk, event.lease, "its lease ran out")
        )

    def _owe(
        self, held: InFlight, lease: LeaseRef, end: ChunkReleased | None = None
    ) -> list[ev.Effect]:
        """Queues tests again if the attempt ended, as far as we know, without a tear-down.

        `end`: the report of its release; None if its lease ran out.
        """
        chunk, last = held.chunk, held.last
        why = end.why if end is not None else None
        abrupt = end is None or end.why in _ABRUPT or self._died_in_tear_down(end)
        # What this attempt owed is still owed.
        owed = [index for index in chunk.indices if index in self._owed]
        if last is not None and last not in owed and abrupt:
            cls = self.manifest[last].cls
            again = {*self._open(chunk), *self.reruns.held(chunk)} - self.verdicts.keys()
            if not any(self.manifest[index].cls == cls for index in again):
                owed.append(last)
        if self.stop is not None:
            return []
        effects: list[ev.Effect] = []
        tries, most = self._losses, MAX_LOSSES
        if why is ReleaseReason.UNREADY:
            tries, most = self._unready, MAX_UNREADY
        for index in owed:
            tries[index] += 1
            if tries[index] >= most:
                self._owed.discard(index)
                self.lost.add(index)
                effects.append(
                    ev.Warn(
                        f"no report of the tear-down behind {self.manifest[index].id} in"
                        f" {most} attempts"
                    )
                )
                continue
            self._owed.add(index)
            self.planner.requeue(
                chunk, (index,), fresh_process=True, avoid_worker=self._elsewhere(lease)
            )
        return effects

    def _died_in_tear_down(self, end: ChunkReleased) -> bool:
        """Whether this is the first death in this tear-down: something else may have caused it."""
        if end.why is not ReleaseReason.CRASH or end.fixture is None or end.fixture.sets_up:
            return False
        return not self.deaths.suspected(end.fixture)

    def _avoided(self, event: ev.Avoided) -> list[ev.Effect]:
        held = self._flight.queued.get(event.lease.chunk)
        return [ev.Republish(held.chunk)] if held is not None else []

    def _slots_changed(self, event: ev.SlotsChanged) -> list[ev.Effect]:
        self._slots = min(event.slots, self.most_slots or event.slots)
        self._capped = event.slots > self._slots
        self._ready = event.ready
        self._workers = event.workers
        return []

    def _ticked(self, event: ev.Ticked) -> list[ev.Effect]:
        self.now = event.now
        if self.stop is not None:
            self._owed.clear()
            over = not self._flight.leased or self.now - self._stopped_at > STOP_GRACE
            return self._give_up_all(self.stop.reason) if over else []
        if self._ready <= len(self._flight.leased) or event.behind:
            self._idle_since = self.now
            return []
        late = self._flight.late(self.now, self._idle_since, CLAIM_SECONDS)
        return [ev.Republish(chunk) for chunk in late]

    def _stopped(self, event: ev.Stopped) -> list[ev.Effect]:
        if self.stop is not None or (self.finished and not event.late):
            return []
        self.stop = event
        self._stopped_at = self.now
        self._flight.withdraw()
        return [ev.Cancel(event.reason)]

    # -- verdicts --------------------------------------------------------------

    def _test(self, record: TestRecord, chunk: Chunk, lease: LeaseRef) -> list[ev.Effect]:
        index = record.index
        if index in self.verdicts or self.reruns.has_result(index, lease.chunk):
            return []
        if self.doubts is not None:
            if self.doubts.holds(index):
                return []
            self.doubts.measure(record)
        verdict = record.verdict(self.manifest[index], lease)
        if verdict.left_out:
            return [
                ev.Warn(f"{verdict.entry.id} never started: the project's own code left it out"),
                *self._judge(verdict),
            ]
        if verdict.outcome is Outcome.NOT_RUN and not verdict.covered_by:
            return []  # the process skipped it without a reason: it stays open and runs again
        if self.stop is None and self.reruns.hold(lease.chunk, verdict):
            return [
                ev.Warn(f"{verdict.entry.id} failed on {lease.place}; it runs again (--reruns)")
            ]
        warning = self.reruns.budget_warning()
        effects: list[ev.Effect] = [ev.Warn(warning)] if warning else []
        effects += (ev.Warn(text) for text in self.near_limits.test(verdict, chunk))
        settled = self.reruns.settle(verdict)
        return effects if self._held_back(chunk, settled) else effects + self._judge(settled)

    def _held_back(self, chunk: Chunk, verdict: AnyVerdict) -> bool:
        """Whether the verdict waits for the end of its chunk, since order may be its cause."""
        if self.doubts is None or self.stop is not None:
            return False
        if isinstance(verdict, FixtureVerdict) and self._known_fixture(verdict):
            return False
        return self.doubts.hold(chunk, verdict)

    def _known_fixture(self, fixture: FixtureVerdict) -> bool:
        return (fixture.fixture, fixture.outcome) in self.fixtures

    def _judge(self, verdict: Verdict) -> list[ev.Effect]:
        if self.doubts is not None and verdict.worker is not None:
            verdict = self.doubts.noted(verdict)
        self.verdicts[verdict.entry.index] = verdict
        effects: list[ev.Effect] = [ev.Judge(verdict)]
        if verdict.outcome in BAD_OUTCOMES:
            effects += self._count_bad()
        return effects

    def _judge_fixture(self, fixture: FixtureVerdict) -> list[ev.Effect]:
        if self._known_fixture(fixture):
            return []
        self.fixtures[fixture.fixture, fixture.outcome] = fixture
        effects: list[ev.Effect] = [ev.JudgeFixture(fixture)]
        if fixture.outcome in BAD_OUTCOMES:
            effects += self._count_bad()
        return effects

    def _close(self) -> list[ev.Effect]:
        """All tests have been judged: now the session is, too."""
        if self._closed or not self.finished:
            return []
        self._closed = True
        effects: list[ev.Effect] = []
        last = self.verdicts.get(len(self.manifest.entries) - 1)
        if self._torn_down and (last is None or last.outcome is not Outcome.ERROR):
            failures = {_gist(one): one for each in self._torn_down for one in each.failures}
            first = replace(self._torn_down[0], failures=tuple(failures.values()))
            effects += self._judge_fixture(first)
        if self._sessions and self.stop is None:
            names = ", ".join(f"{worker} slot {slot}" for worker, slot in sorted(self._sessions))
            effects.append(
                ev.Warn(
                    f"the run ended while a process of {names} had fixtures of pytest's session to"
                    " tear down: an error of that is in the worker's log alone"
                )
            )
        return effects

    def _cover(self, chunk: Chunk, fixture: FixtureRef) -> list[ev.Effect]:
        """Verdicts for what the chunk cannot run because this fixture did not end."""
        effects: list[ev.Effect] = []
        for index in blame.covered_by(fixture, self.manifest, self._open(chunk)):
            covered = Verdict(self.manifest[index], Outcome.NOT_RUN, covered_by=fixture)
            effects += self._judge(self.reruns.settle(covered))
        return effects

    def _count_bad(self) -> list[ev.Effect]:
        self._bad += 1
        if not self.maxfail or self._bad < self.maxfail or self.stop is not None:
            return []
        option = "--failfast" if self.maxfail == 1 else f"--maxfail {self.maxfail}"
        self._stopped_by_failures = True
        return self._stopped(
            ev.Stopped(f"stopped after {plural(self._bad, 'failure')} ({option})", 1)
        )

    # -- losses ----------------------------------------------------------------

    def _end(
        self, lease: LeaseRef, busy_seconds: float, end: ev.ChunkEnd | None = None
    ) -> InFlight | None:
        held = self._flight.end(lease)
        if held is None:
            return None
        self.left_behind.add(lease, held.chunk, end)
        use = self.slots_used[lease.worker, lease.slot]
        use.busy_seconds += busy_seconds
        use.chunks += 1
        return held

    def _open(self, chunk: Chunk) -> tuple[int, ...]:
        """Tests without a result of this chunk; results that are held back are left to `_rerun`."""
        return tuple(
            i
            for i in chunk.indices
            if i not in self.verdicts
            and not self.reruns.has_result(i, chunk.id)
            and not (self.doubts is not None and self.doubts.holds(i))
        )

    def _all_open(self) -> tuple[int, ...]:
        return tuple(entry.index for entry in self.manifest if entry.index not in self.verdicts)

    def _crashed(self, held: InFlight, lease: LeaseRef, end: ChunkReleased) -> list[ev.Effect]:
        """Blames the crash on a suspect, which runs again alone or has its verdict.

        The rest runs elsewhere. For a tear-down, `_owe` has queued the test before it, if any.
        """
        chunk = held.chunk
        self.deaths.total += 1
        open_ = self._open(chunk)
        suspects: tuple[int, ...] = ()
        if end.fixture is not None:
            suspects = blame.covered_by(end.fixture, self.manifest, open_)
        elif end.index in open_:
            suspects = (end.index,)
        known = bool(suspects) or end.in_tear_down
        effects = self._accuse(held, suspects, lease, end) if known else []
        loss = "" if known else f"crash: {end.cause}"
        rest = tuple(index for index in open_ if index not in suspects)
        effects += self._rerun(chunk, lease) + self._again(chunk, rest, loss=loss, where=lease)
        if why := self.deaths.exceeded(self._flight.claims):
            effects += self._stopped(ev.Stopped(why, 7))
        return effects

    def _accuse(
        self, held: InFlight, suspects: tuple[int, ...], lease: LeaseRef, end: ChunkReleased
    ) -> list[ev.Effect]:
        last_chance = end.in_tear_down and held.last is None  # no test could run again for it
        if self.deaths.blame(end.fixture or suspects[0]) or last_chance:
            if end.fixture is not None:
                verdict = blame.death_of_fixture(end.fixture, lease, end)
                return self._judge_fixture(verdict) + self._cover(held.chunk, end.fixture)
            death = blame.death_of_test(self.manifest[suspects[0]], lease, end)
            return self._judge(self.reruns.settle(death))
        if self.stop is not None:
            return []
        if suspects:
            self.planner.requeue(
                held.chunk, suspects, fresh_process=True, avoid_worker=self._elsewhere(lease)
            )
        what = end.fixture or self.manifest[suspects[0]].id
        return [
            ev.Warn(f"a test process {blame.how(end.cause)} during {what}; it runs again alone")
        ]

    def _without_preamble(self, chunk: Chunk) -> list[ev.Effect]:
        """What ran before the chunk died or hung; its own tests are not to blame."""
        self.deaths.total += 1
        effects = self._again(replace(chunk, preamble=()), self._open(chunk), loss="")
        if why := self.deaths.exceeded(self._flight.claims):
            effects += self._stopped(ev.Stopped(why, 7))
        return effects

    def _elsewhere(self, lease: LeaseRef) -> str:
        """The worker that the next attempt should avoid, if there is another one."""
        return lease.worker if self._workers > 1 else ""

    def _rest(self, chunk: Chunk, lease: LeaseRef, loss: str) -> list[ev.Effect]:
        return self._rerun(chunk, lease) + self._again(
            chunk, self._open(chunk), loss=loss, where=lease
        )

    def _passed_on(self, chunk: Chunk, lease: LeaseRef, end: ChunkReleased) -> list[ev.Effect]:
        """A slot without databases backs off. Nothing was lost, unless no slot can get any."""
        effects: list[ev.Effect] = [
            ev.Warn(f"{lease.place} backs off, its tests go elsewhere: {end.cause}")
        ]
        for index in self._open(chunk):
            self._unready[index] += 1
        hopeless = tuple(
            index for index in self._open(chunk) if self._unready[index] >= MAX_UNREADY
        )
        effects += self._give_up(
            hopeless,
            f"no slot got its databases in {MAX_UNREADY} attempts: {end.cause}",
            lost=True,
        )
        return effects + self._rest(chunk, lease, loss="")

    def _rerun(self, chunk: Chunk, lease: LeaseRef) -> list[ev.Effect]:
        """Failures that this attempt left in doubt run again, each alone in a fresh fork.

        They are final if too many tests failed.
        """
        open_ = tuple(index for index in self.reruns.held(chunk) if index not in self.verdicts)
        if self.reruns.exhausted:
            return self._give_up(open_, "", lost=False)
        for index in open_:
            self.planner.requeue(
                chunk, (index,), fresh_process=True, avoid_worker=self._elsewhere(lease)
            )
        return []

    def _again(
        self, chunk: Chunk, indices: tuple[int, ...], *, loss: str, where: LeaseRef | None = None
    ) -> list[ev.Effect]:
        """Queues what an attempt left open, or gives up what infrastructure lost too often."""
        if not indices or self.stop is not None:
            return []
        effects: list[ev.Effect] = []
        if loss:
            for index in indices:
                self._losses[index] += 1
            place = f" on {where.place}" if where else ""
            have = "has" if len(indices) == 1 else "have"
            effects.append(
                ev.Warn(f"{plural(len(indices), 'test')}{place} {have} to run again: {loss}")
            )
        hopeless = tuple(index for index in indices if self._losses[index] >= MAX_LOSSES)
        effects += self._give_up(
            hopeless, f"lost {MAX_LOSSES} times, the last time: {loss}", lost=True
        )
        rest = tuple(index for index in indices if index not in self.verdicts)
        if rest:
            self.planner.requeue(
                chunk,
                rest,
                fresh_process=True,
                avoid_worker=self._elsewhere(where) if where and loss else "",
            )
        return effects

    def _give_up(self, indices: Iterable[int], reason: str, *, lost: bool) -> list[ev.Effect]:
        """The verdict of what will not run any more.

        `not_run`, or the last failure of a test whose rerun did not come to its end.
        """
        effects: list[ev.Effect] = []
        for index in indices:
            failed = self.reruns.last(index)
            if lost and failed is None:
                self.lost.add(index)
            effects += self._judge(
                failed or Verdict(self.manifest[index], Outcome.NOT_RUN, reason=reason)
            )
        return effects

    def _give_up_all(self, reason: str) -> list[ev.Effect]:
        """After a stop: what is in doubt stays bad, what is open never runs."""
        doubted = self.doubts.give_up() if self.doubts is not None else []
        return self._final(doubted) + self._give_up(self._all_open(), reason, lost=False)

    # -- order -----------------------------------------------------------------

    def _settle_order(
        self, chunk: Chunk, lease: LeaseRef, end: ev.ChunkEnd | None
    ) -> list[ev.Effect]:
        """Now that the chunk has ended, the past of its process is known; `end`: None if lost."""
        if self.doubts is None:
            return []
        if isinstance(end, ChunkReleased) and end.why in _PROBE_HOPELESS and end.index is not None:
            self.doubts.fatal.add(self.doubts.position(end.index))
        past = self._pasts.before(chunk, lease, end)
        if past is not None and isinstance(end, ChunkCompleted):
            self._pasts.add(lease, end, (*past, *chunk.indices))
        if chunk.ends_if_bad and self.doubts.has_held(chunk):
            self._spoilt += 1
            if self._spoilt >= MOST_SPOILT:
                self.planner.separate_failures = False
        before = None if past is None else self.doubts.positions(past)
        return self._final(self.doubts.chunk_ended(chunk, before))

    def _final(self, verdicts: Iterable[AnyVerdict]) -> list[ev.Effect]:
        """Judges what is in doubt no longer."""
        effects: list[ev.Effect] = []
        for verdict in verdicts:
            if isinstance(verdict, FixtureVerdict):
                effects += self._judge_fixture(verdict)
            elif verdict.entry.index not in self.verdicts:
                effects += self._judge(verdict)
        return effects

    def _probe_ended(self, chunk: Chunk, end: ev.ChunkEnd | None) -> list[ev.Effect]:
        """`end`: None if its lease ran out."""
        if self.doubts is None or self.stop is not None:
            return []
        seconds = end.busy_seconds if end is not None else chunk.estimate
        answered = isinstance(end, ChunkCompleted) and not end.left
        if isinstance(end, ChunkReleased) and end.why in _DEATHS:
            answered = self.doubts.died_of(chunk, end.index, end.fixture)
        if answered:
            return self._final(self.doubts.probe_ended(chunk, seconds))
        hopeless = isinstance(end, ChunkCompleted) or (
            end is not None and end.why in _PROBE_HOPELESS
        )
        return self._final(self.doubts.probe_lost(chunk, seconds, hopeless=hopeless))

    def _probes(self) -> list[ev.Effect]:
        """Probes for slots that have nothing else to do."""
        effects: list[ev.Effect] = []
        if self.doubts is None or self.stop is not None:
            return effects
        busy = sum(use.busy_seconds for use in self.slots_used.values())
        self.doubts.busy_seconds = busy - self.doubts.spent
        idle = self._slots - len(self._flight)
        for doubt, ask, cost in self.doubts.asked(idle) if idle > 0 else ():
            if len(self._flight) >= self._slots:
                break
            if not self.doubts.wants(doubt, ask):
                continue
            if not self.doubts.affordable(cost):
                if ask == doubt.ask:
                    effects += self._final(self.doubts.unaffordable(doubt))
                continue
            chunk = self.planner.probe(doubt.atom, ask.preamble, cost)
            if self._flight.locks().isdisjoint(chunk.locks) and self.doubts.offered(chunk):
                self._flight.queue(chunk, self.now)
                effects.append(ev.Offer(chunk))
        return effects

    # -- offers ----------------------------------------------------------------

    def _fill(self) -> list[ev.Effect]:
        """Keeps one chunk per slot waiting.

        That is enough to keep every slot busy, and leaves work to share with slots that join late.
        Where not all slots may work, nothing waits: another slot would take it at once.
        """
        effects: list[ev.Effect] = []
        while self.stop is None and len(self._flight.queued) < self._slots and not self._full:
            chunk = self.planner.next_chunk(self._slots, self._flight.locks())
            if chunk is None:
                break
            chunk = replace(chunk, batch_seconds=_batch_seconds(self._slots))
            self._flight.queue(chunk, self.now)
            effects.append(ev.Offer(chunk))
        return effects + self._probes()

    @property
    def _full(self) -> bool:
        return self._capped and len(self._flight) >= self._slots

    # -- invariants ----------------------------------------------------------------------

    def validate(self) -> None:
        """Raises AssertionError if the state breaks one of its own rules.

        Tests call it after each event; it takes a walk over the manifest.
        """
        self._flight.validate()
        doubted = self.doubts.indices if self.doubts is not None else frozenset()
        known = self.verdicts.keys() | doubted
        assert self._owed <= known, "a tear-down is owed by a test without verdict"
        assert self.lost <= self.verdicts.keys(), "what is given up as lost has its disposition"
        assert all(verdict.entry.index == index for index, verdict in self.verdicts.items())
        for place, past in self._pasts.processes.items():
            assert list(past) == sorted(set(past)), f"I13: {place} ran {past}"
        assert not doubted & self.verdicts.keys(), "what is in doubt has no verdict yet"
        if self.stop is not None:
            assert not self._flight.queued, "something is on offer after a stop"
            return
        # I1: what has no disposition, or has to run again, is on its way to one.
        coming = [index for held in self._flight for index in held.chunk.indices]
        coming += self.planner.pending()
        missing = {*self._all_open(), *self._owed}.difference(coming) - doubted
        assert not missing, f"nothing will give these a disposition: {sorted(missing)}"
        assert set(coming) <= set(range(len(self.manifest.entries)))


def _gist(failure: Failure) -> tuple[str, str]:
    """What is the same where two processes fail alike."""
    return failure.type, failure.message


def _batch_seconds(slots: int) -> float:
    least, most = BATCH_SECONDS
    return min(max(least, slots / ENTRIES_PER_SECOND), most)
