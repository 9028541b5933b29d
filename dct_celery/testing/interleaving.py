"""One run of several threads, of which one at a time goes on: who, a seeded choice says.

A thread may be exchanged for another one at its *points*: before each query, and in the project's
code (points.py). A
thread that comes to no point for a while is taken to wait (for a lock of the database or of Python,
for a time); the others go on without it, and it joins them again at its next point. So nothing
about locks has to be known here, and what one seed does is the same again as far as the waits
end in the same order.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from dct_celery.testing.points import Points, Started, points
from dct_celery.testing.project import is_project_file

#: Seconds without a point after which a thread is taken to wait, at least and at most; between
#: them, so many times what the longest step took one after the other: lines are traced now.
_PATIENCE = (0.005, 0.1)
_SLOWER = 2.0
#: Points in code that a thread gets; a loop must not take hours.
_MOST_POINTS = 20_000
_KEPT_STEPS = 200


@dataclass(frozen=True, slots=True)
class Step:
    """A thread went on at a point."""

    lane: int
    #: The statement, or the line of code with the kind of point.
    text: str

    def __str__(self) -> str:
        return f"thread {self.lane + 1}: {self.text}"


class Choice(Protocol):
    """Who goes on."""

    def start(self, ready: Sequence[int]) -> int:
        """Nobody runs: one of `ready`, which is sorted."""

    def at(self, lane: int, ready: Sequence[int], *, query: bool) -> int:
        """`lane` is at a point: it or one of the others, which are ready."""


class InOrder:
    """One after the other, each to its end."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = order

    def start(self, ready: Sequence[int]) -> int:
        return next(lane for lane in self._order if lane in ready)

    def at(self, lane: int, ready: Sequence[int], *, query: bool) -> int:
        return lane


class Lockstep:
    """In turn, from point to point: what each reads first, all read before any of them writes."""

    def __init__(self, first: int, *, queries_only: bool) -> None:
        self._last = first - 1
        self._queries_only = queries_only

    def start(self, ready: Sequence[int]) -> int:
        return self._next(self._last, ready)

    def at(self, lane: int, ready: Sequence[int], *, query: bool) -> int:
        if self._queries_only and not query:
            return lane
        return self._next(lane, ready)

    def _next(self, lane: int, ready: Sequence[int]) -> int:
        self._last = next((other for other in ready if other > lane), min(ready, default=lane))
        return self._last


class AtRandom:
    """Another one with a probability."""

    def __init__(self, chance: random.Random, probability: float) -> None:
        self._chance = chance
        self._probability = probability

    def start(self, ready: Sequence[int]) -> int:
        return self._chance.choice(ready)

    def at(self, lane: int, ready: Sequence[int], *, query: bool) -> int:
        if not ready or self._chance.random() >= self._probability:
            return lane
        return self._chance.choice(ready)


class Once:
    """The first of `order` is stopped at one of its points, until the others have ended."""

    def __init__(self, order: Sequence[int], point: int, *, queries_only: bool) -> None:
        self._order = [*order[1:], order[0]]
        self._victim = order[0]
        self._left = point
        self._queries_only = queries_only
        self._started = False

    def start(self, ready: Sequence[int]) -> int:
        if not self._started and self._victim in ready:
            self._started = True
            return self._victim
        return next(lane for lane in self._order if lane in ready)

    def at(self, lane: int, ready: Sequence[int], *, query: bool) -> int:
        if lane == self._victim and (query or not self._queries_only):
            self._left -= 1
            if self._left == 0 and ready:
                return self.start(ready)
        return lane


class Abandoned(BaseException):
    """Ends a thread of a run that was given up, at its next point."""


class _State(Enum):
    NEW = "new"
    READY = "ready"
    RUNNING = "running"
    AWAY = "away"
    DONE = "done"


@dataclass(slots=True)
class _Lane:
    wake: threading.Condition
    state: _State = _State.NEW
    thread: threading.Thread | None = None
    points: int = 0


