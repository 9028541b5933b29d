"""Claims about bisections: one verdict in doubt, and slots that try ahead.

Suites and fleet are simulated (`tests.support.order_world`); the run machine is the real one.
"""

from __future__ import annotations

import pytest

from dct_celery.core.model import BAD_OUTCOMES, OrderKind
from dct_celery.core.order import Finding, Preamble
from dct_celery.core.run import events as ev
from tests.support.order_world import Behaviour, Fleet, World, make_world
from tests.unit.core.run.test_doubts import plain, world_of


def bisect(
    world: World,
    number: int,
    past: Preamble | None,
    slots: int = 4,
    *,
    passed: bool = False,
    deaths: float = 0.0,
    budget: float | None = None,
) -> tuple[Finding, Fleet]:
    fleet = Fleet(world, slots, 1, budget=budget, deaths=deaths)
    fleet.bisect(number, past, passed=passed)
    fleet.machine.validate()
    fleet.run()
    fleet.machine.validate()
    assert fleet.doubts.answer is not None
    return fleet.doubts.answer, fleet


def polluted(count: int = 200) -> World:
    """Class 3 pollutes; the last but one cleans up, the last is the victim."""
    behaviours = plain(count)
    behaviours[3].sets.add("dirt")
    behaviours[-2].clears.add("dirt")
    behaviours[-1].fails_with.add("dirt")
    return world_of(*behaviours)


@pytest.mark.parametrize("slots", [1, 2, 16])
def test_a_polluter_is_found_on_any_number_of_slots(slots: int) -> None:
    # When: in that process, the cleaner had not run
    found, fleet = bisect(polluted(), 199, tuple(range(150)), slots)
    # Then
    assert (found.kind, found.partner, found.shown_after) == (OrderKind.VICTIM, 3, (3,))
    assert fleet.machine.verdicts[199].outcome not in BAD_OUTCOMES
    assert list(fleet.machine.verdicts) == [199]


def test_idle_slots_try_ahead() -> None:
    # Given
    world, past = polluted(), tuple(range(198))
    # When
    _, alone = bisect(world, 199, past, 1)
    _, many = bisect(world, 199, past, 16)
    # Then
    assert many.makespan < 0.7 * alone.makespan


def test_ordinary_doubts_do_not_try_ahead() -> None:
    # Given
    behaviours = plain(60)
    behaviours[2].sets.add("ready")
    behaviours[50].fails_without.add("ready")
    world = world_of(*behaviours)
    world.seconds[2] = 5.0
    # When
    few, many = Fleet(world, 2, 1), Fleet(world, 16, 1)
    few.run()
    many.run()
    # Then: the second one has only as many probes as the search needs
    assert many.doubts.answered <= few.doubts.answered + 8


def test_a_state_setter_is_found() -> None:
    # Given
    behaviours = plain(60)
    behaviours[7].sets.add("ready")
    behaviours[50].fails_without.add("ready")
    # When
    found, fleet = bisect(world_of(*behaviours), 50, (20, 21))
    # Then
    assert (found.kind, found.partner, found.shown_after) == (OrderKind.BRITTLE, 7, (7,))
    assert fleet.machine.exit_code() == 0


def test_an_ordinary_failure_is_called_one() -> None:
    # Given
    behaviours = plain(20)
    behaviours[12].broken = True
    # When
    found, fleet = bisect(world_of(*behaviours), 12, ())
    # Then
    assert (found.kind, found.proven) == (None, True)
    assert found.proven_by == "fails alone and after all that runs before it"
    assert fleet.machine.exit_code() == 1


def test_what_a_run_did_not_show_is_found_in_canonical_order() -> None:
    # Given: it passed in that run, and nobody knows after what
    behaviours = plain(40)
    behaviours[5].sets.add("dirt")
    behaviours[30].fails_with.add("dirt")
    # When
    found, fleet = bisect(world_of(*behaviours), 30, None, passed=True)
    # Then
    assert (found.kind, found.partner) == (OrderKind.VICTIM, 5)
    assert fleet.machine.verdicts[30].order is not None
    assert fleet.machine.verdicts[30].outcome in BAD_OUTCOMES


def test_what_passed_once_and_fails_after_the_same_is_flaky() -> None:
    # Given
    behaviours = plain(40)
    behaviours[30].broken = True
    world = world_of(*behaviours)
    for past in ((), (3, 9), tuple(range(30))):
        # When
        found, _ = bisect(world, 30, past, passed=True)
        # Then
        assert found.kind is OrderKind.FLAKY, past


def test_what_passed_after_nobody_knows_what_and_always_fails_is_an_ordinary_failure() -> None:
    # Given
    behaviours = plain(40)
    behaviours[30].broken = True
    # When
    found, fleet = bisect(world_of(*behaviours), 30, None, passed=True)
    # Then
    assert (found.kind, found.proven) == (None, True)
    assert fleet.machine.exit_code() == 1


