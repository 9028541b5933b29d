"""Bad verdicts that may be due to order, and what is done to settle them (I13).

A verdict is a doubt if its test process had not run exactly what the sequential run has before it.
It is held back until the process's chunk has ended and its past is known. Then `core.order.search`
says what to try; each try is a chunk of its own, a *probe*, whose records come here and are no
verdicts. Probes run on slots that would be idle, the cheapest first, within a budget. What the
budget does not suffice for stays bad, and says so.

Tests and fixtures of one atom share its probes. Of failures in several atoms that look the same,
one is searched first, and stands for the others or says what to try with them.

A bisection is a run with one doubt that no process of its own has raised: `dct bisect`. Its slots
have nothing else to do, so they try what the search will ask after either answer.
"""

from __future__ import annotations

import hashlib
import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from dct_celery.core import order
from dct_celery.core.model import (
    BAD_OUTCOMES,
    Chunk,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Manifest,
    OrderKind,
    OrderNote,
    Outcome,
    Verdict,
)
from dct_celery.core.order import Ask, Finding, Preamble, Try
from dct_celery.core.plan.planner import Atom
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import FixtureRecord, Record, TestRecord

#: Least slot-seconds for probes where no budget is given.
LEAST_BUDGET = 60.0
#: Share of what the run itself took, if that is more.
BUDGET_SHARE = 0.10
#: Seconds that a probe costs beside the tests in it: a fork and its clone.
PROBE_COST = 0.1
#: What a bisection tries ahead may cost this many times what it is sure to want, or so many
#: seconds.
DEAREST, CHEAP = 2.0, 5.0
#: Most tries ahead.
MOST_AHEAD = 32
#: How often a probe may be lost.
MOST_LOSSES = 3
#: So many classes whose failures look the same are searched each for itself: two of them may fail
#: for different reasons. Of more, one is taken to stand for the others.
SEARCHED_APART = 3
#: What no rerun can clear up: a hang costs its whole limit, and crashes have rules of their own.
_FINAL = frozenset({"dct.TimedOut", "dct.ProcessDied"})
#: Addresses, numbers and other parts that differ between failures that are the same.
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|\d+")
_FRAME = re.compile(r'^  File "(.*)", line (\d+), in ', re.MULTILINE)

_FATAL = OrderNote(OrderKind.UNPROVEN, "", "is in a class that ends its process", proven=False)

#: A test by its index, or a fixture.
Item = int | FixtureRef
AnyVerdict = Verdict | FixtureVerdict


@dataclass(slots=True)
class Results:
    """What the tests and fixtures of an atom gave in one process."""

    lease: LeaseRef | None = None
    tests: dict[int, TestRecord] = field(default_factory=dict)
    fixtures: dict[FixtureRef, FixtureRecord] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        match record:
            case TestRecord():
                self.tests.setdefault(record.index, record)
            case FixtureRecord():
                self.fixtures.setdefault(record.fixture, record)

    def bad(self, item: Item) -> bool:
        if isinstance(item, FixtureRef):
            found = self.fixtures.get(item)
            return found is not None and found.outcome in BAD_OUTCOMES
        record = self.tests.get(item)
        return record is None or record.outcome in BAD_OUTCOMES or record.covered_by is not None


@dataclass(slots=True, eq=False)
class Doubt:
    """What is held of one atom, and the search for the first item of it."""

    atom: int
    past: Preamble | None
    items: dict[Item, AnyVerdict]
    #: What came of each try.
    tried: dict[Try, Results] = field(default_factory=dict)
    item: Item = -1
    signature: str = ""
    #: There are enough failures that look the same to take it for one more of them.
    alike: bool = False
    search: order.Search | None = None
    ask: Ask | None = None
    #: What is being tried.
    probes: set[Try] = field(default_factory=set)
    #: How often a probe of each was lost.
    losses: Counter[Try] = field(default_factory=Counter)
    #: The verdict in doubt is a good one.
    passed: bool = False
    #: What a bisection may ask for after the answers so far; None until it is worked out.
    ahead: list[Ask] | None = None


@dataclass(slots=True)
class Probe:
    """A try that is under way. `cost` in predicted seconds."""

    doubt: Doubt
    key: Try
    cost: float
    results: Results = field(default_factory=Results)


