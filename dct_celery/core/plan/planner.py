"""The plan: which entries must stay together (atoms), and which of them go out next (chunks).

Chunks go out in canonical order, because tests may depend on it (I13). Only atoms that are wanted
early, and then those that would stretch the end of the run if they waited for their turn, go first.
Guided self-scheduling: slots ask when they are idle, and a chunk is half the fair share of what is
left, but never long. So chunks shrink towards the end, and slots that join late find work. Nothing
here knows slots by name, the clock or chance: the same questions in the same order give the same
chunks.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dct_celery.core import order
from dct_celery.core.model import Chunk, Entry, Manifest, Need, Phase
from dct_celery.core.plan.limits import Limits
from dct_celery.core.plan.timings import Estimates

#: Seconds that a chunk takes at most if it has more than one atom: a slot that joins late must find
#: work, and what is lost with a slot must be small.
CHUNK_SECONDS = 5.0
#: Seconds below which it does not pay to make a chunk shorter.
MIN_CHUNK_SECONDS = 0.2
#: What ties entries together: a name of `Entry.keep_with` and the phase that it holds in.
_Group = tuple[str, Phase]
_Kind = tuple[Phase, Need, tuple[str, ...], tuple[str, ...], tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class Atom:
    """Entries that must run in one test process, in canonical order; never split by a plan."""

    #: Manifest indices, ascending, at least one.
    indices: tuple[int, ...]
    phase: Phase
    need: Need
    #: Predicted seconds, class fixtures included.
    estimate: float
    #: Sorted names: "port:N", "file:PATH".
    locks: tuple[str, ...]
    #: Aliases that the sequential run has flushed before it reaches this atom.
    flushed: tuple[str, ...] = ()
    #: Aliases that its own tests flush.
    flushes: tuple[str, ...] = ()
    #: Atoms (their first indices) that run before it in its process, which is fresh.
    before: tuple[int, ...] = ()
    #: Nothing may run before it in its process.
    isolated: bool = False


def atoms(manifest: Manifest, estimates: Estimates) -> tuple[Atom, ...]:
    """The atoms of the suite, ordered by their first index; every index is in exactly one.

    Entries of one phase that share a name of `keep_with` are in one atom, and so are those that a
    chain of such names connects. For a part of the suite, atoms hold what is to run of them.
    """
    first_flush: dict[str, int] = {}
    for entry in manifest.entries:
        for alias in entry.databases if entry.flushes else ():
            first_flush.setdefault(alias, entry.index)
    part = None if manifest.part is None else set(manifest.part)
    groups = (
        group if part is None else [entry for entry in group if entry.index in part]
        for group in _groups(manifest)
    )
    return tuple(_atom(group, estimates, first_flush) for group in groups if group)


def lower_bound(atoms: Iterable[Atom], slots: int) -> float:
    """Seconds that no plan for this many slots (at least 1) can beat.

    The fair share or the longest atom, whichever is longer.
    """
    estimates = [atom.estimate for atom in atoms]
    return max(sum(estimates) / max(slots, 1), max(estimates, default=0.0))


def _groups(manifest: Manifest) -> Iterable[list[Entry]]:
    """The entries by what keeps them together, groups and members in manifest order."""
    parents: dict[_Group, _Group] = {}
    for entry in manifest.entries:
        first, *others = _names(entry)
        root = _root(parents, (first, entry.phase))
        for other in others:
            parents[_root(parents, (other, entry.phase))] = root
    groups: defaultdict[_Group, list[Entry]] = defaultdict(list)
    for entry in manifest.entries:
        groups[_root(parents, (_names(entry)[0], entry.phase))].append(entry)
    return groups.values()


def _names(entry: Entry) -> tuple[str, ...]:
    """At least one: an entry that nothing keeps with others is a group of its own."""
    return entry.keep_with or (f"entry:{entry.index}",)


def _root(parents: dict[_Group, _Group], group: _Group) -> _Group:
    """The group that stands for all that are tied to this one (union-find).

    Halves the path on its way, so that chains stay short.
    """
    while (parent := parents.setdefault(group, group)) != group:
        parents[group] = group = parents[parent]
    return group


def _atom(group: Sequence[Entry], estimates: Estimates, first_flush: Mapping[str, int]) -> Atom:
    phase = group[0].phase
    flushed = _flushed_before(phase, group[0].index, first_flush)
    times = [estimates.planned(entry) for entry in group]
    default = estimates.default(phase)
    tests = sum(default if seconds is None else seconds for seconds in times)
    classes = sum(estimates.class_cost(cls) for cls in dict.fromkeys(entry.cls for entry in group))
    return Atom(
        indices=tuple(entry.index for entry in group),
        phase=phase,
        need=_need(phase, flushed),
        estimate=tests + classes,
        locks=tuple(sorted({name for entry in group for name in entry.locks})),
        flushed=flushed,
        flushes=tuple(
            sorted({alias for entry in group if entry.flushes for alias in entry.databases})
        ),
    )


def _flushed_before(phase: Phase, first: int, first_flush: Mapping[str, int]) -> tuple[str, ...]:
    """Aliases that are empty when the sequential run reaches this atom, if its tests can tell.

    `first` is the atom's first index.
    """
    if phase not in (Phase.TRANSACTIONAL, Phase.UNMANAGED):
        return ()
    return tuple(sorted(alias for alias, index in first_flush.items() if index < first))


def _need(phase: Phase, flushed: tuple[str, ...]) -> Need:
    """The state of the sequential run's databases when it reaches an atom."""
    if phase in (Phase.NO_DATABASE, Phase.LOAD_FAILED):
        return Need.ANY
    return Need.FLUSHED if flushed else Need.PRISTINE


