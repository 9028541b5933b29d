"""What all faults have in common.

A fault is a generator that is resumed after as many seconds as it yields. When the run is over
first, it is closed, and its `finally` blocks repair what it broke.

Recovery is the time from `since` until everything that the fault took away is running or done
again, on whatever slots are left:

    `since`    the fault itself, where others must take over (kills, zombies, cuts beyond the
               lease); the end of the outage, where the same processes go on by themselves.
    HELD, ALL  what was taken away are the tests of the chunks that the struck worker (any worker)
               held, except those that already had a verdict that stands. Each test is back with its
               verdict, or earlier: with the claim of another chunk that contains it, or, after an
               outage, with the next verdict of its old chunk. The last of them counts, not the
               first. The time that a new chunk waits while all other slots are busy does not count.
               So the figure contains neither the start of a new worker process nor the end of
               another chunk as long as others work, and both if the tests wait for them.
    QUEUED     the first claim of a chunk whose message was in the queue; the others are published
               again at the same time and may only have to wait for a slot.
    CLAIMS     the first claim by the struck worker.
    JOURNAL    the first line that the dispatcher writes: what workers do without it does not count.

Times are the store's. Where nothing was held there is nothing to recover, and nothing counts.
Seconds in which another fault of the round keeps a server or the dispatcher away do not count
either: the recovery waits for them, and they have a figure of their own.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from typing import ClassVar

from dct_celery.core.run.machine import CLAIM_SECONDS
from tests.chaos.journal import Heard, Tail
from tests.chaos.scene import REMOTE, Leased, Scene, Worker
from tests.chaos.schedule import Kind

#: Seconds that a fault waits for something to strike.
PATIENCE = 6.0
#: Seconds between two searches for it.
SEARCH_PAUSE = 0.05


class Meets(Enum):
    """What a fault affects, and by what one sees that the run has recovered."""

    HELD = "held"
    ALL = "all"
    QUEUED = "queued"
    CLAIMS = "claims"
    JOURNAL = "journal"
    NOTHING = "nothing"


def _is_of(chunk: str, heard: Heard) -> bool:
    return heard.chunk == chunk


class Fault(ABC):
    """One strike of one kind."""

    name: ClassVar[str]
    #: See `schedule.Kind`.
    losing: ClassVar[bool] = False
    stalling: ClassVar[bool] = False
    once: ClassVar[bool] = False
    #: Only the worker on a host of its own can be struck.
    remote: ClassVar[bool] = False
    meets: ClassVar[Meets] = Meets.HELD
    #: Recovery counts from the end of the outage.
    outage: ClassVar[bool] = False
    #: redis | rabbitmq: it can only be struck there; empty for any.
    broker: ClassVar[str] = ""
    #: Not two faults at a time on the same part; "worker" means one of the workers.
    part: ClassVar[str] = "worker"

    def __init__(self, scene: Scene, worker: Worker, chance: random.Random) -> None:
        self.scene, self.worker, self.chance = scene, worker, chance
        #: Unix seconds of the blow and of the end of the outage; 0 before.
        self.struck = self.healed = 0.0
        self.found: list[int] = []
        self._chunks: list[Leased] = []

    @classmethod
    def kind(cls) -> Kind:
        return Kind(cls.name, cls.losing, cls.stalling, cls.once, REMOTE if cls.remote else None)

    @abstractmethod
    def act(self) -> Iterator[float]:
        """Seconds until the next step, each time."""

    @property
    def resource(self) -> str:
        return self.worker.name if self.part == "worker" else self.part

    @property
    def clock(self) -> float:
        """Seconds that recovery is timed by.

        A lost message is sent again after CLAIM_SECONDS, all else takes a lease.
        """
        by_claim = self.meets in (Meets.QUEUED, Meets.CLAIMS)
        return max(self.scene.lease, CLAIM_SECONDS) if by_claim else self.scene.lease

    def blow(self) -> None:
        """To be called right before: notes what is met."""
        self._chunks = self.scene.chunks() if self.meets is not Meets.NOTHING else []
        self.struck = time.time()

    def heal(self) -> None:
        """To be called right after the outage."""
        self.healed = time.time()

    def seek(self, find: Callable[[], list[int]]) -> Iterator[float]:
        """Waits until there is something to strike; leaves it in `found`, which may stay empty."""
        deadline = time.monotonic() + PATIENCE
        self.found = find()
        while not self.found and time.monotonic() < deadline:
            yield SEARCH_PAUSE
            self.found = find()

    @property
    def away(self) -> tuple[float, float]:
        """The times in which this fault kept a server or the dispatcher from everyone."""
        return (
            (self.struck, self.healed)
            if self.outage and self.part not in ("worker", "network")
            else (0.0, 0.0)
        )

    def recovery(self, tail: Tail, others: Iterable[tuple[float, float]] = ()) -> float | None:
        """Seconds, as the head of this file says.

        None where there was nothing to recover, or no more occasion to. `others`: `away` of the
        other faults of the round.
        """
        since = self.healed if self.outage else self.struck
        seconds = self._recovered(tail, since) if since else None
        return (
            None
            if seconds is None
            else round(seconds - _covered(since, since + seconds, others), 2)
        )

    def _recovered(self, tail: Tail, since: float) -> float | None:
        if self.meets is Meets.CLAIMS:
            return _after(
                since, tail.first("claimed", since, lambda one: one.worker == self.worker.name)
            )
        if self.meets is Meets.QUEUED:
            names = {chunk.chunk for chunk in self._chunks if chunk.state == "queued"}
            return _after(since, tail.first("claimed", since, lambda one: one.chunk in names))
        if self.meets is Meets.JOURNAL:
            return _after(since, next((at for at in tail.grown if at > since), None))
        held = [chunk for chunk in self._chunks if chunk.state == "leased"]
        taken = [
            c
            for c in held
            if self.meets is Meets.ALL
            or (self.meets is Meets.HELD and c.worker == self.worker.name)
        ]
        backs = [
            back
            for chunk in taken
            for index in chunk.indices
            for back in self._backs(tail, since, chunk, index)
        ]
        return max(backs, default=None)

    def _backs(self, tail: Tail, since: float, chunk: Leased, index: int) -> list[float]:
        """After how many seconds this test of the chunk was back.

        Nothing for one that was never away, or never came back.
        """
        verdict = tail.first("verdict", since, lambda one: one.index == index)
        moves = [
            one
            for one in tail.heard
            if one.what == "offered" and one.at > self.struck and index in one.indices
        ]
        again = [
            (one.at, at)
            for one in moves
            if (at := tail.first("claimed", self.struck, partial(_is_of, one.chunk)))
        ]
        if verdict is None or any(at <= since for _, at in again):
            return []
        backs = [verdict - since, *(self._without_line(tail, since, *times) for times in again)]
        if self.outage and tail.first(
            "verdict", since, lambda one: one.index == index and one.chunk == chunk.chunk
        ):
            backs += [
                at - since
                for at in [tail.first("verdict", since, lambda one: one.chunk == chunk.chunk)]
                if at
            ]
        return [min(backs)]

    def _without_line(self, tail: Tail, since: float, offered: float, claimed: float) -> float:
        """Seconds from `since` to the claim, without those in which all other slots were busy."""
        struck = set() if self.meets is Meets.ALL else {self.worker.name}
        in_line = max(offered, since)
        return (
            in_line
            - since
            + tail.idle(in_line, claimed, {worker.name for worker in self.scene.workers} - struck)
        )


def _covered(start: float, end: float, spans: Iterable[tuple[float, float]]) -> float:
    """Seconds between the moments that lie in any of the spans."""
    total = 0.0
    for first, last in sorted(spans):
        low, high = max(first, start), min(last, end)
        total += max(high - low, 0.0)
        start = max(start, high)
    return total


def _after(since: float, moment: float | None) -> float | None:
    return None if moment is None else moment - since


class Outage(Fault):
    """An outage: `down`, and `up` after `seconds`, also when the run ends before."""

    outage = True

    @abstractmethod
    def down(self) -> None: ...

    @abstractmethod
    def up(self) -> None: ...

    @property
    def seconds(self) -> float:
        return self.scene.lease * self.chance.uniform(0.3, 1.5)

    def act(self) -> Iterator[float]:
        self.blow()
        try:
            self.down()
            yield self.seconds
        finally:
            self.up()
            self.heal()
