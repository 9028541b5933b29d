"""The run as a state machine: events in, effects out, nothing else.

Rules 1. The manifest decides: the run is finished when every entry has a disposition, and not
before (I1). 2. A verdict is given once. A record counts for the tests of the chunk whose lease its
sender holds, as long as it holds it:
     the store refuses stale fences, and this machine believes neither the store nor a worker beyond that (I11). Whatever
     reached the stream before its lease ended stands.
3. What a lease leaves without verdict goes into a new chunk, to run in a fresh fork (a class never
runs twice in one
     process), on another worker where there is one. Deaths of processes climb the poison ladder (core.ladder, I8).
4. Infrastructure never gives a verdict: entries lost more often than `MAX_LOSSES` are `not_run`,
and the run ends with 7 (I7). 5. A tear-down that was not heard of may have failed: when a lease is
lost, the last test that was heard of runs again if
     nothing else of its class does, for its fixtures' sake; its own verdict stands.
6. A failure that --reruns doubts is no verdict yet: its entry stays open, and runs again alone when
its chunk has ended.
     A pass then is its verdict; if no rerun comes to an end, its last failure is, never `not_run`.
7. Nothing is offered after a stop. What still runs may end; the rest is `not_run` with the reason
of the stop.

Chunks:   queued ─claimed─▶ leased ─completed─▶ done
            ▲                  └─released | expired─▶ done; the rest of its entries is queued in new chunks
What the table cannot say: a queued chunk of an overtaken attempt never exists, because a new
attempt is a new chunk.

The same events in the same order make the same state, whoever handles them: `dct attach` replays
the journal with no slot there, so that nothing is offered but what was offered before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from dct_celery.core.model import (
    BAD_OUTCOMES,
    Chunk,
    FixtureRef,
    FixtureVerdict,
    Manifest,
    Outcome,
    Verdict,
)
from dct_celery.core.plan.planner import Planner
from dct_celery.core.run import blame
from dct_celery.core.run import events as ev
from dct_celery.core.run.events import ChunkCompleted, ChunkReleased, ReleaseReason
from dct_celery.core.run.leaks import Leaks
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import FixtureRecord, TestRecord
from dct_celery.core.run.reruns import Reruns
from dct_celery.core.text import plural

#: An entry that was lost with its slot this often is given up.
MAX_LOSSES = 3
#: An entry whose slot could not get its databases this often is given up; other slots are tried
#: first, and slots rest.
MAX_UNREADY = 8
#: Seconds after which an unclaimed chunk is published again while a slot is idle.
CLAIM_SECONDS = 3.0
#: Seconds that slots get to end after a stop.
STOP_GRACE = 10.0
#: Entries of its slots that a dispatcher can take each second without falling behind.
ENTRIES_PER_SECOND = 4000
#: Seconds for which slots keep their records so that it does: the least and the most.
BATCH_SECONDS = (0.05, 1.0)
#: Reasons of a release that leave nobody to tear down what the last test's class and module have
#: set up.
_ABRUPT = frozenset(
    {ReleaseReason.DRAIN, ReleaseReason.SILENCE, ReleaseReason.DATABASE, ReleaseReason.LOADER}
)
#: Reasons of a release that are nobody's fault and count as no loss.
_INNOCENT = frozenset(
    {ReleaseReason.DRAIN, ReleaseReason.TIMEOUT, ReleaseReason.CANCELLED, ReleaseReason.UNTRUSTED}
)


@dataclass(slots=True)
class InFlight:
    """A chunk on its way: offered, or leased."""

    chunk: Chunk
    since: float
    lease: LeaseRef | None = None
    lease_ms: int = 0
    #: The test whose record came last.
    last: int | None = None


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
    #: Stop after so many failures; 0 never.
    maxfail: int = 0
    reruns: Reruns = field(default_factory=Reruns)
    deaths: blame.Deaths = field(default_factory=blame.Deaths)
    leaks: Leaks = field(default_factory=Leaks)
    now: float = 0.0
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    fixtures: dict[tuple[FixtureRef, Outcome], FixtureVerdict] = field(default_factory=dict)
    slots_used: dict[tuple[str, int], SlotUse] = field(default_factory=lambda: defaultdict(SlotUse))
    class_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stop: ev.Stopped | None = None
    #: Entries that infrastructure kept from a verdict.
    lost: set[int] = field(default_factory=set)
    #: Chunks that were ever offered, and how many of them were claimed.
    _known: set[str] = field(default_factory=set)
    _claims: int = 0
    _queued: dict[str, InFlight] = field(default_factory=dict)
    _leased: dict[str, InFlight] = field(default_factory=dict)
    #: Chunk -> its locks, of those on their way that have any (and perhaps of some that were): few,
    #: of very many chunks.
    _locks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: Offered, and taken back by a stop; some slot may have claimed it before it heard of that.
    _withdrawn: dict[str, InFlight] = field(default_factory=dict)
    #: Tests that have their verdicts, and run again because nobody has heard of the tear-down
    #: behind them.
    _owed: set[int] = field(default_factory=set)
    #: Records and ends that counted for nothing, because their lease is not held or does not cover
    #: them.
    strays: int = 0
    _slots: int = 0
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
        return self._handled(event) + self._fill()

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
        return len(self.verdicts) == len(self.manifest) and not self._owed

    @property
    def busy(self) -> int:
        """Slots that hold a lease."""
        return len(self._leased)

    @property
    def started(self) -> bool:
        """Some slot has claimed something."""
        return bool(self._leased or self.verdicts or self.slots_used)

    def standing(self) -> list[tuple[Chunk, LeaseRef | None, int]]:
        """(chunk, lease or None while it waits, ms of the lease) of all that is on its way."""
        return [
            (held.chunk, held.lease, held.lease_ms)
            for group in (self._queued, self._leased)
            for held in group.values()
        ]

    @property
    def note(self) -> str:
        """Why the run ended early, and what failed in chunks that were under way by then; empty
        where it did not.
        """
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
        """News only in a replay: there the plan comes from what was offered, for an offer depends
        on who was there when.
        """
        if event.chunk.id not in self._known:
            self.planner.take(event.chunk)
            self._queue(event.chunk)
        return []

    def _claimed(self, event: ev.Claimed) -> list[ev.Effect]:
        held = self._queued.pop(event.lease.chunk, None) or self._withdrawn.pop(
            event.lease.chunk, None
        )
        if held is not None:
            self._claims += 1
            self._leased[event.lease.chunk] = InFlight(
                held.chunk, self.now, event.lease, event.lease_ms
            )
        return []

    def _recorded(self, event: ev.Recorded) -> list[ev.Effect]:
        held = self._held(event.lease)
        if held is None:
            self.strays += len(event.records)
            return []
        effects: list[ev.Effect] = []
        for record in event.records:
            match record:
                case TestRecord():
                    if record.index in held.chunk.indices:
                        held.last = record.index
                        effects += self._test(record, event.lease)
                    else:
                        self.strays += 1
                case FixtureRecord():
                    effects += self._judge_fixture(record.verdict(event.lease))
                case _:
                    assert_never(record)
        return effects

    def _ended(self, lease: LeaseRef, end: ev.ChunkEnd) -> list[ev.Effect]:
        held = self._end(lease, end.busy_seconds)
        if held is None:
            self.strays += 1
            return []
        match end:
            case ChunkCompleted():
                return self._completed(held.chunk, lease, end)
            case ChunkReleased():
                if end.fixture is not None and not end.fixture.sets_up:
                    self._owed.difference_update(
                        held.chunk.indices
                    )  # of this tear-down more is heard than of most
                return self._owe(held, lease, end.why) + self._released(held.chunk, lease, end)
            case _:
                assert_never(end)

    def _completed(self, chunk: Chunk, lease: LeaseRef, end: ChunkCompleted) -> list[ev.Effect]:
        if not self.reruns.repeats(chunk):  # a class's cost would count twice
            for name, seconds in end.class_seconds.items():
                self.class_seconds[name] += seconds
        # Records and end come from one holder in one order, so nothing but `left` should be open
        # here; if it is, it runs again.
        loss = "" if end.left else "its records did not arrive"
        if set(chunk.indices) <= set(end.left):
            # Not for ever: a result class may want no test at all.
            loss = f"it was stopped before its first test ({end.stopped})"
        self._owed.difference_update(chunk.indices)
        told = [
            ev.Warn(text)
            for text in self.leaks.add(
                self.manifest, chunk.indices, end.leaks, lease.worker, lease.slot
            )
        ]
        return [
            *told,
            *self._rerun(chunk, lease),
            *self._again(chunk, self._open(chunk), loss=loss),
        ]

    def _released(self, chunk: Chunk, lease: LeaseRef, end: ChunkReleased) -> list[ev.Effect]:
        if end.why is ReleaseReason.CRASH:
            return self._crashed(chunk, lease, end)
        if end.why is ReleaseReason.UNREADY:
            return self._passed_on(chunk, lease, end)
        # The fixture that ran out of time is recorded; what it kept from running is for the
        # manifest to say.
        timed_out = end.fixture if end.why is ReleaseReason.TIMEOUT else None
        covered = self._cover(chunk, timed_out) if timed_out is not None else []
        # A set-up that covers nothing has got nobody a verdict: without an end to that, it would
        # run for ever.
        innocent = end.why in _INNOCENT and (
            covered or end.fixture is None or not end.fixture.sets_up
        )
        loss = "" if innocent else f"{end.why}: {end.cause}" if end.cause else end.why.value
        return covered + self._rest(chunk, lease, loss)

    def _expired(self, event: ev.Expired) -> list[ev.Effect]:
        held = self._end(event.lease, 0.0)
        if held is None:
            return []
        return self._owe(held, event.lease) + self._rest(
            held.chunk, event.lease, "its lease ran out"
        )

    def _owe(
        self, held: InFlight, lease: LeaseRef, why: ReleaseReason | None = None
    ) -> list[ev.Effect]:
        """The attempt ended without a tear-down, as far as anybody knows. `why` it was released;
        None where its lease ran out.
        """
        chunk, last = held.chunk, held.last
        # What was owed by this attempt is owed still.
        owed = [index for index in chunk.indices if index in self._owed]
        if last is not None and last not in owed and (why is None or why in _ABRUPT):
            cls = self.manifest[last].cls
            again = {*self._open(chunk), *self.reruns.held(chunk)} - self.verdicts.keys()
            if not any(self.manifest[index].cls == cls for index in again):
                owed.append(last)
        if self.stop is not None:
            return []
        effects: list[ev.Effect] = []
        tries, most = (
            (self._unready, MAX_UNREADY)
            if why is ReleaseReason.UNREADY
            else (self._losses, MAX_LOSSES)
        )
        for index in owed:
            tries[index] += 1
            if tries[index] >= most:
                self._owed.discard(index)
                self.lost.add(index)
                effects.append(
                    ev.Warn(
                        f"nobody has heard of the tear-down behind {self.manifest[index].id}, in"
                        f" {most} tries"
                    )
                )
                continue
            self._owed.add(index)
            self.planner.requeue(chunk, (index,), fresh=True, avoid=self._elsewhere(lease))
        return effects

    def _avoided(self, event: ev.Avoided) -> list[ev.Effect]:
        held = self._queued.get(event.lease.chunk)
        return [ev.Republish(held.chunk)] if held is not None else []

    def _slots_changed(self, event: ev.SlotsChanged) -> list[ev.Effect]:
        self._slots = event.slots
        self._ready = event.ready
        self._workers = event.workers
        return []

    def _ticked(self, event: ev.Ticked) -> list[ev.Effect]:
        self.now = event.now
        if self.stop is not None:
            self._owed.clear()
            over = not self._leased or self.now - self._stopped_at > STOP_GRACE
            return self._give_up(self._all_open(), self.stop.reason, lost=False) if over else []
        if self._ready <= len(self._leased) or event.behind:
            self._idle_since = self.now
            return []
        # Of the time without an idle slot nothing counts: it would be sent twice whenever a long
        # chunk ends.
        late = [
            held
            for held in self._queued.values()
            if self.now - max(held.since, self._idle_since) > CLAIM_SECONDS
        ]
        for held in late:
            held.since = self.now
        return [ev.Republish(held.chunk) for held in late]

    def _stopped(self, event: ev.Stopped) -> list[ev.Effect]:
        if self.stop is not None or (self.finished and not event.late):
            return []
        self.stop = event
        self._stopped_at = self.now
        self._withdrawn |= self._queued
        self._queued.clear()
        return [ev.Cancel(event.reason)]

    # -- verdicts --------------------------------------------------------------

    def _test(self, record: TestRecord, lease: LeaseRef) -> list[ev.Effect]:
        index = record.index
        if index in self.verdicts or self.reruns.heard(index, lease.chunk):
            return []
        verdict = record.verdict(self.manifest[index], lease)
        if verdict.outcome is Outcome.NOT_RUN and not verdict.covered_by:
            return []  # the process skipped it without a reason: it stays open and runs again
        if self.stop is None and self.reruns.hold(lease.chunk, verdict):
            return [
                ev.Warn(f"{verdict.entry.id} failed on {lease.place}; it runs again (--reruns)")
            ]
        complaint = self.reruns.complaint()
        spent: list[ev.Effect] = [ev.Warn(complaint)] if complaint else []
        return spent + self._judge(self.reruns.settle(verdict))

    def _judge(self, verdict: Verdict) -> list[ev.Effect]:
        self.verdicts[verdict.entry.index] = verdict
        effects: list[ev.Effect] = [ev.Judge(verdict)]
        if verdict.outcome in BAD_OUTCOMES:
            effects += self._count_bad()
        return effects

    def _judge_fixture(self, fixture: FixtureVerdict) -> list[ev.Effect]:
        key = (fixture.fixture, fixture.outcome)
        if key in self.fixtures:
            return []
        self.fixtures[key] = fixture
        effects: list[ev.Effect] = [ev.JudgeFixture(fixture)]
        if fixture.outcome in BAD_OUTCOMES:
            effects += self._count_bad()
        return effects

    def _cover(self, chunk: Chunk, fixture: FixtureRef) -> list[ev.Effect]:
        """What of the chunk cannot run because this fixture did not end."""
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

    def _held(self, lease: LeaseRef) -> InFlight | None:
        """What is leased to the holder of this lease, in whatever epoch that was; None when it is
        another's or nobody's.
        """
        held = self._leased.get(lease.chunk)
        if held is None or held.lease is None or replace(held.lease, epoch=lease.epoch) != lease:
            return None
        return held

    def _end(self, lease: LeaseRef, busy_seconds: float) -> InFlight | None:
        held = self._held(lease)
        if held is None:
            return None
        del self._leased[lease.chunk]
        use = self.slots_used[lease.worker, lease.slot]
        use.busy_seconds += busy_seconds
        use.chunks += 1
        return held

    def _open(self, chunk: Chunk) -> tuple[int, ...]:
        """What has no result of this chunk; results that are held back are `_rerun`'s."""
        return tuple(
            i
            for i in chunk.indices
            if i not in self.verdicts and not self.reruns.heard(i, chunk.id)
        )

    def _all_open(self) -> tuple[int, ...]:
        return tuple(entry.index for entry in self.manifest if entry.index not in self.verdicts)

    def _crashed(self, chunk: Chunk, lease: LeaseRef, end: ChunkReleased) -> list[ev.Effect]:
        """The poison ladder: the suspect alone at the second try, its verdict at the last death,
        the rest elsewhere.
        """
        self.deaths.total += 1
        open_ = self._open(chunk)
        suspects: tuple[int, ...] = ()
        if end.fixture is not None:
            suspects = blame.covered_by(end.fixture, self.manifest, open_)
        elif end.index in open_:
            suspects = (end.index,)
        known = bool(suspects) or (end.fixture is not None and not end.fixture.sets_up)
        effects = self._accuse(chunk, suspects, lease, end) if known else []
        loss = "" if known else f"crash: {end.cause}"
        rest = tuple(index for index in open_ if index not in suspects)
        effects += self._rerun(chunk, lease) + self._again(chunk, rest, loss=loss, where=lease)
        if why := self.deaths.exceeded(self._claims):
            effects += self._stopped(ev.Stopped(why, 7))
        return effects

    def _accuse(
        self, chunk: Chunk, suspects: tuple[int, ...], lease: LeaseRef, end: ChunkReleased
    ) -> list[ev.Effect]:
        if self.deaths.blame(end.fixture or suspects[0]):
            if end.fixture is not None:
                return self._judge_fixture(
                    blame.death_of_fixture(end.fixture, lease, end)
                ) + self._cover(chunk, end.fixture)
            return self._judge(
                self.reruns.settle(blame.death_of_test(self.manifest[suspects[0]], lease, end))
            )
        if not suspects or self.stop is not None:
            return []
        self.planner.requeue(chunk, suspects, fresh=True, avoid=self._elsewhere(lease))
        what = end.fixture or self.manifest[suspects[0]].id
        return [
            ev.Warn(f"a test process {blame.how(end.cause)} during {what}; it runs again alone")
        ]

    def _elsewhere(self, lease: LeaseRef) -> str:
        """The worker to avoid at the next try, where there is another one."""
        return lease.worker if self._workers > 1 else ""

    def _rest(self, chunk: Chunk, lease: LeaseRef, loss: str) -> list[ev.Effect]:
        return self._rerun(chunk, lease) + self._again(
            chunk, self._open(chunk), loss=loss, where=lease
        )

    def _passed_on(self, chunk: Chunk, lease: LeaseRef, end: ChunkReleased) -> list[ev.Effect]:
        """A slot without databases: it rests, and nothing was lost, unless no slot ever gets any."""
        effects: list[ev.Effect] = [
            ev.Warn(f"{lease.place} rests, its tests go elsewhere: {end.cause}")
        ]
        for index in self._open(chunk):
            self._unready[index] += 1
        hopeless = tuple(
            index for index in self._open(chunk) if self._unready[index] >= MAX_UNREADY
        )
        effects += self._give_up(
            hopeless, f"no slot got its databases, in {MAX_UNREADY} tries: {end.cause}", lost=True
        )
        return effects + self._rest(chunk, lease, loss="")

    def _rerun(self, chunk: Chunk, lease: LeaseRef) -> list[ev.Effect]:
        """Failures that this attempt left in doubt: each alone in a fresh fork, or final when too
        many tests failed.
        """
        open_ = tuple(index for index in self.reruns.held(chunk) if index not in self.verdicts)
        if self.reruns.exhausted:
            return self._give_up(open_, "", lost=False)
        for index in open_:
            self.planner.requeue(chunk, (index,), fresh=True, avoid=self._elsewhere(lease))
        return []

    def _again(
        self, chunk: Chunk, indices: tuple[int, ...], *, loss: str, where: LeaseRef | None = None
    ) -> list[ev.Effect]:
        """What an attempt left open: queued anew, or given up when infrastructure lost it too
        often.
        """
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
                chunk, rest, fresh=True, avoid=self._elsewhere(where) if where and loss else ""
            )
        return effects

    def _give_up(self, indices: Iterable[int], reason: str, *, lost: bool) -> list[ev.Effect]:
        """The end of what will not run any more: `not_run`, or the last failure of a test whose
        rerun did not come to its end.
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

    # -- offers ----------------------------------------------------------------

    def _fill(self) -> list[ev.Effect]:
        """Keeps one chunk per slot waiting: enough that no slot idles, few enough that late joiners
        find work to share.
        """
        effects: list[ev.Effect] = []
        while self.stop is None and len(self._queued) < self._slots:
            chunk = self.planner.next_chunk(self._slots, self._held_locks())
            if chunk is None:
                break
            chunk = replace(chunk, batch_seconds=_batch_seconds(self._slots))
            self._queue(chunk)
            effects.append(ev.Offer(chunk))
        return effects

    def _held_locks(self) -> frozenset[str]:
        on_their_way = {
            id_: locks
            for id_, locks in self._locks.items()
            if id_ in self._queued or id_ in self._leased
        }
        self._locks = on_their_way
        return frozenset(lock for locks in on_their_way.values() for lock in locks)

    def _queue(self, chunk: Chunk) -> None:
        self._known.add(chunk.id)
        self._queued[chunk.id] = InFlight(chunk, self.now)
        if chunk.locks:
            self._locks[chunk.id] = chunk.locks

    # -- invariants ----------------------------------------------------------------------

    def validate(self) -> None:
        """Raises AssertionError where the state breaks a rule of its own. Tests call it after each
        event; it costs a walk over the manifest.
        """
        groups = (self._queued, self._leased, self._withdrawn)
        under_way = [held for group in groups[:2] for held in group.values()]
        assert len({*self._queued, *self._leased, *self._withdrawn}) == sum(map(len, groups))
        assert all(held.lease is None for held in self._queued.values())
        for name, held in self._leased.items():
            assert held.lease is not None, f"{name} is leased to no one"
            assert held.chunk.id == name == held.lease.chunk
        locks = [lock for held in under_way for lock in held.chunk.locks]
        assert len(locks) == len(set(locks)), f"a lock is held twice: {locks}"
        assert self._owed <= self.verdicts.keys(), "a tear-down is owed by a test without verdict"
        assert self.lost <= self.verdicts.keys(), "what is given up as lost has its disposition"
        assert all(verdict.entry.index == index for index, verdict in self.verdicts.items())
        if self.stop is not None:
            assert not self._queued, "something is on offer after a stop"
            return
        # I1: what has no disposition, or has to run again, is on its way to one.
        coming = [index for held in under_way for index in held.chunk.indices]
        coming += self.planner.pending()
        missing = {*self._all_open(), *self._owed}.difference(coming)
        assert not missing, f"nothing will give these a disposition: {sorted(missing)}"
        assert set(coming) <= set(range(len(self.manifest)))


def _batch_seconds(slots: int) -> float:
    least, most = BATCH_SECONDS
    return min(max(least, slots / ENTRIES_PER_SECOND), most)
