"""A run's view as its dispatcher writes it into the store.

It saves readers from reading the stream from its start: they go on behind `after`. It is for people
to see; nothing else depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from dct_celery.core.codec import AtMost, Count, Matches, Number, Seconds
from dct_celery.core.model import FixtureRef, Outcome
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.view import MOST_ENTRIES, BusySlot, Problem, RunView, WaitingChunk
from dct_celery.errors import Untrusted
from dct_celery.protocol.stream import Reported, StreamEntry
from dct_celery.protocol.workers import FailedReport, RefusedReport

#: Number of failures that are written.
_MOST_PROBLEMS = 20
#: Letters for outcomes, by their code in the view: first "no outcome", then in the order of
#: `Outcome`.
_LETTERS = "." + "".join(
    {"xfailed": "x", "xpassed": "X", "error": "E", "not_run": "n"}.get(one, one[0])
    for one in Outcome
)
_RUN_OF_BYTES = re.compile(rb"(.)\1*", re.DOTALL)
_RUN_OF_LETTERS = re.compile(rf"([{_LETTERS}])([1-9][0-9]{{0,7}})")


@dataclass(frozen=True, slots=True)
class BusySummary:
    """A slot that holds a chunk, see `core.run.view.BusySlot`."""

    lease: LeaseRef
    since: Seconds
    of: Count
    tests: Count
    running: str
    probe: bool = False


@dataclass(frozen=True, slots=True)
class QueuedSummary:
    """A chunk that no slot has claimed yet, see `core.run.view.WaitingChunk`."""

    chunk: str
    tests: Count
    estimate: Seconds
    probe: bool = False


@dataclass(frozen=True, slots=True)
class FixtureSummary:
    """A fixture that failed."""

    fixture: FixtureRef
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The view of a run up to one entry of its stream."""

    epoch: Number
    #: Id of the last entry that is in it.
    after: Annotated[str, Matches(r"[0-9]{1,20}(-[0-9]{1,20})?")]
    total: Count
    reruns: bool
    #: Outcomes by index, run-length encoded: "p120f1.30" is 120 passes, a failure, and 30 without
    #: outcome.
    outcomes: str
    fixtures: tuple[FixtureSummary, ...]
    problems: tuple[Problem, ...]
    busy: tuple[BusySummary, ...]
    queued: tuple[QueuedSummary, ...]
    chunks_done: Count
    refusals: dict[str, str]
    #: Number of the last record, by attempt in progress.
    positions: dict[str, Count]
    #: Sum of these numbers over all other attempts.
    settled: Count
    first: Seconds | None
    last: Seconds | None
    connected: Count
    waiting: Annotated[str, AtMost(10_000)]
    #: Predicted seconds to the end of the run when this was written.
    left: Seconds | None

    @classmethod
    def of(
        cls, view: RunView, *, epoch: int, after: str, now: float, mask: Callable[[str], str]
    ) -> RunSummary:
        """`mask` removes secrets from texts of tests."""
        going_on = {slot.lease.key for slot in view.busy.values()}
        ended = (seq for key, seq in view.positions.items() if key not in going_on)
        return cls(
            epoch=epoch,
            after=after,
            total=view.total or 0,
            reruns=view.reruns,
            outcomes=_written(view.coded()),
            fixtures=tuple(FixtureSummary(*key) for key in view.fixtures),
            problems=tuple(
                replace(one, message=mask(one.message)) for one in view.problems[:_MOST_PROBLEMS]
            ),
            busy=tuple(
                BusySummary(slot.lease, slot.since, slot.of, slot.tests, slot.running, slot.probe)
                for slot in view.busy.values()
            ),
            queued=tuple(
                QueuedSummary(name, one.tests, one.estimate, one.probe)
                for name, one in view.queued.items()
            ),
            chunks_done=view.chunks_done,
            refusals=view.refusals,
            positions={key: view.positions[key] for key in going_on if key in view.positions},
            settled=view.settled + sum(ended),
            first=view.first,
            last=view.last,
            connected=view.connected,
            waiting=view.waiting,
            left=view.eta(now),
        )

    def view(self) -> RunView:
        """The view to continue from. Raises Untrusted."""
        view = RunView(
            self.total,
            reruns=self.reruns,
            fixtures={(one.fixture, one.outcome): None for one in self.fixtures},
            problems=list(self.problems),
            busy={
                one.lease.chunk: BusySlot(
                    one.lease, one.since, one.of, one.tests, one.running, probe=one.probe
                )
                for one in self.busy
            },
            queued={
                one.chunk: WaitingChunk(one.tests, one.estimate, probe=one.probe)
                for one in self.queued
            },
            chunks_done=self.chunks_done,
            refusals=dict(self.refusals),
            positions=dict(self.positions),
            settled=self.settled,
            first=self.first,
            last=self.last,
            connected=self.connected,
            waiting=self.waiting,
        )
        view.restore(_read(self.outcomes))
        return view


def take(view: RunView, entry: StreamEntry, now: float = 0.0) -> None:
    """Folds one entry of the run's stream into the view."""
    milliseconds = entry.id.partition("-")[0]
    at = int(milliseconds) / 1000 if milliseconds.isdecimal() else 0.0
    match entry.fact:
        case Reported(worker, report):
            view.note_time(at)
            match report:
                case RefusedReport(message) | FailedReport(message):
                    view.refusals[worker] = message
                case _:
                    pass
        case event:
            view.take(event, at=at, now=now)


def _written(codes: bytes) -> str:
    return "".join(f"{_LETTERS[run[0][0]]}{len(run[0])}" for run in _RUN_OF_BYTES.finditer(codes))


def _read(text: str) -> bytes:
    parts, end, count = [], 0, 0
    for run in _RUN_OF_LETTERS.finditer(text):
        count += int(run[2])
        if run.start() != end or count > MOST_ENTRIES:
            break
        parts.append(bytes([_LETTERS.index(run[1])]) * int(run[2]))
        end = run.end()
    if end != len(text):
        raise Untrusted("is malformed: its outcomes cannot be read")
    return b"".join(parts)
