"""What all faults have in common.

A fault is a generator that is resumed after as many seconds as it yields. When the run is over first it is closed, on which
its `finally` blocks heal what it broke.

Recovery is the time from `since` to `recovered`:
  `since`      the blow itself, where others must take over (kills, zombies, cuts beyond the lease); the end of the outage, where
               those that it met go on themselves.
  `recovered`  by `Meets`:
      HELD, ALL   the first verdict, later than `since`, among the tests of the chunks that the struck worker (any worker) held at
                  the blow; where others must take over it must be one of another chunk. Or, earlier, the end of the lost lease
                  if all other workers were busy then: what waits in a line has been recovered, it is only not its turn.
      QUEUED      the first claim of a chunk whose message was in the queue.
      CLAIMS      the first claim by the struck worker.
Times are the store's. Nothing held, nothing to recover: not counted.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import ClassVar

from dct_celery.core.run import CLAIM_SECONDS
from tests.chaos.journal import Tail
from tests.chaos.scene import REMOTE, Leased, Scene, Worker
from tests.chaos.schedule import Kind

#: Seconds that a fault waits for something to strike.
PATIENCE = 6.0
#: Seconds between two looks for it.
LOOK = 0.05


class Meets(Enum):
    """What a fault affects, and by what one sees that the run has recovered."""

    HELD = "held"
    ALL = "all"
    QUEUED = "queued"
    CLAIMS = "claims"
    NOTHING = "nothing"


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
        """Seconds that recovery is timed by: a lost message is sent again after CLAIM_SECONDS, all else takes a lease."""
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
            yield LOOK
            self.found = find()

    def recovery(self, tail: Tail) -> float | None:
        """Seconds, as the head of this file says; None where there was nothing to recover, or no more occasion to."""
        since = self.healed if self.outage else self.struck
        moment = self._recovered(tail, since) if since else None
        return None if moment is None else round(moment - since, 2)

    def _recovered(self, tail: Tail, since: float) -> float | None:
        if self.meets is Meets.CLAIMS:
            return tail.first("claimed", since, lambda one: one.worker == self.worker.name)
        if self.meets is Meets.QUEUED:
            names = {chunk.chunk for chunk in self._chunks if chunk.state == "queued"}
            return tail.first("claimed", since, lambda one: one.chunk in names)
        held = [c for c in self._chunks if c.state == "leased" and self.meets in (Meets.ALL, Meets.HELD)]
        mine = [chunk for chunk in held if self.meets is Meets.ALL or chunk.worker == self.worker.name]
        return self._again(tail, since, mine)

    def _again(self, tail: Tail, since: float, chunks: Sequence[Leased]) -> float | None:
        """When tests of these chunks went on, or stood in line again."""
        tests = {index for chunk in chunks for index in chunk.indices}
        gone = set() if self.outage else {chunk.chunk for chunk in chunks}
        verdict = tail.first("verdict", since, lambda one: one.index in tests and one.chunk not in gone)
        if verdict is None or self.outage or self.meets is Meets.ALL:
            return verdict
        others = {worker.name for worker in self.scene.workers} - {self.worker.name}
        ends = [tail.first(what, since, lambda one: one.chunk in gone) for what in ("released", "expired")]
        return min([verdict, *(end for end in ends if end is not None and others <= tail.holders(end))])


class Outage(Fault):
    """Something is away for a while: `down`, `seconds` later `up`, also when the run ends before."""

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