class Planner:
    """Cuts chunks on demand.

    Every atom goes out exactly once; what comes back through `requeue` goes out first.
    """

    def __init__(
        self,
        atoms: Iterable[Atom],
        *,
        chunk_seconds: float | None = None,
        min_chunk_seconds: float = MIN_CHUNK_SECONDS,
        limits: Limits | None = None,
        separate_failures: bool = False,
        together: bool = False,
        probes_only: bool = False,
        urgent: Collection[int] = (),
    ) -> None:
        """`chunk_seconds`: None for CHUNK_SECONDS. `together`: all goes into one chunk, for one
        fresh process; only what that leaves goes into others. `probes_only`: nothing goes out by
        itself. `urgent`: indices of tests whose atoms go out before all others.
        """
        #: In canonical order.
        self._atoms = sorted(atoms, key=_first)
        self._longest = CHUNK_SECONDS if chunk_seconds is None else chunk_seconds
        self._floor = min_chunk_seconds
        self._limits = limits or Limits()
        self._given = 0
        #: A failure ends its process, so that it spoils nothing else; see `Chunk.ends_if_bad`.
        self.separate_failures = separate_failures
        self._together = together
        self._retries: deque[Chunk] = deque()
        #: First indices (they identify the atom) of what is not cut yet. The other collections drop
        #: atoms that were cut lazily.
        self._left = set() if probes_only else {_first(atom) for atom in self._atoms}
        self._estimates = {_first(atom): atom.estimate for atom in self._atoms}
        self._by_first = {_first(atom): atom for atom in self._atoms}
        self._seconds = sum(self._estimates.values())
        #: Atoms that may share a chunk, in canonical order.
        self._bins: defaultdict[_Kind, deque[Atom]] = defaultdict(deque)
        for atom in self._atoms:
            self._bins[_kind(atom)].append(atom)
        # Heaps. Their keys end in the atom's first index, which is unique, so atoms themselves are
        # never compared.
        self._heads = [(_first(queue[0]), queue[0]) for queue in self._bins.values()]
        self._by_size = [((-atom.estimate, _first(atom)), atom) for atom in self._atoms]
        heapq.heapify(self._heads)
        heapq.heapify(self._by_size)
        #: Atoms that go out first, in canonical order.
        self._urgent = [atom for atom in self._atoms if not set(urgent).isdisjoint(atom.indices)]
        self._urgent_seconds = sum(atom.estimate for atom in self._urgent)
        #: The number of slots that `_early` was computed for.
        self._slots = 0
        #: Atoms that go out before their turn, the longest last.
        self._early: list[Atom] = []

    @property
    def remaining_seconds(self) -> float:
        """Predicted seconds of all that `next_chunk` has still to hand out, retries included."""
        fresh = max(self._seconds, 0.0) if self._left else 0.0
        return fresh + sum(chunk.estimate for chunk in self._retries)

    @property
    def empty(self) -> bool:
        """`next_chunk` has nothing more to hand out."""
        return not self._left and not self._retries

    def pending(self) -> list[int]:
        """Indices that `next_chunk` has still to hand out, once per future chunk."""
        fresh = (
            index for atom in self._atoms if _first(atom) in self._left for index in atom.indices
        )
        return [*fresh, *(index for retry in self._retries for index in retry.indices)]

    @property
    def longest_seconds(self) -> float:
        """Predicted seconds of the longest atom that is not cut yet; 0 where there is none."""
        while self._by_size and _first(self._by_size[0][1]) not in self._left:
            heapq.heappop(self._by_size)
        return self._by_size[0][1].estimate if self._by_size else 0.0

    def next_chunk(self, slots: int, held_locks: frozenset[str]) -> Chunk | None:
        """Cuts the next chunk; None if nothing is left that can run without `held_locks`.

        `slots` is the present number of slots (less than 1 counts as 1). Retries come first, then
        urgent atoms, then atoms that would stretch the end of the run, longest first, then all
        others in canonical order.
        """
        for retry in self._retries:
            if held_locks.isdisjoint(retry.locks):
                self._retries.remove(retry)
                return retry
        if self._together:
            return self._everything(held_locks)
        urgent = self._urgent_atom(held_locks)
        first = (
            urgent or self._early_atom(max(slots, 1), held_locks) or self._atom_in_order(held_locks)
        )
        if first is None:
            return None
        share = max(self.remaining_seconds / (2 * max(slots, 1)), self._floor)
        if urgent is not None:
            # Every slot gets some of them, before anything else.
            share = self._urgent_seconds / max(slots, 1)
        ends_if_bad = self.separate_failures and slots > 1
        return self._cut(first, min(share, self._longest), ends_if_bad=ends_if_bad)

    def _urgent_atom(self, held_locks: frozenset[str]) -> Atom | None:
        self._urgent = [atom for atom in self._urgent if _first(atom) in self._left]
        return next((atom for atom in self._urgent if held_locks.isdisjoint(atom.locks)), None)

    def _everything(self, held_locks: frozenset[str]) -> Chunk | None:
        left = [atom for atom in self._atoms if _first(atom) in self._left]
        if not left or any(not held_locks.isdisjoint(atom.locks) for atom in left):
            return None
        self._left.clear()
        return replace(self._chunk(left), fresh_process=True)

    def _cut(self, first: Atom, target: float, *, ends_if_bad: bool) -> Chunk:
        """A chunk that begins with this atom, of so many seconds if there are more of its kind."""
        before = [self._by_first[other] for other in first.before]
        taken = self._fill(first, target)
        return replace(
            self._chunk(taken, before),
            fresh_process=bool(before) or first.isolated,
            ends_if_bad=ends_if_bad,
            stops=tuple(sorted(map(_first, taken)))[1:] if ends_if_bad else (),
        )

    def requeue(
        self, chunk: Chunk, indices: tuple[int, ...], *, fresh_process: bool, avoid_worker: str = ""
    ) -> Chunk:
        """Puts what is left of a chunk in front of everything else, as a new chunk and attempt.

        `indices` is a non-empty part of the chunk's, chosen so that no class or module is torn
        apart; otherwise raises ValueError. `avoid_worker` names a worker that should not get it,
        if there is another.
        """
        left = tuple(sorted(set(indices)))
        if not left or not set(left).issubset(chunk.indices):
            raise ValueError(
                f"cannot requeue {indices} of chunk {chunk.id}: not a non-empty part of it"
            )
        retry = replace(
            chunk,
            id=self.new_id(),
            indices=left,
            **_start_state(chunk, left),
            attempt=chunk.attempt + 1,
            estimate=chunk.estimate * len(left) / len(chunk.indices),
            fresh_process=fresh_process,
            avoid_worker=avoid_worker,
            test_limit=self._limits.base(left),
            limits=self._limits.tests(left),
            stops=tuple(index for index in chunk.stops if index in left[1:]),
        )
        self._retries.appendleft(retry)
        return retry

    def probe(self, position: int, preamble: Sequence[int], estimate: float) -> Chunk:
        """A chunk that runs an atom again in a fresh process, after those of `preamble`.

        Atoms are named by their positions in canonical order; `estimate` in seconds.
        """
        atom = self._atoms[position]
        chunk = self._chunk([atom], [self._atoms[before] for before in preamble])
        return replace(chunk, estimate=estimate, fresh_process=True, probe=True)

    def take(self, chunk: Chunk) -> None:
        """For a replay: this chunk was cut before, so its tests are not handed out again."""
        # Ids are never used twice, and a retry of this replay may have been given this chunk's id.
        self._given = max(self._given, int(chunk.id.removeprefix("c")))
        left = [retry for retry in self._retries if retry.indices != chunk.indices]
        self._retries = deque(
            replace(retry, id=self.new_id()) if retry.id == chunk.id else retry for retry in left
        )
        for index in chunk.indices:
            if index in self._left:
                self._left.discard(index)
                self._seconds -= self._estimates[index]

    def new_id(self) -> str:
        """For a chunk; never given twice."""
        self._given += 1
        return f"c{self._given}"

    def _early_atom(self, slots: int, held_locks: frozenset[str]) -> Atom | None:
        """The longest free atom that would stretch the end if it waited for its turn."""
        # With every slot that joins a large pool it would take long, and change little.
        if abs(slots - self._slots) > self._slots // 20:
            self._slots = slots
            self._early = self._stretching(slots)
        self._early = [atom for atom in self._early if _first(atom) in self._left]
        return next(
            (atom for atom in reversed(self._early) if held_locks.isdisjoint(atom.locks)), None
        )

    def _stretching(self, slots: int) -> list[Atom]:
        left = [atom for atom in self._atoms if _first(atom) in self._left]
        # Out of its turn, an atom costs its slot a fresh process: only for those of some length.
        tolerance = 1.1 * self._seconds / max(len(left), 1)
        found = order.stretching([atom.estimate for atom in left], slots, tolerance)
        return sorted((left[position] for position in found), key=lambda atom: atom.estimate)

    def _atom_in_order(self, held_locks: frozenset[str]) -> Atom | None:
        """The first free atom in canonical order. Skips bins, not atoms."""
        skipped = []
        found = None
        while self._heads and found is None:
            item = heapq.heappop(self._heads)
            head = self._head(_kind(item[1]))
            if head is None:
                continue
            if head is not item[1]:
                heapq.heappush(self._heads, (_first(head), head))
                continue
            if held_locks.isdisjoint(head.locks):
                found = head
            skipped.append(item)
        for item in skipped:
            heapq.heappush(self._heads, item)
        return found

    def _fill(self, first: Atom, target: float) -> list[Atom]:
        """Takes `first`, and more of its bin in order while they fit into `target` seconds.

        Only what comes later in canonical order than `first`, and as urgent as that.
        """
        taken = [first]
        total = first.estimate
        self._left.discard(_first(first))
        for atom in self._followers(first):
            if total + atom.estimate > target:
                break
            taken.append(atom)
            total += atom.estimate
            self._left.discard(_first(atom))
        self._seconds -= total
        return taken

    def _followers(self, first: Atom) -> Iterator[Atom]:
        """Atoms that may come behind it in its chunk. Take each before asking for the next."""
        kind = _kind(first)
        if any(atom is first for atom in self._urgent):
            yield from (a for a in self._urgent if _first(a) > _first(first) and _kind(a) == kind)
            return
        while (head := self._head(kind)) is not None and _first(head) > _first(first):
            yield head

    def _head(self, kind: _Kind) -> Atom | None:
        """First atom of the bin that is not cut yet."""
        queue = self._bins[kind]
        while queue and _first(queue[0]) not in self._left:
            queue.popleft()
        return queue[0] if queue else None

    def _chunk(self, taken: Sequence[Atom], before: Sequence[Atom] = ()) -> Chunk:
        """`before`: atoms that run first in its process, for what they leave there."""
        everything = [*before, *taken]
        indices = tuple(sorted(index for atom in taken for index in atom.indices))
        preamble = tuple(sorted(index for atom in before for index in atom.indices))
        need, flushed = _start(everything)
        flushes = {alias for atom in everything for alias in atom.flushes}
        return Chunk(
            self.new_id(),
            indices,
            taken[0].phase,
            need,
            flushed=flushed,
            flushes=tuple(sorted(flushes)),
            locks=tuple(sorted({lock for atom in everything for lock in atom.locks})),
            estimate=sum(atom.estimate for atom in everything),
            test_limit=self._limits.base((*preamble, *indices)),
            limits=self._limits.tests((*preamble, *indices)),
            fixture_limit=self._limits.fixture((*preamble, *indices)),
            preamble=preamble,
        )


