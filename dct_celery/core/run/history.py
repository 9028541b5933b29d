"""What ran in which test process of a run, and in what order: told from the run's events alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dct_celery.core.model import BAD_OUTCOMES, Chunk
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.pasts import Pasts
from dct_celery.core.run.records import FixtureRecord, TestRecord


@dataclass(slots=True)
class Attempt:
    """One chunk in one test process. Tests are manifest indices."""

    chunk: Chunk
    lease: LeaseRef
    #: What ran before it in its process, in this order; None where that is not known.
    past: tuple[int, ...] | None = None
    #: What ran of the chunk, in this order; the last one may have ended its process.
    ran: list[int] = field(default_factory=list)
    #: Those of them that have failed, or were kept from running by a fixture, with their records;
    #: None for one in which the process died.
    bad: dict[int, TestRecord | None] = field(default_factory=dict)
    #: A fixture has failed.
    fixture_failed: bool = False
    _seen: set[int] = field(default_factory=set)

    def note(self, index: int) -> None:
        """The test ran."""
        if index not in self._seen:
            self._seen.add(index)
            self.ran.append(index)

    @property
    def process(self) -> tuple[int, ...]:
        """All that ran in the process up to the end of this attempt."""
        return (*(self.past or ()), *self.ran)


@dataclass(slots=True)
class History:
    """Folds the events of a run; `attempts` are in the order in which they ended."""

    attempts: list[Attempt] = field(default_factory=list)
    _chunks: dict[str, Chunk] = field(default_factory=dict)
    _running: dict[str, Attempt] = field(default_factory=dict)
    _pasts: Pasts = field(default_factory=Pasts)

    @classmethod
    def of(cls, events: Iterable[ev.Event]) -> History:
        history = cls()
        for event in events:
            history.take(event)
        history.close()
        return history

    def take(self, event: ev.Event) -> None:
        match event:
            case ev.Offered(chunk):
                self._chunks[chunk.id] = chunk
            case ev.Claimed(lease):
                if (chunk_of := self._chunks.get(lease.chunk)) is not None:
                    self._running.setdefault(lease.key, Attempt(chunk_of, lease))
            case ev.Recorded(lease, _, records):
                if (attempt := self._running.get(lease.key)) is not None:
                    for record in records:
                        _record(attempt, record)
            case ev.Ended(lease, _, end):
                self._end(lease, end)
            case ev.Expired(lease):
                self._end(lease, None)
            case _:
                pass

    def close(self) -> None:
        """The events end here, whatever is still running."""
        for attempt in list(self._running.values()):
            self._end(attempt.lease, None)

    def _end(self, lease: LeaseRef, end: ev.ChunkEnd | None) -> None:
        attempt = self._running.pop(lease.key, None)
        if attempt is None:
            return
        attempt.past = self._pasts.before(attempt.chunk, lease, end)
        if isinstance(end, ev.ChunkReleased):
            _died_in(attempt, end)
        if end is not None and attempt.past is not None:
            self._pasts.add(lease, end, attempt.process)
        if attempt.ran:
            self.attempts.append(attempt)

    # -- what is asked of it -----------------------------------------------------------

    def attempt_of(self, index: int) -> Attempt | None:
        """The attempt that gave the test its last bad verdict, else its last one.

        Probes count only if nothing else ran the test.
        """
        own = [one for one in self.attempts if index in one.ran]
        plan = [one for one in own if not one.chunk.probe] or own
        bad = [one for one in plan if index in one.bad]
        return next(reversed(bad or plan), None)

    def first_bad(self) -> Attempt | None:
        """The first attempt that had a bad verdict, of a test or, without one, of a fixture."""
        return next((one for one in self._plan() if one.bad), None) or next(
            (one for one in self._plan() if one.fixture_failed), None
        )

    def _plan(self) -> Iterator[Attempt]:
        return (one for one in self.attempts if not one.chunk.probe)


def _record(attempt: Attempt, record: TestRecord | FixtureRecord) -> None:
    match record:
        case TestRecord():
            attempt.note(record.index)
            if record.outcome in BAD_OUTCOMES or record.covered_by is not None:
                attempt.bad.setdefault(record.index, record)
        case FixtureRecord():
            attempt.fixture_failed |= record.outcome in BAD_OUTCOMES


def _died_in(attempt: Attempt, end: ev.ChunkReleased) -> None:
    """The test in which the process ended has no record, but it ran."""
    if end.why is not ev.ReleaseReason.CRASH or end.index is None or end.in_tear_down:
        return
    attempt.note(end.index)
    attempt.bad.setdefault(end.index, None)


def up_to(ran: Sequence[int], last: int, same: Iterable[int]) -> tuple[int, ...]:
    """What ran up to `last`, and those of `same` (its class) that ran after it."""
    members = {last, *same}
    end = max(position for position, index in enumerate(ran) if index in members)
    return tuple(ran[: end + 1])