def test_what_passes_after_some_classes_only_is_not_called_an_ordinary_failure() -> None:
    # Given: it needs class 5, and class 20 undoes that in canonical order
    behaviours = plain(40)
    behaviours[5].sets.add("ready")
    behaviours[20].clears.add("ready")
    behaviours[30].fails_without.add("ready")
    # When
    found, fleet = bisect(world_of(*behaviours), 30, (5,), passed=True)
    # Then
    assert (found.kind, found.proven) == (OrderKind.UNPROVEN, False)
    assert "but passed after some of it" in found.proven_by
    assert fleet.machine.exit_code() == 1


def test_what_passed_because_of_what_ran_before_it_is_brittle() -> None:
    # Given
    behaviours = plain(40)
    behaviours[5].sets.add("ready")
    behaviours[30].fails_without.add("ready")
    # When
    found, _ = bisect(world_of(*behaviours), 30, None, passed=True)
    # Then
    assert (found.kind, found.partner) == (OrderKind.BRITTLE, 5)


def test_a_test_that_never_fails_is_no_failure() -> None:
    # When
    found, fleet = bisect(world_of(*plain(40)), 30, (), passed=True)
    # Then
    assert (found.kind, found.proven) == (None, True)
    assert fleet.machine.exit_code() == 0


def test_a_test_that_passes_after_what_it_failed_after_is_flaky() -> None:
    # When
    found, fleet = bisect(world_of(*plain(40)), 30, (3, 9))
    # Then
    assert found.kind is OrderKind.FLAKY
    assert fleet.machine.exit_code() == 1


def test_lost_probes_are_sent_again() -> None:
    # When
    found, _ = bisect(polluted(60), 59, tuple(range(50)), deaths=0.15)
    # Then
    assert (found.kind, found.partner) == (OrderKind.VICTIM, 3)


def test_what_a_budget_does_not_suffice_for_is_not_settled() -> None:
    # When
    found, fleet = bisect(polluted(), 199, tuple(range(150)), budget=0.5)
    # Then
    assert (found.kind, found.proven) == (OrderKind.UNPROVEN, False)
    assert fleet.machine.exit_code() == 1


def test_an_attach_finds_the_same_from_the_same_events() -> None:
    # Given: a bisection on eight slots, and what its dispatcher had journalled
    fleet = Recording(polluted(60), 8, 1)
    fleet.bisect(59, tuple(range(50)))
    fleet.run()
    replayed = Fleet(polluted(60), 8, 1)
    replayed.bisect(59, tuple(range(50)))
    # When: another machine folds that, without any slots
    for event in fleet.events:
        replayed.machine.handle(event)
        replayed.machine.validate()
    # Then
    assert replayed.machine.finished
    assert replayed.doubts.answer == fleet.doubts.answer


class Recording(Fleet):
    """Keeps what a journal would."""

    def __init__(self, world: World, slots: int, seed: int) -> None:
        super().__init__(world, slots, seed)
        self.events: list[ev.Event] = []

    def _send(self, event: ev.Event) -> None:
        if not isinstance(event, (ev.SlotsChanged, ev.Ticked)):
            self.events.append(event)
        before = len(self._queue)
        super()._send(event)
        self.events += [ev.Offered(chunk) for chunk in self._queue[before:]]


@pytest.mark.parametrize("seed", range(40))
def test_the_verdict_is_that_of_the_sequential_run(seed: int) -> None:
    # Given
    world = make_world(80, seed)
    canonical = world.sequential()
    failing = [number for number, bad in enumerate(canonical) if bad]
    for number in failing[:3]:
        # When
        found, fleet = bisect(world, number, None)
        # Then
        (verdict,) = fleet.machine.verdicts.values()
        assert verdict.outcome in BAD_OUTCOMES
        assert found.proven
        if found.kind is OrderKind.VICTIM:
            state: set[str] = set()
            for one in (*found.shown_after, number):
                bad = world.behaviours[one].run(state)
            assert bad, "what is shown does not show it"


def test_a_behaviour_that_needs_two_polluters_shows_both() -> None:
    # Given
    behaviours = plain(40)
    behaviours[4].sets.add("half")
    behaviours[9] = Pair(needs="half", gives="whole")
    behaviours[30].fails_with.add("whole")
    # When
    found, _ = bisect(world_of(*behaviours), 30, tuple(range(30)))
    # Then
    assert (found.kind, found.shown_after) == (OrderKind.VICTIM, (4, 9))


class Pair(Behaviour):
    """Sets a flag only where another one is set."""

    def __init__(self, needs: str, gives: str) -> None:
        super().__init__()
        self._needs, self._gives = needs, gives

    def run(self, state: set[str]) -> bool:
        if self._needs in state:
            state.add(self._gives)
        return False
