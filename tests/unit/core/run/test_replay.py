"""Claims about a replay: the events of a run give the same state again without any slots."""

from __future__ import annotations

from typing import Any

import pytest

from dct_celery.core.model import Chunk
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, completed, finished, released

MANIFEST = make_manifest(group("a.T", count=2), group("b.T"), group("c.T"), group("d.T"))


def replayed(events: list[ev.Event]) -> Run:
    """Another dispatcher's machine after the same events."""
    run = Run(MANIFEST, slots=0)
    for event in events:
        run.send(event)
    return run


class Recording:
    """A run, and every event of its stream: offers are said there, too."""

    def __init__(self, slots: int = 2) -> None:
        self.run = Run(MANIFEST, slots=slots)
        self.events: list[ev.Event] = []
        self._said = 0
        self._say_offers()

    def send(self, event: ev.Event) -> None:
        self.run.send(event)
        self.events.append(event)
        self._say_offers()

    def claim(self, chunk: Chunk, lease_ms: int = 4000) -> LeaseRef:
        self.run.fence += 1
        lease = LeaseRef(chunk.id, chunk.attempt, self.run.fence, "build-a", 1)
        self.send(ev.Claimed(lease, lease_ms))
        return lease

    def _say_offers(self) -> None:
        new = self.run.offers[self._said :]
        self._said += len(new)
        self.events += [ev.Offered(chunk) for chunk in new]


def state(run: Run) -> dict[str, Any]:
    machine = run.machine
    return {
        "verdicts": machine.verdicts,
        "outstanding": {
            chunk.id: (chunk.indices, lease, ms) for chunk, lease, ms in machine.outstanding()
        },
        "slots": machine.slots_used,
        "deaths": machine.deaths,
        "losses": dict(machine._losses),
    }


def test_a_replay_has_the_same_verdicts_and_leases_and_offers_nothing() -> None:
    # Given
    live = Recording()
    first, second = live.run.offers[:2]
    lease = live.claim(first)
    live.send(ev.Recorded(lease, 2, tuple(finished(index) for index in first.indices)))
    live.send(completed(lease))
    live.claim(second)
    # When
    copy = replayed(live.events)
    # Then
    assert state(copy) == state(live.run)
    assert copy.offers == []


@pytest.mark.parametrize("end", ["crash", "drain", "expired"])
def test_what_was_to_run_again_runs_again_once(end: str) -> None:
    # Given a chunk that was lost and offered again before the end
    live = Recording(slots=1)
    first = live.run.offers[0]
    lease = live.claim(first)
    index = first.indices[0]
    live.send(
        ev.Expired(lease)
        if end == "expired"
        else released(lease, end, index=index if end == "crash" else None)
    )
    # When
    copy = replayed(live.events)
    copy.send(ev.SlotsChanged(20, 20))
    # Then
    assert state(copy)["deaths"] == state(live.run)["deaths"]
    offered = [chunk for chunk, *_ in copy.machine.outstanding()]
    assert sorted(i for chunk in offered for i in chunk.indices) == [0, 1, 2, 3, 4]
    assert len({chunk.id for chunk in offered}) == len(offered)
    assert not {chunk.id for chunk in copy.offers} & {
        event.chunk.id for event in live.events if isinstance(event, ev.Offered)
    }


def test_a_retry_that_was_not_offered_yet_gets_an_id_of_its_own() -> None:
    # Given: the retry is planned while another chunk is cut, and the offer of the retry never
    # reached the store
    live = Recording(slots=2)
    lease = live.claim(live.run.offers[0])
    live.send(released(lease, "drain"))
    known = [
        event
        for event in live.events
        if not (isinstance(event, ev.Offered) and event.chunk.attempt > 1)
    ]
    # When
    copy = replayed(known)
    copy.send(ev.SlotsChanged(20, 20))
    # Then
    ids = [chunk.id for chunk, *_ in copy.machine.outstanding()]
    assert len(ids) == len(set(ids))
    assert sorted(i for chunk, *_ in copy.machine.outstanding() for i in chunk.indices) == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_the_echo_of_an_offer_changes_nothing() -> None:
    # Given
    run = Run(MANIFEST, slots=2)
    before = state(run)
    # When
    for chunk in run.offers:
        assert run.send(ev.Offered(chunk)) == []
    # Then
    assert state(run) == before


def test_the_predicted_rest_leaves_out_what_was_cut() -> None:
    # Given
    live = Recording()
    # When
    copy = replayed(live.events)
    # Then
    assert copy.machine.planner.remaining_seconds == pytest.approx(
        live.run.machine.planner.remaining_seconds
    )
