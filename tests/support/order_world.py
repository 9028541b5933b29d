"""Suites whose tests depend on order, and a fleet that runs them: all simulated, nothing waits.

State is a set of flags in a process. A class may pollute (set a flag), clean (clear it), set up
(another flag), or fail on what it finds: a victim where a polluter's flag is set, a brittle class
where its flag is not. The fleet drives a real `RunMachine`, with slots that die, join and lose
leases, and gives each process the past that a real slot would.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from dct_celery.core import order
from dct_celery.core.model import Chunk, Failure, Manifest, Outcome, Phase, Verdict
from dct_celery.core.plan.planner import Planner, atoms
from dct_celery.core.plan.timings import Estimates, Sample, test_key
from dct_celery.core.run import events as ev
from dct_celery.core.run.doubts import Doubts
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.machine import STOP_GRACE, RunMachine
from dct_celery.core.run.records import TestRecord
from tests.support.factories import group, make_manifest


@dataclass
class Behaviour:
    """What one class does to its process, and what it cannot bear."""

    sets: set[str] = field(default_factory=set)
    clears: set[str] = field(default_factory=set)
    #: It fails where one of these flags is set.
    fails_with: set[str] = field(default_factory=set)
    #: It fails where one of these flags is not set.
    fails_without: set[str] = field(default_factory=set)
    broken: bool = False
    #: Set where it fails.
    sets_if_bad: set[str] = field(default_factory=set)

    def run(self, state: set[str]) -> bool:
        """Whether it fails; changes the state."""
        bad = self.broken or bool(self.fails_with & state) or bool(self.fails_without - state)
        state -= self.clears
        state |= self.sets
        if bad:
            state |= self.sets_if_bad
        return bad


@dataclass
class World:
    """A suite: one behaviour and one duration for each class, in canonical order."""

    manifest: Manifest
    behaviours: list[Behaviour]
    #: Seconds of a class, spread over its tests.
    seconds: list[float]
    #: Index -> class.
    class_of: list[int]
    #: "failure", or "error": errors of one text look the same.
    kind: str = "failure"
    #: What all failures say.
    message: str = ""

    def sequential(self, *, failures_leave: bool = True) -> list[bool]:
        """Whether each class fails in the sequential run, or in one in which a class that fails
        leaves no more behind than one that passes.
        """
        state: set[str] = set()
        behaviours = self.behaviours
        if not failures_leave:
            behaviours = [replace(behaviour, sets_if_bad=set()) for behaviour in behaviours]
        return [behaviour.run(state) for behaviour in behaviours]

    def samples(self) -> dict[str, Sample]:
        counts = [self.class_of.count(number) for number in range(len(self.behaviours))]
        return {
            test_key(entry): Sample(
                self.seconds[self.class_of[entry.index]] / counts[self.class_of[entry.index]], 1
            )
            for entry in self.manifest
        }


def make_world(classes: int, seed: int) -> World:
    """Random classes of 1 to 5 tests with planted dependences; most suites are green in order."""
    chance = random.Random(seed)
    sizes = [chance.randint(1, 5) for _ in range(classes)]
    manifest = make_manifest(
        *(group(f"a.C{number:04}", Phase.ISOLATED, count=size) for number, size in enumerate(sizes))
    )
    behaviours = [Behaviour() for _ in range(classes)]
    for plant in range(chance.randint(0, 4)):
        _plant(chance, behaviours, f"f{plant}")
    for _ in range(chance.choice([0, 0, 1, 3])):
        chance.choice(behaviours).broken = True
    seconds = [chance.lognormvariate(-2.0, 1.0) for _ in range(classes)]
    class_of = [number for number, size in enumerate(sizes) for _ in range(size)]
    return World(manifest, behaviours, seconds, class_of)


def _plant(chance: random.Random, behaviours: list[Behaviour], flag: str) -> None:
    """One dependence that does not show in canonical order."""
    first, middle, last = sorted(chance.sample(range(len(behaviours)), 3))
    match chance.choice(["victim", "brittle", "imports", "two polluters", "cascade"]):
        case "victim":  # a polluter, a cleaner, a victim
            behaviours[first].sets.add(flag)
            behaviours[middle].clears.add(flag)
            behaviours[last].fails_with.add(flag)
        case "brittle":  # a state-setter, and a class that needs it
            behaviours[first].sets.add(flag)
            behaviours[last].fails_without.add(flag)
        case "cascade":  # a brittle class whose failure makes all fail that come after it
            behaviours[first].sets.add(flag)
            behaviours[middle].fails_without.add(flag)
            behaviours[middle].sets_if_bad.add(f"{flag}-spoilt")
            for behaviour in behaviours[middle + 1 :]:
                behaviour.fails_with.add(f"{flag}-spoilt")
        case "imports":  # any earlier class will do, as for django CMS
            for behaviour in behaviours[:last]:
                behaviour.sets.add(flag)
            behaviours[last].fails_without.add(flag)
        case "two polluters":  # the victim is first, so it never meets them in order
            behaviours[first].fails_with.add(flag)
            behaviours[middle].sets.add(flag)
            behaviours[last].sets.add(flag)


@dataclass
class Process:
    number: int
    state: set[str] = field(default_factory=set)
    last: int | None = None


class Fleet:
    """Slots that run a machine's chunks to the end of the run."""

    def __init__(
        self,
        world: World,
        slots: int,
        seed: int,
        *,
        budget: float | None = None,
        warm: bool = True,
        deaths: float = 0.0,
        joins: Sequence[float] = (),
        passed_alone: Iterable[int] = (),
    ) -> None:
        """`deaths`: chance that a lease is lost. `joins`: seconds at which further slots come."""
        self.world = world
        self.chance = random.Random(seed)
        estimates = Estimates(world.samples() if warm else {}, world.manifest)
        found = atoms(world.manifest, estimates)
        self.doubts = Doubts(world.manifest, found, budget=budget, passed_alone=set(passed_alone))
        self.machine = RunMachine(
            world.manifest, Planner(found, separate_failures=True), doubts=self.doubts
        )
        self.deaths = deaths
        #: Called whenever time goes on.
        self.on_tick: Callable[[], object] = lambda: None
        self.makespan = 0.0
        #: Slot-seconds of the plan's chunks.
        self.busy = 0.0
        self._queue: list[Chunk] = []
        self._fence = 0
        self._processes: dict[int, Process] = {}
        self._forks = 0
        self._slots = slots
        self._joins = list(joins)
        #: (when, order, slot, chunk, lease, events to send)
        self._running: list[tuple[float, int, int, LeaseRef, list[ev.Event]]] = []
        self._idle = set(range(slots))

    def bisect(self, number: int, past: order.Preamble | None, *, passed: bool = False) -> None:
        """Makes it a bisection: what does the verdict of this class's first test depend on?"""
        manifest, index = self.world.manifest, self.world.class_of.index(number)
        outcome = Outcome.PASSED if passed else Outcome.FAILED
        self.doubts.bisect(Verdict(manifest[index], outcome), past, passed=passed)
        self.machine = RunMachine(
            manifest.only([index]),
            Planner(self.doubts.atoms, probes_only=True),
            doubts=self.doubts,
        )

    def run(self, *, most_events: int = 1_000_000) -> RunMachine:
        self._send(ev.SlotsChanged(self._slots, self._slots))
        now = 0.0
        for _ in range(most_events):
            self._start(now)
            if self.machine.finished:
                self.makespan = now
                return self.machine
            ends = self._running[0][0] if self._running else float("inf")
            if self._joins and self._joins[0] <= ends:
                now = self._joins.pop(0)
                self._idle.add(self._slots)
                self._slots += 1
                self._send(ev.SlotsChanged(self._slots, self._slots))
                continue
            if not self._running and self.machine.stop is not None:
                now += 2 * STOP_GRACE
                self._send(ev.Ticked(now))
                continue
            if not self._running:
                raise AssertionError("the run stands still")
            now, _, slot, _, events = heapq.heappop(self._running)
            self._idle.add(slot)
            self._send(ev.Ticked(now))
            self.on_tick()
            for event in events:
                self._send(event)
        raise AssertionError("the run does not end")

    def outcomes(self) -> dict[int, Outcome]:
        return {index: verdict.outcome for index, verdict in self.machine.verdicts.items()}

    def _send(self, event: ev.Event) -> None:
        for effect in self.machine.handle(event):
            match effect:
                case ev.Offer(chunk):
                    self._queue.append(chunk)
                case _:
                    pass

    def _start(self, now: float) -> None:
        while self._queue and self._idle:
            chunk = self._queue.pop(0)
            slot = min(self._idle)
            self._idle.discard(slot)
            self._fence += 1
            lease = LeaseRef(chunk.id, chunk.attempt, self._fence, "build-a", slot)
            self._send(ev.Claimed(lease))
            seconds, events = self._execute(chunk, slot, lease)
            heapq.heappush(self._running, (now + seconds, self._fence, slot, lease, events))

    def _execute(self, chunk: Chunk, slot: int, lease: LeaseRef) -> tuple[float, list[ev.Event]]:
        process = self._processes.get(slot)
        indices = (*chunk.preamble, *chunk.indices)
        seconds = 0.01
        new = process is None or chunk.fresh_process or not order.ascends(indices, process.last)
        if process is None or new:
            self._forks += 1
            process = self._processes[slot] = Process(self._forks)
            seconds += 0.08
        records: list[TestRecord] = []
        left: tuple[int, ...] = ()
        for index, bad in self._tests(indices, process):
            if index in chunk.stops and any(record.failures for record in records):
                left = tuple(other for other in chunk.indices if other >= index)
                break
            share = self.world.seconds[self.world.class_of[index]] / self.world.class_of.count(
                self.world.class_of[index]
            )
            seconds += share
            if index in chunk.indices:
                records.append(self._record(index, bad, share))
        process.last = chunk.indices[-1]
        if not chunk.probe:
            self.busy += seconds
        if self.chance.random() < self.deaths:
            self._processes.pop(slot)
            kept = records[: self.chance.randint(0, len(records))]
            lost: list[ev.Event] = [ev.Recorded(lease, len(kept), tuple(kept))] if kept else []
            return seconds, [*lost, ev.Expired(lease)]
        spoilt = chunk.ends_if_bad and any(record.failures for record in records)
        if chunk.preamble or spoilt:
            self._processes.pop(slot)
        end = ev.ChunkCompleted(
            busy_seconds=seconds,
            process=process.number,
            left=left,
        )
        return seconds, [
            ev.Recorded(lease, len(records), tuple(records)),
            ev.Ended(lease, len(records), end),
        ]

    def _tests(self, indices: Sequence[int], process: Process) -> Iterable[tuple[int, bool]]:
        before, bad = -1, False
        for index in indices:
            number = self.world.class_of[index]
            if number != before:
                bad = self.world.behaviours[number].run(process.state)
                before = number
            yield index, bad

    def _record(self, index: int, bad: bool, seconds: float) -> TestRecord:
        if not bad:
            return TestRecord(index, Outcome.PASSED, seconds)
        text = self.world.message or f"test {index}"
        failure = Failure(self.world.kind, "AssertionError", text, "")
        outcome = Outcome.ERROR if self.world.kind == "error" else Outcome.FAILED
        return TestRecord(index, outcome, seconds, (failure,))