def _kind(atom: Atom) -> _Kind:
    """Atoms of one kind may share a chunk."""
    alone = _first(atom) if atom.isolated else -1
    return atom.phase, atom.need, atom.flushed, atom.locks, atom.before, alone


def _first(atom: Atom) -> int:
    return atom.indices[0]


def _start(atoms: Sequence[Atom]) -> tuple[Need, tuple[str, ...]]:
    """The state of the databases that these atoms, run one after the other, have to start from.

    The first one's, if one of them brings about what a later one needs; else the last one's.
    """
    first, last = atoms[0], atoms[-1]
    flushed_on_the_way = {alias for atom in atoms[:-1] for alias in atom.flushes}
    needed = max(atoms, key=lambda atom: atom.need is not Need.ANY)
    if set(last.flushed) <= {*first.flushed, *flushed_on_the_way}:
        return (first.need if first.need is not Need.ANY else needed.need), first.flushed
    return last.need, last.flushed


def _start_state(chunk: Chunk, left: tuple[int, ...]) -> dict[str, Any]:
    """What a retry has to start from.

    Once the first tests of a transactional chunk have run, their flush has happened as well.
    """
    if chunk.phase is not Phase.TRANSACTIONAL or left[0] == chunk.indices[0]:
        return {}
    flushed = tuple(sorted({*chunk.flushed, *chunk.flushes}))
    return {"flushed": flushed, "need": _need(chunk.phase, flushed)}