@dataclass
class Interleaving:
    """Threads and the choice between them; for one run.

    `timeout`: seconds in which no thread comes to a point or to its end, before `run` gives up.
    """

    count: int
    choice: Choice
    timeout: float
    #: Seconds of the longest step that is to be expected.
    expected: float = 0.0
    #: Whether a thread that seems to wait is overtaken; else each runs to its end.
    overtake: bool = True
    #: Whether lines, calls and stores of the project's code are points; queries always are.
    code_points: bool = True
    #: Called with the frame of each function of the project that is about to run.
    started: Started | None = None
    steps: deque[Step] = field(default_factory=lambda: deque(maxlen=_KEPT_STEPS))

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._lanes = [_Lane(threading.Condition(self._lock)) for _ in range(self.count)]
        self._current: int | None = None
        self._progress = 0
        self._waiting_to_start = self.count
        self._over = False
        self._moved = time.monotonic()
        #: Seconds of the longest step so far.
        self.longest = 0.0
        #: Points of all threads, and those before queries.
        self.points = self.queries = 0
        self._patience = min(max(_PATIENCE[0], _SLOWER * self.expected), _PATIENCE[1])

    def run(self, bodies: Sequence[Callable[[Callable[[], None]], None]]) -> list[str]:
        """Runs each body in a thread of its own; the stacks of those that never ended, if any.

        A body gets a function that it calls when it is ready to start: all start together.
        """
        at = self._at_code if self.code_points else None
        with points(at, self.started) as in_code:
            for number, (lane, body) in enumerate(zip(self._lanes, bodies, strict=True)):
                lane.thread = threading.Thread(
                    target=self._live,
                    args=(number, body, in_code),
                    name=f"concurrent-{number + 1}",
                    daemon=True,
                )
                lane.thread.start()
            try:
                stuck = self._watch()
            finally:
                with self._lock:
                    self._over = True
                    for lane in self._lanes:
                        lane.wake.notify()
        stacks = [self._stack(number) for number in stuck]
        for number, lane in enumerate(self._lanes):
            if number not in stuck and lane.thread is not None:
                lane.thread.join()
        return stacks

    def join(self, seconds: float) -> None:
        """Waits for threads that were stuck."""
        deadline = time.monotonic() + seconds
        for lane in self._lanes:
            if lane.thread is not None:
                lane.thread.join(max(0.0, deadline - time.monotonic()))

    def point(self, number: int, text: Callable[[], str], *, query: bool) -> None:
        """Thread `number` may be exchanged for another one here."""
        lane = self._lanes[number]
        if lane.state is _State.NEW:  # it opens its connections
            return
        with self._lock:
            self._progress += 1
            self.points += 1
            self.queries += query
            now = time.monotonic()
            self.longest = max(self.longest, now - self._moved)
            self._moved = now
            if lane.state is _State.AWAY:
                self._come_back(number)
            else:
                chosen = self.choice.at(number, self._ready(), query=query)
                if chosen != number:
                    lane.state = _State.READY
                    self._give(chosen)
                    self._await(lane)
            self.steps.append(Step(number, text()))

    def _at_code(self, number: int, text: Callable[[], str]) -> None:
        lane = self._lanes[number]
        lane.points += 1
        if lane.points <= _MOST_POINTS:
            self.point(number, text, query=False)

    def _live(
        self, number: int, body: Callable[[Callable[[], None]], None], in_code: Points
    ) -> None:
        lane = self._lanes[number]

        def ready() -> None:
            with self._lock:
                self._waiting_to_start -= 1
                self._come_back(number)
            in_code.begin(number)

        try:
            body(ready)
        finally:
            in_code.end()
            with self._lock:
                self._progress += 1
                self._waiting_to_start -= lane.state is _State.NEW
                lane.state = _State.DONE
                if self._current in (number, None):
                    self._give_to_anybody()
                self._changed.notify()

    # -- all with the lock held ----------------------------------------------------------------

    def _ready(self) -> list[int]:
        return [n for n, lane in enumerate(self._lanes) if lane.state is _State.READY]

    def _come_back(self, number: int) -> None:
        lane = self._lanes[number]
        lane.state = _State.READY
        if self._current is None:
            self._give_to_anybody()
        self._await(lane)

    def _await(self, lane: _Lane) -> None:
        while lane.state is _State.READY and not self._over:
            lane.wake.wait()
        if self._over:
            raise Abandoned

    def _give(self, number: int) -> None:
        self._current = number
        self._moved = time.monotonic()
        self._lanes[number].state = _State.RUNNING
        self._lanes[number].wake.notify()

    def _give_to_anybody(self) -> None:
        self._current = None
        ready = self._ready()
        if ready and not self._waiting_to_start:
            self._give(self.choice.start(ready))

    # ------------------------------------------------------------------------------------------

    def _watch(self) -> list[int]:
        """Until all have ended; the numbers of those that did not."""
        with self._lock:
            moved = time.monotonic()  # of what this thread sees
            while not all(lane.state is _State.DONE for lane in self._lanes):
                progress = self._progress
                self._changed.wait(self._patience)
                if self._progress != progress:
                    moved = time.monotonic()
                    continue
                if time.monotonic() - moved > self.timeout:
                    return [
                        n for n, lane in enumerate(self._lanes) if lane.state is not _State.DONE
                    ]
                if self.overtake and self._current is not None:
                    self._lanes[self._current].state = _State.AWAY
                    self._give_to_anybody()
            return []

    def _stack(self, number: int) -> str:
        """Where thread `number` is: the project's frames, the innermost last."""
        thread = self._lanes[number].thread
        frame = sys._current_frames().get(thread.ident or 0) if thread else None
        frames = traceback.extract_stack(frame) if frame else []
        own = [entry for entry in frames if is_project_file(entry.filename)]
        lines = [
            f"{os.path.relpath(entry.filename)}:{entry.lineno}: {entry.line}"
            for entry in own or frames
        ]
        return f"thread {number + 1} waits at " + ", from ".join(reversed(lines[-3:]))