@dataclass(slots=True)
class Doubts:
    """`atoms` in canonical order; an atom's position there is its name here."""

    manifest: Manifest
    atoms: Sequence[Atom]
    #: Slot-seconds for probes; None for the default, 0 for no probes at all.
    budget: float | None = None
    #: Positions of atoms that are known to have passed in a process of their own.
    passed_alone: set[int] = field(default_factory=set)
    #: Manifest index -> what earlier runs found out about the test.
    notes: dict[int, OrderNote] = field(default_factory=dict)
    #: Test id or fixture -> mark of the failure that it is known to have in every order.
    ordinary: Mapping[str, str] = field(default_factory=dict)
    #: What was found out in this run, by the position of the atom.
    findings: dict[int, Finding] = field(default_factory=dict)
    #: What turned out to fail in every order, as in `ordinary`, by the position of the atom.
    found_ordinary: dict[int, dict[str, str]] = field(default_factory=dict)
    #: Ids of the tests that a finding is about.
    tests: dict[int, tuple[str, ...]] = field(default_factory=dict)
    #: Positions of atoms in which a process died or hung: running them again would cost another.
    fatal: set[int] = field(default_factory=set)
    #: There is one doubt, and nothing else to do.
    bisects: bool = False
    #: What a bisection has found out.
    answer: Finding | None = None
    #: Slot-seconds that probes took.
    spent: float = 0.0
    #: How many gave an answer.
    answered: int = 0
    #: Slot-seconds that everything else took.
    busy_seconds: float = 0.0
    _first: list[int] = field(default_factory=list)
    #: Chunk -> what it gave that is held until it ends.
    _held: dict[str, dict[Item, AnyVerdict]] = field(default_factory=dict)
    #: Indices of tests that are held or in doubt.
    _indices: set[int] = field(default_factory=set)
    _doubts: list[Doubt] = field(default_factory=list)
    #: By the probe's chunk.
    _probes: dict[str, Probe] = field(default_factory=dict)
    #: Signature -> what was found out for the first failure that has it.
    _settled: dict[str, Finding] = field(default_factory=dict)
    #: Signature -> atoms with failures that have it.
    _same: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    #: Position -> measured seconds.
    _seconds: dict[int, float] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._first = [atom.indices[0] for atom in self.atoms]

    @property
    def enabled(self) -> bool:
        return self.budget != 0

    @property
    def pending(self) -> bool:
        """Something has no verdict yet because it is in doubt."""
        return bool(self._held or self._doubts)

    @property
    def count(self) -> int:
        """Number of atoms in doubt."""
        return len(self._doubts)

    def holds(self, index: int) -> bool:
        return index in self._indices

    @property
    def indices(self) -> frozenset[int]:
        return frozenset(self._indices)

    def position(self, index: int) -> int:
        """Position of the atom that has this manifest index."""
        found = bisect_right(self._first, index) - 1
        while index not in self.atoms[found].indices:  # atoms may interleave
            found -= 1
        return found

    def positions(self, indices: Iterable[int]) -> Preamble:
        """The atoms of these manifest indices, in canonical order."""
        return tuple(sorted({self.position(index) for index in indices}))

    # -- results of the plan's chunks ----------------------------------------------------

    def measure(self, record: TestRecord) -> None:
        atom = self.position(record.index)
        self._seconds[atom] = self._seconds.get(atom, 0.0) + record.seconds

    def hold(self, chunk: Chunk, verdict: AnyVerdict) -> bool:
        """Whether the verdict may be due to order; then it is kept until the chunk has ended."""
        if not self.enabled or not self._doubtful(chunk, verdict):
            return False
        held = self._held.setdefault(chunk.id, {})
        if isinstance(verdict, FixtureVerdict):
            held.setdefault(verdict.fixture, verdict)
        else:
            held[verdict.entry.index] = verdict
            self._indices.add(verdict.entry.index)
        return True

    def _doubtful(self, chunk: Chunk, verdict: AnyVerdict) -> bool:
        if any(failure.type in _FINAL for failure in verdict.failures):
            return False
        if isinstance(verdict, Verdict) and verdict.covered_by is not None:
            return verdict.covered_by in self._held.get(chunk.id, {})
        if isinstance(verdict, FixtureVerdict) and verdict.fixture.name not in self._named():
            return False  # of the session, or of a class that has no tests here
        return verdict.outcome in BAD_OUTCOMES

    def has_held(self, chunk: Chunk) -> bool:
        """Something of the chunk is held until it ends."""
        return bool(self._held.get(chunk.id))

    def chunk_ended(self, chunk: Chunk, past: Preamble | None) -> list[AnyVerdict]:
        """Verdicts that are final after all; the others are in doubt from now on.

        `past`: positions of what had run in the process before the chunk, its preamble included.
        """
        held = self._held.pop(chunk.id, {})
        final: list[AnyVerdict] = []
        here = self.positions(chunk.indices)
        if past == () and here and not any(self._of(item) == here[0] for item in held):
            self.passed_alone.add(here[0])
        for atom in sorted({self._of(item) for item in held}):
            items = {item: verdict for item, verdict in held.items() if self._of(item) == atom}
            earlier = tuple(one for one in here if one < atom)
            before = None if past is None else tuple(sorted({*past, *earlier}))
            # The process had the past of the sequential run, or one that is known to stand for it.
            # Clones of a flushed template have no past: what had been flushed may have left more
            # there, or less (available_apps), than a flush.
            whole = before is not None and len(before) == atom and not chunk.flushed
            if whole or chunk.preamble:
                final += self._release(items)
                continue
            if atom in self.fatal:
                final += [replace(one, order=_FATAL) for one in self._release(items)]
                continue
            known = self._known_ordinary(items)
            final += self._release({item: items.pop(item) for item in known})
            if not items:
                continue
            doubt = Doubt(atom, before, items)
            self._doubts.append(doubt)
            self._choose(doubt)
        return final + self._wake()

    def bisect(self, verdict: Verdict, past: Preamble | None, *, passed: bool) -> None:
        """Puts this verdict of an earlier run in doubt, whose process had that past."""
        index = verdict.entry.index
        self.bisects = True
        self._indices.add(index)
        doubt = Doubt(self.position(index), past, {index: verdict}, passed=passed)
        self._doubts.append(doubt)
        self._choose(doubt)
        self._wake()

    def _known_ordinary(self, items: Mapping[Item, AnyVerdict]) -> list[Item]:
        """What failed as it is known to fail in every order, with the tests that it covers."""
        known = {
            item
            for item, verdict in items.items()
            if (mark := self.ordinary.get(self._id(item))) and mark == _mark(verdict)
        }
        return [
            item
            for item, verdict in items.items()
            if item in known or (isinstance(verdict, Verdict) and verdict.covered_by in known)
        ]

    def _id(self, item: Item) -> str:
        return self.manifest[item].id if isinstance(item, int) else str(item)

    def noted(self, verdict: Verdict) -> Verdict:
        """The verdict, with what earlier runs found out about the test."""
        note = self.notes.get(verdict.entry.index)
        return verdict if note is None or verdict.order else replace(verdict, order=note)

    def give_up(self) -> list[AnyVerdict]:
        """All that is held, as it was; nothing is tried any more."""
        verdicts = [verdict for held in self._held.values() for verdict in held.values()]
        for doubt in self._doubts:
            note = self._note(doubt.ask.so_far) if doubt.ask is not None else None
            verdicts += [replace(verdict, order=note) for verdict in doubt.items.values()]
        self._held.clear()
        self._doubts.clear()
        self._indices.clear()
        return verdicts

    def _of(self, item: Item) -> int:
        """The atom that the test or fixture belongs to."""
        return self.position(item) if isinstance(item, int) else self._named()[item.name]

    def _named(self) -> dict[str, int]:
        """Class or module -> the first atom that has it."""
        if not self._names:
            for position, atom in enumerate(self.atoms):
                for entry in map(self.manifest.__getitem__, atom.indices):
                    self._names.setdefault(entry.cls, position)
                    self._names.setdefault(entry.module, position)
        return self._names

    def _release(self, items: dict[Item, AnyVerdict]) -> list[AnyVerdict]:
        self._indices.difference_update(item for item in items if isinstance(item, int))
        return list(items.values())

    # -- searches ------------------------------------------------------------------------

    def _choose(self, doubt: Doubt) -> None:
        """The next search of the doubt is for one of its items, fixtures first."""
        doubt.item = min(doubt.items, key=lambda item: (isinstance(item, int), str(item)))
        doubt.signature = _signature(doubt.items[doubt.item])
        doubt.search, doubt.ask, doubt.ahead = None, None, None
        same = self._same[doubt.signature]
        doubt.alike = bool(doubt.signature) and len(same - {doubt.atom}) >= SEARCHED_APART
        same.add(doubt.atom)

    def _wake(self) -> list[AnyVerdict]:
        """Goes on with doubts that wait for the search of another one, as far as that has ended."""
        final: list[AnyVerdict] = []
        settled = True
        while settled:
            settled = False
            for doubt in [one for one in self._doubts if one.search is None]:
                found = self._advance(doubt)
                settled |= bool(found)
                final += found
        return final

    def _advance(self, doubt: Doubt) -> list[AnyVerdict]:
        """Goes on as far as results are there; returns what is settled by it."""
        final: list[AnyVerdict] = []
        while (finding := self._found(doubt)) is not None:
            final += self._conclude(doubt, finding)
            if not doubt.items:
                self._doubts.remove(doubt)
                break
            self._choose(doubt)
        return final

    def _found(self, doubt: Doubt) -> Finding | None:
        """What the search comes to; None while it waits for a probe or another search."""
        try:
            if doubt.search is None:
                if self._waits(doubt):
                    return None
                known = self._settled.get(doubt.signature) if doubt.signature else None
                if known is not None and known.kind is OrderKind.UNPROVEN:
                    return known
                if known is not None and known.kind is None and doubt.alike:
                    return known
                doubt.search = self._begin(doubt)
                doubt.ask = next(doubt.search)
            while doubt.ask is not None and (results := doubt.tried.get(doubt.ask.key)):
                doubt.ask = doubt.search.send(results.bad(doubt.item))
        except StopIteration as end:
            doubt.ask = None
            finding: Finding = end.value
            return finding
        return None

    def _begin(self, doubt: Doubt) -> order.Search:
        if self.bisects:
            return order.bisection(doubt.atom, doubt.past, failed=not doubt.passed)
        known = self._settled.get(doubt.signature) if doubt.signature else None
        return order.search(
            doubt.atom,
            doubt.past,
            passed_alone=doubt.atom in self.passed_alone,
            partners=[] if known is None or known.partner is None else [known.partner],
            reach=self._reach,
            needs=self._needs,
        )

    def _waits(self, doubt: Doubt) -> bool:
        """Another failure that looks the same is searched first."""
        return doubt.alike and any(
            other is not doubt and other.search is not None and other.signature == doubt.signature
            for other in self._doubts
        )

    def _conclude(self, doubt: Doubt, finding: Finding) -> list[AnyVerdict]:
        """The verdicts of the doubt's item and of all that went the same way with it."""
        if doubt.signature:
            self._settled.setdefault(doubt.signature, finding)
        if self.bisects:
            self.answer = finding
        if finding.kind is not None:
            self.findings.setdefault(doubt.atom, finding)
        alike = [item for item in doubt.items if self._went_alike(doubt, item, finding)]
        items = {item: doubt.items.pop(item) for item in alike}
        if finding.kind is None and finding.proven and not self.bisects:
            marks = {self._id(item): mark for item in items if (mark := _mark(items[item]))}
            self.found_ordinary.setdefault(doubt.atom, {}).update(marks)
        if finding == self.findings.get(doubt.atom):
            found = (self.manifest[item].id for item in items if isinstance(item, int))
            self.tests[doubt.atom] = (*self.tests.get(doubt.atom, ()), *found)
        results = None if finding.preamble is None else doubt.tried[finding.preamble, 0]
        verdicts = [
            verdict
            for item, first in items.items()
            if (verdict := self._verdict(item, first, finding, results)) is not None
        ]
        self._release(items)
        return verdicts

    def _went_alike(self, doubt: Doubt, item: Item, finding: Finding) -> bool:
        if item == doubt.item:
            return True
        first = doubt.items[item]
        if isinstance(first, Verdict) and first.covered_by is not None:
            return first.covered_by == doubt.item
        if not doubt.tried:
            return not finding.proven or _signature(first) == doubt.signature
        return all(results.bad(item) == results.bad(doubt.item) for results in doubt.tried.values())

    def _verdict(
        self, item: Item, first: AnyVerdict, finding: Finding, results: Results | None
    ) -> AnyVerdict | None:
        """What counts; None for a fixture that did not fail where it counts."""
        if results is None or results.lease is None:
            return replace(first, order=self._note(finding))
        note = self._note(finding, failed_with=_message(first))
        if isinstance(item, FixtureRef):
            record = results.fixtures.get(item)
            return None if record is None else replace(record.verdict(results.lease), order=note)
        again = results.tests[item].verdict(self.manifest[item], results.lease)
        return replace(again, order=note, attempt=2)

    def _note(self, finding: Finding, failed_with: str = "") -> OrderNote | None:
        if finding.kind is None:
            return None
        partner = "" if finding.partner is None else self.name(finding.partner)
        return OrderNote(finding.kind, partner, finding.proven_by, finding.proven, failed_with)

    def name(self, position: int) -> str:
        """The class of the atom, or the first of them; a test that has the atom for itself."""
        return self.manifest[self._first[position]].unit

    # -- probes --------------------------------------------------------------------------

    def asked(self, idle: int) -> list[tuple[Doubt, Ask, float]]:
        """What doubts want to try, with its predicted seconds, the cheapest first.

        A bisection tries as much ahead as there are idle slots, the nearest first.
        """
        if self.bisects:
            return [
                (doubt, ask, self._cost(doubt, ask))
                for doubt in self._doubts
                for ask in self._wanted(doubt, idle)
            ]
        wanted = [
            (self._cost(doubt, ask), position, doubt, ask)
            for position, doubt in enumerate(self._doubts)
            for ask in self._wanted(doubt, 1)
        ]
        wanted.sort(key=lambda one: one[:2])
        return [(doubt, ask, cost) for cost, _, doubt, ask in wanted]

    def _wanted(self, doubt: Doubt, idle: int) -> list[Ask]:
        if doubt.ask is None:
            return []
        if not self.bisects:
            return [] if doubt.probes else [doubt.ask]
        if doubt.ahead is None:
            known = {key: results.bad(doubt.item) for key, results in doubt.tried.items()}
            doubt.ahead = order.ahead(partial(self._begin, doubt), known, MOST_AHEAD)
        # What may turn out to be of no use must not keep a slot for long.
        most = max(DEAREST * self._cost(doubt, doubt.ask), CHEAP)
        wanted = [
            ask
            for ask in doubt.ahead
            if ask.key not in doubt.probes
            and (ask.key == doubt.ask.key or self._cost(doubt, ask) <= most)
        ]
        return wanted[:idle]

    def wants(self, doubt: Doubt, ask: Ask) -> bool:
        """It still does: what was settled meanwhile may have settled it, too."""
        return doubt in self._doubts and doubt.ask is not None and ask.key not in doubt.probes

    def affordable(self, cost: float) -> bool:
        return cost <= self._left

    @property
    def _left(self) -> float:
        """Slot-seconds of the budget that are left, less what is under way."""
        budget = self.budget
        if budget is None and self.bisects:
            return math.inf
        if budget is None:
            budget = max(LEAST_BUDGET, BUDGET_SHARE * self.busy_seconds)
        under_way = sum(probe.cost for probe in self._probes.values())
        return budget - self.spent - under_way

    def _reach(self, atom: int) -> int:
        """The first of the atom's predecessors that can all run before it within the budget."""
        searching = sum(1 for doubt in self._doubts if doubt.search is not None)
        left = self._left / max(searching, 1) - PROBE_COST - self._cost_of(atom)
        while atom > 0 and left >= (cost := self._cost_of(atom - 1)):
            left -= cost
            atom -= 1
        return atom

    def _needs(self, atom: int) -> Preamble:
        """What was found to be needed before this atom."""
        found = self.findings.get(atom)
        return found.preamble or () if found and found.kind is OrderKind.BRITTLE else ()

    def _cost(self, doubt: Doubt, ask: Ask) -> float:
        positions = (*ask.preamble, doubt.atom)
        return PROBE_COST + sum(map(self._cost_of, positions))

    def _cost_of(self, position: int) -> float:
        if position in self.fatal:
            return math.inf
        return self._seconds.get(position, self.atoms[position].estimate)

    def unaffordable(self, doubt: Doubt) -> list[AnyVerdict]:
        """The budget does not suffice for what the doubt wants to know."""
        assert doubt.ask is not None
        verdicts = self._conclude(doubt, doubt.ask.so_far)
        if doubt.items:
            self._choose(doubt)
        else:
            self._doubts.remove(doubt)
        return verdicts + self._wake()

    def offered(self, chunk: Chunk) -> bool:
        """The probe is on offer; False if no doubt wants it."""
        atom, preamble = self.position(chunk.indices[0]), self.positions(chunk.preamble)
        for doubt in self._doubts:
            # Two attempts of one class may be in doubt, each with a search of its own.
            if doubt.atom != atom:
                continue
            for ask in self._wanted(doubt, MOST_AHEAD):
                if ask.preamble == preamble:
                    doubt.probes.add(ask.key)
                    self._probes[chunk.id] = Probe(doubt, ask.key, self._cost(doubt, ask))
                    return True
        return False

    def record(self, chunk: Chunk, record: Record, lease: LeaseRef) -> None:
        if chunk.id in self._probes:
            results = self._probes[chunk.id].results
            results.lease = lease
            results.add(record)

    def died_of(self, chunk: Chunk, index: int | None, fixture: FixtureRef | None) -> bool:
        """Whether the end of the probe's process is a verdict on what it is about.

        In a run, deaths and hangs have rules of their own; a bisection asks what they depend on.
        """
        probe = self._probes.get(chunk.id)
        if probe is None or not self.bisects or not isinstance(probe.doubt.item, int):
            return False
        item = probe.doubt.item
        if fixture is not None:
            return fixture.keeps(self.manifest[item])
        return index == item

    def probe_ended(self, chunk: Chunk, seconds: float) -> list[AnyVerdict]:
        """It came to its end; its results are the answer."""
        probe = self._ended(chunk, seconds)
        if probe is None:
            return []
        doubt, results = probe.doubt, probe.results
        doubt.tried[probe.key], doubt.ahead = results, None
        self.answered += 1
        if not chunk.preamble and not any(map(results.bad, self.atoms[doubt.atom].indices)):
            self.passed_alone.add(doubt.atom)
        return self._advance(doubt) + self._wake()

    def probe_lost(self, chunk: Chunk, seconds: float, *, hopeless: bool) -> list[AnyVerdict]:
        """It gave no answer. `hopeless`: trying again will not help."""
        probe = self._ended(chunk, seconds)
        if probe is None:
            return []
        doubt = probe.doubt
        doubt.losses[probe.key] += 1
        if doubt.ask is None or doubt.ask.key != probe.key:
            return []  # nobody may ever want to know
        if not hopeless and doubt.losses[probe.key] < MOST_LOSSES:
            return []
        if self.bisects:
            text = f"{doubt.ask.so_far.proven_by}; then a process died or hung in another test"
            so_far = replace(doubt.ask.so_far, proven_by=text, proven=False)
            doubt.ask = replace(doubt.ask, so_far=so_far)
        return self.unaffordable(doubt)

    def _ended(self, chunk: Chunk, seconds: float) -> Probe | None:
        """The probe, if its doubt is not settled meanwhile."""
        probe = self._probes.pop(chunk.id, None)
        self.spent += seconds
        if probe is None or probe.doubt not in self._doubts:
            return None
        probe.doubt.probes.discard(probe.key)
        return probe


def _message(verdict: AnyVerdict) -> str:
    if not verdict.failures:
        return verdict.reason
    first = verdict.failures[0]
    return f"{first.type}: {first.message}" if first.message else first.type


def _signature(verdict: AnyVerdict) -> str:
    """Equal for errors of different tests that look the same.

    Empty for failed assertions, which say too little, and for what has no text.
    """
    failure: Failure | None = next(iter(verdict.failures), None)
    if failure is None or failure.kind == "failure" or verdict.outcome is Outcome.XPASSED:
        return ""
    return _looks(failure)


def _mark(verdict: AnyVerdict) -> str:
    """Equal for failures of one test that look the same; empty for what has no text."""
    failure: Failure | None = next(iter(verdict.failures), None)
    if failure is None:
        return ""
    looks = _looks(failure).encode("utf-8", "surrogatepass")  # a test may fail with any text
    return hashlib.blake2b(looks, digest_size=8).hexdigest()


def _looks(failure: Failure) -> str:
    """Type, message without what varies, and the place that raised it."""
    frames = _FRAME.findall(failure.text)
    place = ":".join(frames[-1]) if frames else ""
    return f"{failure.type}|{_VARIABLE.sub('#', failure.message)[:200]}|{place}"
