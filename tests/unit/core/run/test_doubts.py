"""Claims about `core.run.doubts`: bad verdicts that may be due to order are settled, or named.

Suites and fleet are simulated (`tests.support.order_world`); the run machine is the real one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from dct_celery.core.model import (
    BAD_OUTCOMES,
    Chunk,
    Failure,
    Need,
    OrderKind,
    OrderNote,
    Outcome,
    Phase,
    Verdict,
)
from dct_celery.core.plan.planner import Planner, atoms
from dct_celery.core.plan.timings import Estimates
from dct_celery.core.run import events as ev
from dct_celery.core.run.doubts import Doubts
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.machine import RunMachine
from tests.support.factories import group, make_manifest
from tests.support.order_world import Behaviour, Fleet, World, make_world
from tests.support.runs import finished


def world_of(*behaviours: Behaviour, seconds: float = 0.1) -> World:
    """One class of one test for each behaviour."""
    count = len(behaviours)
    manifest = make_manifest(*(group(f"a.C{n}", Phase.ISOLATED, count=1) for n in range(count)))
    return World(manifest, list(behaviours), [seconds] * count, list(range(count)))


def plain(count: int) -> list[Behaviour]:
    return [Behaviour() for _ in range(count)]


def run(
    world: World,
    slots: int = 4,
    *,
    budget: float | None = None,
    deaths: float = 0.0,
    passed_alone: Iterable[int] = (),
) -> Fleet:
    fleet = Fleet(world, slots, 1, budget=budget, deaths=deaths, passed_alone=passed_alone)
    fleet.run()
    return fleet


def note(fleet: Fleet, index: int) -> OrderNote:
    found = fleet.machine.verdicts[index].order
    assert found is not None
    return found


def brittle(count: int = 12) -> World:
    """Class 10 needs class 2, which is so long that another slot runs it."""
    behaviours = plain(count)
    behaviours[2].sets.add("ready")
    behaviours[10].fails_without.add("ready")
    world = world_of(*behaviours)
    world.seconds[2] = 3.0
    return world


def test_a_green_run_runs_nothing_twice() -> None:
    # When
    fleet = run(world_of(*plain(40)))
    # Then
    assert fleet.doubts.spent == 0.0
    assert fleet.machine.exit_code() == 0


def test_a_brittle_test_gets_the_verdict_of_the_canonical_order_and_its_partner_is_named() -> None:
    # When
    fleet = run(brittle())
    # Then
    assert fleet.outcomes()[10] is Outcome.PASSED
    assert fleet.machine.exit_code() == 0
    found = note(fleet, 10)
    assert (found.kind, found.partner, found.proven) == (OrderKind.BRITTLE, "a.C2", True)
    assert found.failed_with == "AssertionError: test 10"


def test_a_victim_of_a_polluter_that_canonical_order_cleans_up_passes_and_is_named() -> None:
    # Given: the cleaner is long, so that one slot runs it and the other one all the rest
    behaviours = plain(9)
    behaviours[0].sets.add("dirt")
    behaviours[1].clears.add("dirt")
    behaviours[8].fails_with.add("dirt")
    world = world_of(*behaviours)
    world.seconds[1] = 3.0
    # When
    fleet = run(world, 2)
    # Then
    assert fleet.machine.exit_code() == 0
    found = note(fleet, 8)
    assert (found.kind, found.partner, found.proven) == (OrderKind.VICTIM, "a.C0", True)


def test_a_victim_that_canonical_order_does_not_clean_up_for_stays_bad_with_its_partner() -> None:
    # Given
    behaviours = plain(9)
    behaviours[0].sets.add("dirt")
    behaviours[8].fails_with.add("dirt")
    world = world_of(*behaviours)
    world.seconds[1] = 3.0
    # When
    fleet = run(world, 2)
    # Then
    assert fleet.machine.exit_code() == 1
    found = note(fleet, 8)
    assert (found.kind, found.partner, found.proven) == (OrderKind.VICTIM, "a.C0", True)


def test_the_one_slot_of_a_run_has_the_past_of_the_sequential_run() -> None:
    # Given
    behaviours = plain(10)
    behaviours[9].broken = True
    # When
    fleet = run(world_of(*behaviours), 1)
    # Then
    assert fleet.doubts.spent == 0.0
    assert fleet.machine.exit_code() == 1
    assert fleet.machine.verdicts[9].order is None


@pytest.mark.parametrize(("flushed", "final"), [((), True), (("default",), False)])
def test_a_flushed_clone_is_not_what_the_sequential_run_has_left(
    flushed: tuple[str, ...], final: bool
) -> None:
    # Given a class that has failed behind all of its predecessors, on such a clone
    manifest = make_manifest(*(group(f"a.C{n}", Phase.TRANSACTIONAL, count=1) for n in range(3)))
    doubts = Doubts(manifest, atoms(manifest, Estimates({}, manifest)))
    chunk = Chunk("c1", (2,), Phase.TRANSACTIONAL, Need.FLUSHED, flushed=flushed)
    bad = Verdict(manifest[2], Outcome.ERROR, failures=(Failure("error", "X", "twice", ""),))
    assert doubts.hold(chunk, bad)
    # When / Then
    assert doubts.chunk_ended(chunk, (0, 1)) == ([bad] if final else [])


def test_while_nothing_but_doubts_is_left_it_says_how_many_probes_there_were() -> None:
    # Given: the last class is a victim of the first one
    world = world_of(Behaviour(sets={"dirt"}), *plain(6), Behaviour(fails_with={"dirt"}))
    fleet, said = Fleet(world, 1, 1), set()
    fleet.on_tick = lambda: said.add(fleet.machine.waits_for_probes)
    # When
    fleet.bisect(7, (0, 1, 2, 3, 4, 5, 6))
    fleet.run()
    # Then
    assert "settling whether failures depend on order, 0 probes so far" in said
    assert "settling whether failures depend on order, 3 probes so far" in said
    assert fleet.machine.waits_for_probes == ""


def test_what_fails_alone_too_and_passed_alone_before_is_an_ordinary_failure() -> None:
    # Given
    behaviours = plain(40)
    behaviours[30].broken = True
    # When
    fleet = run(world_of(*behaviours), passed_alone=[30])
    # Then
    assert fleet.machine.exit_code() == 1
    assert fleet.machine.verdicts[30].order is None
    assert fleet.doubts.spent < 0.5


def broken() -> World:
    """Class 8 fails in every order; class 2 is so long that another slot runs it."""
    behaviours = plain(12)
    behaviours[8].broken = True
    world = world_of(*behaviours)
    world.seconds[2] = 3.0
    return world


def test_what_is_known_to_fail_in_every_order_is_not_run_again() -> None:
    # Given
    first = run(broken())
    assert first.doubts.spent > 0
    # When
    fleet = Fleet(broken(), 4, 1)
    fleet.doubts.ordinary = first.doubts.found_ordinary[8]
    fleet.run()
    # Then
    assert fleet.outcomes()[8] in BAD_OUTCOMES
    assert fleet.machine.verdicts[8].order is None
    assert fleet.doubts.spent == 0.0


def test_a_failure_may_say_what_is_no_unicode() -> None:
    # Given
    world = broken()
    world.message = "\ud800 is half a character"
    # When
    fleet = run(world)
    # Then
    assert fleet.doubts.found_ordinary[8][world.manifest[8].id]


def test_a_failure_that_looks_other_than_the_known_one_is_settled() -> None:
    # Given
    world = broken()
    fleet = Fleet(world, 4, 1)
    fleet.doubts.ordinary = {world.manifest[8].id: "another mark"}
    # When
    fleet.run()
    # Then
    assert fleet.doubts.spent > 0.0


def test_without_a_budget_every_failure_is_final() -> None:
    # When
    fleet = run(brittle(), budget=0)
    # Then
    assert fleet.outcomes()[10] is Outcome.FAILED
    assert fleet.machine.verdicts[10].order is None


def test_what_the_budget_does_not_suffice_for_stays_bad_and_says_so() -> None:
    # When
    fleet = run(brittle(), budget=0.25)
    # Then
    assert fleet.outcomes()[10] is Outcome.FAILED
    assert (note(fleet, 10).kind, note(fleet, 10).proven) == (OrderKind.UNPROVEN, False)
    assert fleet.machine.exit_code() == 1


@pytest.mark.parametrize("budget", [0.01, 30.0])
def test_a_thousand_failures_that_look_the_same_are_settled_by_one(budget: float) -> None:
    # Given
    behaviours = [Behaviour(broken=True) for _ in range(1000)]
    world = world_of(*behaviours, seconds=0.01)
    world.kind = "error"
    # When
    fleet = run(world, budget=budget)
    # Then
    assert set(fleet.outcomes().values()) == {Outcome.ERROR}
    assert fleet.doubts.spent <= budget
    assert not fleet.doubts.pending


def test_of_two_failures_that_look_the_same_each_has_its_own_cause() -> None:
    # Given a class that is broken, and one that fails alike because it ran without another
    world = brittle()
    world.behaviours[5].broken = True
    world.kind = "error"
    # When
    fleet = run(world)
    # Then
    assert (fleet.outcomes()[5], fleet.outcomes()[10]) == (Outcome.ERROR, Outcome.PASSED)
    assert note(fleet, 10).kind is OrderKind.BRITTLE


def test_a_class_in_which_a_process_died_is_not_run_again_to_settle_another_failure() -> None:
    # Given
    suite = make_manifest(group("a.C0", count=1), group("a.C1", count=3))
    found = atoms(suite, Estimates({}))
    machine = RunMachine(suite, Planner(found), doubts=Doubts(suite, found))
    machine.handle(ev.SlotsChanged(1, 1))
    chunk = Chunk("c9", (1, 2, 3), Phase.ISOLATED, Need.PRISTINE)
    lease = LeaseRef("c9", 1, 1, "build-a", 0)
    machine.handle(ev.Offered(chunk))
    machine.handle(ev.Claimed(lease))
    machine.handle(ev.Recorded(lease, 1, (finished(1, "failed"),)))
    # When
    effects = machine.handle(
        ev.Ended(lease, 1, ev.ChunkReleased(ev.ReleaseReason.CRASH, "signal 11", index=2))
    )
    # Then
    (verdict,) = [effect.verdict for effect in effects if isinstance(effect, ev.Judge)]
    assert (verdict.entry.index, verdict.outcome) == (1, Outcome.FAILED)
    assert verdict.order is not None
    assert verdict.order.kind is OrderKind.UNPROVEN


def test_where_everything_fails_the_budget_is_kept() -> None:
    # Given
    behaviours = [Behaviour(broken=True) for _ in range(200)]
    # When
    fleet = run(world_of(*behaviours, seconds=2.0), budget=30.0)
    # Then
    assert set(fleet.outcomes().values()) == {Outcome.FAILED}
    assert fleet.doubts.spent <= 30.0


def test_a_stop_leaves_what_is_in_doubt_as_bad_as_it_was() -> None:
    # Given
    fleet = Fleet(brittle(), 4, 1)
    sent = fleet._send

    def stopping(event: ev.Event) -> None:
        sent(event)
        if fleet.doubts.pending and fleet.machine.stop is None:
            sent(ev.Stopped("interrupted", 2))

    fleet._send = stopping  # type: ignore[method-assign]
    # When
    fleet.run()
    # Then
    assert fleet.outcomes()[10] is Outcome.FAILED
    assert fleet.machine.exit_code() == 2
    assert len(fleet.machine.verdicts) == 12


@pytest.mark.parametrize("seed", range(40))
def test_verdicts_are_those_of_the_canonical_order_or_the_report_says_that_it_is_not_proven(
    seed: int,
) -> None:
    # Given
    chance = random.Random(seed)
    world = make_world(chance.randint(20, 120), seed)
    slots = chance.choice([1, 2, 4, 8])
    fleet = Fleet(world, slots, seed, deaths=chance.choice([0, 0.03]), joins=[1.0, 3.0])
    # When
    machine = fleet.run()
    # Then
    expected = world.sequential()
    for index, verdict in machine.verdicts.items():
        right = (verdict.outcome in BAD_OUTCOMES) == expected[world.class_of[index]]
        assert right or (verdict.order is not None and verdict.outcome in BAD_OUTCOMES), index
    machine.validate()


class Journalling(Fleet):
    """Keeps what a stream would have: the events of slots, and each offer at its place."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.journal: list[ev.Event] = []
        super().__init__(*arguments, **options)

    def _send(self, event: ev.Event) -> None:
        if not isinstance(event, ev.SlotsChanged | ev.Ticked):
            self.journal.append(event)
        waiting = len(self._queue)
        super()._send(event)
        self.journal += [ev.Offered(chunk) for chunk in self._queue[waiting:]]


@pytest.mark.parametrize("seed", range(12))
def test_a_replay_of_the_journal_has_the_same_doubts_and_goes_on_to_the_same_verdicts(
    seed: int,
) -> None:
    # Given
    world = make_world(40, seed)
    whole = Journalling(world, 3, seed)
    whole.run()
    cut = random.Random(seed).randrange(len(whole.journal))
    # When a second dispatcher has read half of it, and its slots go on with what is outstanding
    second = Fleet(world, 3, seed)
    for event in whole.journal[:cut]:
        second._send(event)
    second.machine.validate()
    second._queue = [chunk for chunk, lease, _ in second.machine.outstanding() if lease is None]
    for _, lease, _ in second.machine.outstanding():
        if lease is not None:
            second._send(ev.Expired(lease))
    machine = second.run()
    # Then
    expected = world.sequential()
    for index, verdict in machine.verdicts.items():
        right = (verdict.outcome in BAD_OUTCOMES) == expected[world.class_of[index]]
        assert right or verdict.order is not None, index
