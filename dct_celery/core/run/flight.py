"""Chunks in flight: which are offered, who holds which, and what they lock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dct_celery.core.model import Chunk
from dct_celery.core.run.leases import LeaseRef


@dataclass(slots=True)
class InFlight:
    """A chunk that is offered or leased."""

    chunk: Chunk
    #: When it was offered or leased; seconds on the run's clock.
    since: float
    lease: LeaseRef | None = None
    lease_ms: int = 0
    #: The test whose record came last.
    last: int | None = None
    #: The chunk's indices, for membership tests: it may be a whole suite.
    members: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self.members = frozenset(self.chunk.indices)


@dataclass(slots=True)
class Flight:
    """A chunk is queued, then leased, then gone; after a stop, what was queued is withdrawn."""

    #: By the chunk's id, as are the others.
    queued: dict[str, InFlight] = field(default_factory=dict)
    leased: dict[str, InFlight] = field(default_factory=dict)
    #: Offered, and withdrawn by a stop; a slot may have claimed it before it learnt of the stop.
    _withdrawn: dict[str, InFlight] = field(default_factory=dict)
    #: Chunks that were ever offered.
    _known: set[str] = field(default_factory=set)
    #: How many of them were claimed.
    claims: int = 0
    #: Of chunks in flight that have any. A few that have ended may be among them.
    _locks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Without what is withdrawn."""
        return len(self.queued) + len(self.leased)

    def __iter__(self) -> Iterator[InFlight]:
        yield from self.queued.values()
        yield from self.leased.values()

    def was_offered(self, chunk: Chunk) -> bool:
        return chunk.id in self._known

    def queue(self, chunk: Chunk, now: float) -> None:
        self._known.add(chunk.id)
        self.queued[chunk.id] = InFlight(chunk, now)
        if chunk.locks:
            self._locks[chunk.id] = chunk.locks

    def claim(self, lease: LeaseRef, lease_ms: int, now: float) -> None:
        """Of a chunk that is not on offer (any more) nothing is claimed."""
        held = self.queued.pop(lease.chunk, None) or self._withdrawn.pop(lease.chunk, None)
        if held is not None:
            self.claims += 1
            self.leased[lease.chunk] = InFlight(held.chunk, now, lease, lease_ms)

    def held(self, lease: LeaseRef) -> InFlight | None:
        """The chunk that this lease is on, in whatever epoch; None if the lease is not held."""
        held = self.leased.get(lease.chunk)
        if held is None or held.lease is None or replace(held.lease, epoch=lease.epoch) != lease:
            return None
        return held

    def end(self, lease: LeaseRef) -> InFlight | None:
        """The chunk that this lease was on; None if the lease is not held."""
        held = self.held(lease)
        if held is not None:
            del self.leased[lease.chunk]
        return held

    def withdraw(self) -> None:
        """Takes back what is on offer."""
        self._withdrawn |= self.queued
        self.queued.clear()

    def late(self, now: float, idle_since: float, patience: float) -> list[Chunk]:
        """Chunks on offer that nobody has claimed for `patience` seconds, counted anew from here.

        Time before `idle_since`, without an idle slot, does not count: every long chunk would be
        published twice.
        """
        late = [
            held for held in self.queued.values() if now - max(held.since, idle_since) > patience
        ]
        for held in late:
            held.since = now
        return [held.chunk for held in late]

    def locks(self) -> frozenset[str]:
        self._locks = {
            chunk: locks
            for chunk, locks in self._locks.items()
            if chunk in self.queued or chunk in self.leased
        }
        return frozenset(lock for locks in self._locks.values() for lock in locks)

    def validate(self) -> None:
        """Raises AssertionError if a chunk is in two states, or two chunks hold one lock."""
        groups = (self.queued, self.leased, self._withdrawn)
        assert len({*self.queued, *self.leased, *self._withdrawn}) == sum(map(len, groups))
        assert all(held.lease is None for held in self.queued.values())
        for name, held in self.leased.items():
            assert held.lease is not None, f"{name} is leased to no one"
            assert held.chunk.id == name == held.lease.chunk
        locks = [lock for held in self for lock in held.chunk.locks]
        assert len(locks) == len(set(locks)), f"a lock is held twice: {locks}"
