"""A run machine with its effects remembered, and the events that a fleet would send it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from dct_celery.core import codec
from dct_celery.core.model import Chunk, FixtureRef, Manifest, Outcome
from dct_celery.core.plan.planner import Planner, atoms
from dct_celery.core.plan.timings import Estimates
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.run.records import FixtureRecord, Record, TestRecord

E = TypeVar("E", bound=ev.Effect)


def finished(
    index: int, outcome: str = "passed", *, covered_by: str = "", **fields: Any
) -> TestRecord:
    """`covered_by`: "setUpClass (app.tests.T)"."""
    fixture = FixtureRef.parse(covered_by) if covered_by else None
    return TestRecord(index, Outcome(outcome), **{"seconds": 0.1, "covered_by": fixture, **fields})


def fixture(id_: str, outcome: str = "error") -> FixtureRecord:
    """`id_`: "setUpClass (app.tests.T)"."""
    return FixtureRecord(FixtureRef.parse(id_), Outcome(outcome))


def as_sent(*records: Record) -> str:
    """A JSON list of them, as slots hand it to their ledger."""
    kinds = {TestRecord: "TestFinished", FixtureRecord: "FixtureFinished"}
    return codec.dumps(
        [{"kind": kinds[type(record)], **codec.encode(record)} for record in records]
    )


def completed(lease: LeaseRef, **fields: Any) -> ev.Ended:
    return ev.Ended(lease, 0, ev.ChunkCompleted(**{"busy_seconds": 1.0, **fields}))


def released(lease: LeaseRef, why: str, *, fixture: str | None = None, **fields: Any) -> ev.Ended:
    named = FixtureRef.parse(fixture) if fixture is not None else None
    return ev.Ended(lease, 0, ev.ChunkReleased(ev.ReleaseReason(why), fixture=named, **fields))


@dataclass
class Run:
    """The machine under test; every effect that it ever asked for is in `effects`."""

    manifest: Manifest
    slots: int = 1
    maxfail: int = 0
    #: Seconds per chunk; the tiny default puts every class into a chunk of its own.
    chunk_seconds: float = 0.001
    min_chunk_seconds: float = 0.001
    most_slots: int | None = None
    machine: RunMachine = field(init=False)
    effects: list[ev.Effect] = field(default_factory=list)
    fence: int = 0

    def __post_init__(self) -> None:
        planner = Planner(
            atoms(self.manifest, Estimates({}, self.manifest)),
            chunk_seconds=self.chunk_seconds,
            min_chunk_seconds=self.min_chunk_seconds,
        )
        self.machine = RunMachine(
            self.manifest, planner, maxfail=self.maxfail, most_slots=self.most_slots
        )
        self.send(ev.SlotsChanged(self.slots, self.slots))

    def send(self, event: ev.Event) -> list[ev.Effect]:
        effects = self.machine.handle(event)
        self.machine.validate()
        self.effects += effects
        return effects

    def all(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def offers(self) -> list[Chunk]:
        return [offer.chunk for offer in self.all(ev.Offer)]

    def claim(
        self, chunk: Chunk | None = None, *, worker: str = "build-a", slot: int = 1
    ) -> LeaseRef:
        """Takes the given chunk, or else the one that was offered last."""
        chosen = chunk or self.offers[-1]
        self.fence += 1
        lease = LeaseRef(chosen.id, chosen.attempt, self.fence, worker, slot)
        self.send(ev.Claimed(lease))
        return lease

    def record(self, lease: LeaseRef, *records: Record) -> list[ev.Effect]:
        return self.send(ev.Recorded(lease, len(records), records))

    def complete(self, lease: LeaseRef, **fields: Any) -> list[ev.Effect]:
        return self.send(completed(lease, **fields))

    def release(self, lease: LeaseRef, why: str, **fields: Any) -> list[ev.Effect]:
        return self.send(released(lease, why, **fields))

    def outcomes(self) -> dict[int, Outcome]:
        return {index: verdict.outcome for index, verdict in sorted(self.machine.verdicts.items())}

    def judged(self) -> list[int]:
        """Indices in the order of their verdicts, as the shell got them."""
        return [judge.verdict.entry.index for judge in self.all(ev.Judge)]
