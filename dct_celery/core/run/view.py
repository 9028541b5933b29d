"""What people see of a run: one fold over its events, for the screen, `dct status` and every page.

`take` folds the run's stream, for any reader. `judge` adds what only the dispatcher decides (a test
given up, a crash blamed, a failure that --reruns doubts); it overrides what `take` found.

Rules of `take`

1. A record counts for tests of the chunk whose lease its sender holds, as in `core.run.machine`.

2. The first result of a test stands, but a pass clears a test that failed. In a run where failures
are run again, a failure is a doubt: it counts once it is judged. Probes give no results.

3. What its process skipped without a failed fixture stays open; it runs again.

Two clocks: `at` is Unix seconds on the store's clock, for what is shown; `now` is the reader's own,
for how long ago something happened. Only times of one clock are compared.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from dct_celery.core.model import (
    BAD_OUTCOMES,
    FixtureRef,
    FixtureVerdict,
    Manifest,
    Outcome,
    Verdict,
)
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import FixtureRecord, Record, TestRecord

#: Seconds over which the rate is measured.
WINDOW = 10.0
#: A rate over less than this means nothing: the first chunk's tests arrive in one burst.
SHORTEST_SPAN = 1.0
#: Seconds of work after which measurements begin to outweigh the estimates.
_TRUST = 2.0
#: Upper limit for the entries of a manifest whose length is unknown.
MOST_ENTRIES = 10_000_000
#: Number of failures that are listed.
MOST_PROBLEMS = 100
#: A pass clears a test that had one of these outcomes.
_DOUBTFUL = frozenset({Outcome.FAILED, Outcome.ERROR})
#: An entry's outcome as one byte; 0 while it has none.
_CODES = {outcome: code for code, outcome in enumerate(Outcome, 1)}
_OUTCOMES = {code: outcome for outcome, code in _CODES.items()}


@dataclass(frozen=True, slots=True)
class Problem:
    """A test or fixture that makes the run red: its id, and one line of what went wrong."""

    name: str
    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class WaitingChunk:
    """A chunk that no slot has claimed yet."""

    tests: int
    #: Predicted seconds.
    estimate: float = 0.0
    #: Manifest indices; empty where they are not known.
    indices: tuple[int, ...] = ()
    #: Its results are no verdicts.
    probe: bool = False


@dataclass(slots=True)
class BusySlot:
    """A slot that holds a chunk."""

    lease: LeaseRef
    #: Unix seconds on the store's clock.
    since: float
    #: Number of tests of its chunk; 0 where that is not known.
    of: int = 0
    #: How many of them have ended.
    tests: int = 0
    #: Class of the first test that has not ended; empty where that is not known.
    running: str = ""
    #: Manifest indices of its chunk, in order; empty where they are not known.
    indices: tuple[int, ...] = ()
    #: The same indices, for membership tests.
    members: frozenset[int] = frozenset()
    #: Predicted seconds of what has not ended, class fixtures included.
    left: float = 0.0
    #: The same without class fixtures.
    tests_left: float = 0.0
    #: When its last record arrived, on the reader's clock.
    heard: float = 0.0
    #: Its results are no verdicts.
    probe: bool = False


@dataclass(slots=True)
class RunView:
    """A run in progress. `total`: entries of the manifest, None while that is not known."""

    total: int | None = None
    #: Index -> predicted seconds; only the dispatcher has it.
    seconds_of: Callable[[int], float] | None = None
    #: Index -> class; only the dispatcher has it.
    class_of: Callable[[int], str] | None = None
    #: A failure may be run again, so it counts once it is judged.
    reruns: bool = False
    fixtures: dict[tuple[FixtureRef, Outcome], None] = field(default_factory=dict)
    #: The first failures, in the order of arrival.
    problems: list[Problem] = field(default_factory=list)
    #: Chunk -> the slot that holds it.
    busy: dict[str, BusySlot] = field(default_factory=dict)
    #: Chunks that wait for a slot.
    queued: dict[str, WaitingChunk] = field(default_factory=dict)
    chunks_done: int = 0
    #: Worker -> why it does not take part.
    refusals: dict[str, str] = field(default_factory=dict)
    #: "chunk.attempt" -> number of its last record.
    positions: dict[str, int] = field(default_factory=dict)
    #: Sum of these numbers over attempts that are no longer listed.
    settled: int = 0
    #: Time of the first entry, Unix seconds on the store's clock.
    first: float | None = None
    #: Time of the last entry.
    last: float | None = None
    #: Slots of the pool that can take part.
    connected: int = 0
    #: What a run that makes no progress is waiting for; empty while it does.
    waiting: str = ""
    #: Predicted seconds of what is not cut into chunks yet.
    unplanned: float | None = None
    #: Predicted seconds of its longest atom.
    longest: float = 0.0
    #: The latest verdict of a test that ran.
    newest: Verdict | None = None
    #: When the run began, on the reader's clock.
    began: float | None = None
    _codes: bytearray = field(default_factory=bytearray)
    _counts: Counter[Outcome] = field(default_factory=Counter)
    _doubts: set[int] = field(default_factory=set)
    _recent: deque[float] = field(default_factory=deque)
    #: Seconds that the finished tests took.
    _measured: float = 0.0
    #: Seconds that they were predicted to take.
    _predicted: float = 0.0

    @classmethod
    def of(
        cls, manifest: Manifest, seconds_of: Callable[[int], float], *, reruns: bool, now: float
    ) -> RunView:
        """The dispatcher's view, with estimates and class names."""
        return cls(
            total=len(manifest),
            seconds_of=seconds_of,
            class_of=lambda index: manifest[index].cls,
            reruns=reruns,
            began=now,
        )

    # -- the fold ----------------------------------------------------------------------

    def take(self, event: ev.Event, *, at: float = 0.0, now: float = 0.0) -> None:
        """Folds one event; one that is not part of a stream changes nothing."""
        self.note_time(at)
        match event:
            case ev.Offered(chunk):
                waiting = WaitingChunk(
                    len(chunk.indices), chunk.estimate, chunk.indices, chunk.probe
                )
                self.queued.setdefault(chunk.id, waiting)
            case ev.Claimed(lease):
                self._claimed(lease, at, now)
            case ev.Recorded(lease, seq, records):
                self.positions[lease.key] = max(seq, self.positions.get(lease.key, 0))
                if (slot := self._held(lease)) is not None:
                    slot.heard = now
                    for record in records if not slot.probe else ():
                        self._record(slot, record, now)
            case ev.Ended(lease, seq):
                if seq:
                    self.positions[lease.key] = max(seq, self.positions.get(lease.key, 0))
                self._free(lease)
            case ev.Expired(lease):
                self._free(lease)
            case ev.Avoided() | ev.SlotsChanged() | ev.Ticked() | ev.Stopped():
                pass

    def note_time(self, at: float) -> None:
        """Notes that an entry of the run was written at this time."""
        if at:
            self.last = at
            self.first = at if self.first is None else self.first

    def judge(self, verdict: Verdict, now: float) -> None:
        """The dispatcher's verdict on one entry."""
        index = verdict.entry.index
        was_open = not self._code(index)
        self._doubts.discard(index)
        self._set(index, verdict.outcome)
        if verdict.outcome in BAD_OUTCOMES and len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(verdict.entry.id, verdict.outcome, verdict.message))
        # What never ran took no time: it must not raise the rate of a cancelled run.
        if verdict.outcome is not Outcome.NOT_RUN:
            self.newest = verdict
            if was_open:
                self._ended(index, verdict.seconds, now)

    def judge_fixture(self, fixture: FixtureVerdict) -> None:
        if fixture.outcome not in BAD_OUTCOMES:
            return
        self.fixtures.setdefault((fixture.fixture, fixture.outcome))
        if len(self.problems) < MOST_PROBLEMS:
            message = fixture.failures[0].message if fixture.failures else fixture.reason
            self.problems.append(Problem(fixture.id, fixture.outcome, message))

    def resume(self, now: float) -> None:
        """Restarts the rate: what was folded so far happened earlier, at whatever rate."""
        self._recent.clear()
        self.began = now

    def plan(self, seconds: float, longest: float) -> None:
        """What the planner has still to cut: predicted seconds, and those of its longest atom."""
        self.unplanned, self.longest = seconds, longest

    def _claimed(self, lease: LeaseRef, at: float, now: float) -> None:
        slot = BusySlot(lease, at, heard=now)
        if (chunk := self.queued.pop(lease.chunk, None)) is not None:
            slot.of, slot.left, slot.probe = chunk.tests, chunk.estimate, chunk.probe
            slot.indices, slot.members = chunk.indices, frozenset(chunk.indices)
            if self.seconds_of is not None:
                slot.tests_left = sum(map(self.seconds_of, chunk.indices))
            self._show_running(slot)
        # A store into which the run was put back repeats the same lease.
        if self._held(lease) is None:
            self.busy[lease.chunk] = slot

    def _held(self, lease: LeaseRef) -> BusySlot | None:
        """The slot that holds this lease, in whatever epoch."""
        slot = self.busy.get(lease.chunk)
        if slot is None or slot.lease.attempt != lease.attempt or slot.lease.fence != lease.fence:
            return None
        return slot

    def _free(self, lease: LeaseRef) -> None:
        if self._held(lease) is not None:
            del self.busy[lease.chunk]
            self.chunks_done += 1

    def _record(self, slot: BusySlot, record: Record, now: float) -> None:
        match record:
            case TestRecord():
                known = slot.members or range(MOST_ENTRIES if self.total is None else self.total)
                if record.index in known:
                    self._test(slot, record, now)
            case FixtureRecord():
                if record.outcome in BAD_OUTCOMES and not self.reruns:
                    self.fixtures.setdefault((record.fixture, record.outcome))

    def _test(self, slot: BusySlot, record: TestRecord, now: float) -> None:
        slot.tests += 1
        if self.seconds_of is not None:
            predicted = self.seconds_of(record.index)
            slot.left = max(slot.left - predicted, 0.0)
            slot.tests_left = max(slot.tests_left - predicted, 0.0)
        self._show_running(slot)
        outcome = record.outcome
        if outcome is Outcome.NOT_RUN and not record.covered_by:
            return
        known = _OUTCOMES.get(self._code(record.index))
        if known is None and outcome in _DOUBTFUL and self.reruns:
            self._doubts.add(record.index)
        elif known is None or (known in _DOUBTFUL and outcome is Outcome.PASSED):
            self._doubts.discard(record.index)
            self._set(record.index, outcome)
            if known is None and outcome is not Outcome.NOT_RUN:
                self._ended(record.index, record.seconds, now)

    def _show_running(self, slot: BusySlot) -> None:
        if self.class_of is not None and slot.tests < len(slot.indices):
            slot.running = self.class_of(slot.indices[slot.tests])

    def _ended(self, index: int, seconds: float, now: float) -> None:
        self.began = now if self.began is None else self.began
        self._recent.append(now)
        if self.seconds_of is not None:
            self._measured += seconds
            self._predicted += self.seconds_of(index)

    def _code(self, index: int) -> int:
        return self._codes[index] if index < len(self._codes) else 0

    def _set(self, index: int, outcome: Outcome) -> None:
        if index >= len(self._codes):
            self._codes.extend(bytes(max(index + 1, self.total or 0) - len(self._codes)))
        if before := self._codes[index]:
            self._counts[_OUTCOMES[before]] -= 1
        self._codes[index] = _CODES[outcome]
        self._counts[outcome] += 1

    # -- what it shows -----------------------------------------------------------------

    @property
    def done(self) -> int:
        """Entries that have an outcome, not-run ones included."""
        return self._counts.total()

    @property
    def counts(self) -> dict[Outcome, int]:
        """Entries by outcome, without outcomes that no test has."""
        return {outcome: self._counts[outcome] for outcome in Outcome if self._counts[outcome]}

    @property
    def bad(self) -> int:
        """What makes the run red so far: tests and fixtures."""
        return len(self.fixtures) + sum(self._counts[outcome] for outcome in BAD_OUTCOMES)

    @property
    def doubts(self) -> int:
        """Number of tests that failed and run again."""
        return len(self._doubts)

    def outcome(self, index: int) -> Outcome | None:
        return _OUTCOMES.get(self._code(index))

    def rate(self, now: float) -> float:
        """Tests per second over the last `WINDOW` seconds."""
        while self._recent and self._recent[0] <= now - WINDOW:
            self._recent.popleft()
        if self.began is None:
            return 0.0
        return len(self._recent) / min(WINDOW, max(SHORTEST_SPAN, now - self.began))

    def eta(self, now: float) -> float | None:
        """Predicted seconds until everything is judged; None if there is no basis for it.

        The latest of three times: when all busy slots together have done the work; when the slot
        with the longest chunk is done; when the longest atom that has not begun is done, if it
        begins on the slot that is free first.
        """
        left = (self.total or 0) - self.done
        if left <= 0:
            return 0.0
        if self.unplanned is None or not self.busy:
            rate = self.rate(now)
            return left / rate if rate else None
        pace = self._pace
        slots = [self._left(slot, now) for slot in self.busy.values()]
        waiting = [chunk.estimate * pace for chunk in self.queued.values()]
        longest = max([self.longest * pace, *waiting])
        together = _level(slots, sum(waiting) + self.unplanned * pace)
        return max(together, *slots, min(slots) + longest if longest else 0.0)

    @property
    def _pace(self) -> float:
        """Measured seconds per predicted second so far."""
        return (self._measured + _TRUST) / (self._predicted + _TRUST)

    def _left(self, slot: BusySlot, now: float) -> float:
        """Seconds until the slot has done its chunk.

        Time since its last record counts for the test that it runs now, not for those after it.
        """
        pace, current = self._pace, 0.0
        if self.seconds_of is not None and slot.tests < len(slot.indices):
            current = self.seconds_of(slot.indices[slot.tests])
        return max(slot.left * pace - (now - slot.heard), (slot.tests_left - current) * pace, 0.0)

    # -- as it is written down ---------------------------------------------------------

    def coded(self) -> bytes:
        """One byte per entry, by index: the code of its outcome, 0 for none."""
        return bytes(self._codes)

    def restore(self, codes: Iterable[int]) -> None:
        """Inverse of `coded`. Raises ValueError for an unknown code."""
        self._codes = bytearray(codes)
        counted = Counter(self._codes)
        del counted[0]
        if unknown := counted.keys() - _OUTCOMES.keys():
            raise ValueError(f"no outcome has the code {min(unknown)}")
        self._counts = Counter({_OUTCOMES[code]: count for code, count in counted.items()})


def _level(slots: Sequence[float], work: float) -> float:
    """When the slots, each free after so many seconds, have done `work` together.

    Assumes that the work can be split at will.
    """
    ordered = sorted(slots)
    level, filled = ordered[0], 0.0
    for count, start in enumerate(ordered[1:], 1):
        filled += (start - level) * count
        if filled >= work:
            return start - (filled - work) / count
        level = start
    return level + (work - filled) / len(ordered)
