"""Claims about chunks: none lost, split or locked twice; their order and size.

And how near the plan comes to the lower bound.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.model import Chunk, Manifest, Need, Phase
from dct_celery.core.plan.planner import CHUNK_SECONDS, Atom, Planner, atoms, lower_bound
from dct_celery.core.plan.timings import Estimates, Sample
from tests.support.factories import Group, group, make_atom, make_manifest, make_samples, suites

FREE: frozenset[str] = frozenset()
SLOTS = st.integers(1, 9)


def _drain(planner: Planner, slots: int) -> list[Chunk]:
    chunks = []
    while (chunk := planner.next_chunk(slots, FREE)) is not None:
        chunks.append(chunk)
    return chunks


@given(suites(), SLOTS, st.sampled_from([None, 0.2, 5.0]))
def test_every_index_is_in_exactly_one_chunk_and_no_class_is_split(
    suite: tuple[Manifest, Estimates], slots: int, chunk_seconds: float | None
) -> None:
    # Given
    manifest, estimates = suite
    planner = Planner(atoms(manifest, estimates), chunk_seconds=chunk_seconds)
    # When
    chunks = _drain(planner, slots)
    # Then
    assert Counter(i for chunk in chunks for i in chunk.indices) == Counter(range(len(manifest)))
    homes = defaultdict(set)
    for chunk in chunks:
        for index in chunk.indices:
            homes[manifest[index].cls, manifest[index].phase].add(chunk.id)
    assert all(len(ids) == 1 for ids in homes.values())
    assert planner.next_chunk(slots, FREE) is None
    assert planner.remaining_seconds == 0.0


@given(suites(), SLOTS)
def test_a_chunk_is_of_one_phase_one_need_and_one_set_of_locks(
    suite: tuple[Manifest, Estimates], slots: int
) -> None:
    # Given
    plan = atoms(*suite)
    kinds = {index: (atom.phase, atom.need, atom.locks) for atom in plan for index in atom.indices}
    # When
    chunks = _drain(Planner(plan), slots)
    # Then
    for chunk in chunks:
        assert {kinds[index] for index in chunk.indices} == {(chunk.phase, chunk.need, chunk.locks)}
        assert list(chunk.indices) == sorted(chunk.indices)
    assert [chunk.id for chunk in chunks] == [f"c{number}" for number in range(1, len(chunks) + 1)]


@given(suites(), SLOTS, st.randoms(use_true_random=False))
def test_no_lock_is_ever_held_twice_and_nothing_waits_for_a_free_lock(
    suite: tuple[Manifest, Estimates], slots: int, chance: random.Random
) -> None:
    # Given
    manifest, estimates = suite
    planner = Planner(atoms(manifest, estimates), chunk_seconds=1.0)
    running: list[Chunk] = []
    given: list[int] = []
    while len(given) < len(manifest):
        held = [lock for chunk in running for lock in chunk.locks]
        # When
        chunk = planner.next_chunk(slots, frozenset(held))
        # Then
        if chunk is None:
            assert held
        else:
            assert not set(held) & set(chunk.locks)
            running.append(chunk)
            given += chunk.indices
        if running and (chunk is None or len(running) == slots):
            running.pop(chance.randrange(len(running)))
    assert sorted(given) == list(range(len(manifest)))


@given(suites(), SLOTS)
def test_the_same_questions_get_the_same_chunks(
    suite: tuple[Manifest, Estimates], slots: int
) -> None:
    # Given
    plan = atoms(*suite)
    # When
    first, second = _drain(Planner(plan), slots), _drain(Planner(reversed(plan)), slots)
    # Then
    assert first == second


def test_chunks_go_out_in_canonical_order_whatever_their_length_or_phase() -> None:
    # Given
    phases = [Phase.ISOLATED, Phase.TRANSACTIONAL, Phase.NO_DATABASE]
    plan = [make_atom(number, 0.1 + number % 3, phases[number % 3]) for number in range(60)]
    # When
    chunks = _drain(Planner(plan, chunk_seconds=0.01), 1)
    # Then
    assert [chunk.indices[0] for chunk in chunks] == list(range(60))


@given(suites(), SLOTS)
def test_the_tests_of_a_chunk_ascend(suite: tuple[Manifest, Estimates], slots: int) -> None:
    # When
    chunks = _drain(Planner(atoms(*suite)), slots)
    # Then
    assert all(list(chunk.indices) == sorted(chunk.indices) for chunk in chunks)


def test_atoms_that_would_stretch_the_end_go_first_the_longest_of_them_before_the_others() -> None:
    # Given
    plan = [make_atom(number, 1.0) for number in range(40)]
    plan += [make_atom(40, 20.0, Phase.UNMANAGED), make_atom(41, 30.0, Phase.TRANSACTIONAL)]
    # When
    planner = Planner(plan)
    first, second, third = (planner.next_chunk(4, FREE) for _ in range(3))
    # Then
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.indices, second.indices, third.indices[0]) == ((41,), (40,), 0)


def test_urgent_atoms_go_first_in_canonical_order_and_with_nothing_else_in_their_chunks() -> None:
    # Given: two urgent ones in a row, one of another phase, and one that would stretch the end
    plan = [make_atom(number, 1.0) for number in range(20)]
    plan += [make_atom(20, 1.0, Phase.TRANSACTIONAL), make_atom(21, 90.0)]
    # When
    chunks = _drain(Planner(plan, chunk_seconds=5.0, urgent={9, 10, 12, 20}), 1)
    # Then
    assert [chunk.indices for chunk in chunks[:3]] == [(9, 10, 12), (20,), (0, 1, 2, 3, 4)]
    assert sorted(i for chunk in chunks for i in chunk.indices) == list(range(22))


def test_urgent_atoms_are_shared_among_the_slots() -> None:
    # Given
    plan = [make_atom(number, 1.0) for number in range(100)]
    # When
    chunks = _drain(Planner(plan, chunk_seconds=50.0, urgent=range(40, 48)), 4)
    # Then
    assert [chunk.indices for chunk in chunks[:4]] == [(40, 41), (42, 43), (44, 45), (46, 47)]


@given(suites(), SLOTS, st.sets(st.integers(0, 20)))
def test_what_is_urgent_changes_nothing_but_when_it_goes_out(
    suite: tuple[Manifest, Estimates], slots: int, urgent: set[int]
) -> None:
    # Given
    manifest, _ = suite
    # When
    chunks = _drain(Planner(atoms(*suite), urgent=urgent), slots)
    # Then
    assert Counter(i for chunk in chunks for i in chunk.indices) == Counter(range(len(manifest)))
    assert all(list(chunk.indices) == sorted(chunk.indices) for chunk in chunks)


def test_a_long_atom_with_enough_work_behind_it_keeps_its_place() -> None:
    # Given
    plan = [*(make_atom(n, 1.0) for n in range(5)), make_atom(5, 20.0)]
    plan += [make_atom(number, 1.0) for number in range(6, 200)]
    # When
    chunks = _drain(Planner(plan, chunk_seconds=1.0), 4)
    # Then
    assert [chunk.indices for chunk in chunks[:7]] == [(n,) for n in range(7)]


def test_classes_are_not_tied_together_where_the_fair_share_is_small() -> None:
    # Given: as many classes as slots
    plan = [make_atom(number, 0.4) for number in range(64)]
    # When
    chunks = _drain(Planner(plan), 64)
    # Then
    assert [len(chunk.indices) for chunk in chunks] == [1] * 64


def test_one_slot_alone_takes_no_more_than_a_short_chunk() -> None:
    # Given
    planner = Planner([make_atom(number, 0.5) for number in range(1000)])
    # When
    chunk = planner.next_chunk(1, FREE)
    # Then
    assert chunk is not None
    assert chunk.estimate == CHUNK_SECONDS


def test_chunks_fall_from_half_the_fair_share_to_the_floor() -> None:
    # Given
    plan = [make_atom(number, 0.125) for number in range(800)]  # sums of eighths are exact
    # When
    planner = Planner(plan, chunk_seconds=60.0, min_chunk_seconds=1.0)
    sizes = [chunk.estimate for chunk in _drain(planner, 4)]
    # Then
    assert all(after <= before for before, after in pairwise(sizes))
    assert sizes[0] == 12.5
    assert set(sizes[-6:-1]) == {1.0}
    assert sizes[-1] <= 1.0


def test_a_chunk_grows_with_fewer_slots_and_no_slot_counts_as_one() -> None:
    # Given
    plan = [make_atom(number, 0.125) for number in range(80)]
    # When
    estimates = [max(chunk.estimate for chunk in _drain(Planner(plan), n)) for n in (8, 1, 0)]
    # Then
    assert estimates == [0.625, 5.0, 5.0]


def test_a_chunk_is_never_above_the_cap_but_for_a_single_atom() -> None:
    # Given
    plan = [make_atom(0, 7.0), *(make_atom(number, 0.3) for number in range(1, 100))]
    # When
    chunks = _drain(Planner(plan, chunk_seconds=1.0, min_chunk_seconds=5.0), 1)
    # Then
    assert chunks[0].indices == (0,)
    assert all(chunk.estimate <= 1.0 for chunk in chunks[1:])


def test_a_locked_atom_is_passed_over_until_its_lock_is_free() -> None:
    # Given
    plan = [
        make_atom(0, 9.0, locks=("port:1",)),
        make_atom(1, 5.0, locks=("port:1", "port:2")),
        make_atom(2, 0.1),
    ]
    planner = Planner(plan)
    # When
    held = frozenset({"port:1"})
    chunks = [planner.next_chunk(2, held), planner.next_chunk(2, held), planner.next_chunk(2, FREE)]
    # Then
    assert [chunk and chunk.indices for chunk in chunks] == [(2,), None, (0,)]
    assert planner.remaining_seconds == pytest.approx(5.0)


def test_a_large_atom_that_waited_for_its_lock_goes_first_once_it_is_free() -> None:
    # Given
    plan = [
        make_atom(0, 9.0, Phase.UNMANAGED, locks=("port:1",)),
        *(make_atom(n, 1.0) for n in range(1, 20)),
    ]
    planner = Planner(plan)
    planner.next_chunk(4, frozenset({"port:1"}))
    # When
    chunk = planner.next_chunk(4, FREE)
    # Then
    assert chunk is not None
    assert chunk.indices == (0,)


def test_a_plan_without_atoms_has_no_chunk() -> None:
    # Given
    planner = Planner(())
    # When
    chunk = planner.next_chunk(3, FREE)
    # Then
    assert chunk is None


#: In the order in which most suites have them.
_PHASES = (
    Phase.ISOLATED,
    Phase.NO_DATABASE,
    Phase.LOAD_FAILED,
    Phase.TRANSACTIONAL,
    Phase.UNMANAGED,
)


def _skewed_suite(seed: int) -> tuple[Manifest, Estimates]:
    """Classes of all phases; durations over four orders of magnitude, some slow class fixtures."""
    chance = random.Random(seed)
    groups: list[Group] = []
    for phase, classes in zip(_PHASES, (150, 60, 1, 40, 20), strict=True):
        groups += [
            group(f"m{n % 17}.{phase}{n}", phase, chance.randint(1, 30)) for n in range(classes)
        ]
    manifest = make_manifest(*groups)
    samples = make_samples(manifest, [chance.lognormvariate(-3.0, 1.8) for _ in manifest])
    samples |= {f"c:{each.cls}": Sample(chance.expovariate(2.0), 1) for each in groups}
    return manifest, Estimates(samples, manifest)


def _makespan(plan: Sequence[Atom], slots: int) -> float:
    """Seconds until the last slot is done, if slots are never idle and estimates are exact."""
    planner = Planner(plan)
    idle_at = [0.0] * slots
    while (chunk := planner.next_chunk(slots, FREE)) is not None:
        heapq.heapreplace(idle_at, idle_at[0] + chunk.estimate)
    return max(idle_at)


@pytest.mark.parametrize("slots", [1, 2, 3, 8, 24, 100])
@pytest.mark.parametrize("seed", range(5))
def test_slots_that_pull_come_near_the_lower_bound(seed: int, slots: int) -> None:
    # Given
    plan = atoms(*_skewed_suite(seed))
    # When
    seconds = _makespan(plan, slots)
    # Then: 5 % and one smallest chunk above what no plan can beat
    assert seconds <= 1.05 * lower_bound(plan, slots) + 0.5


def test_the_longest_atom_that_is_left_bounds_what_is_to_come() -> None:
    # Given
    planner = Planner([make_atom(0, 5.0), make_atom(1, 9.0), make_atom(2, 1.0)])
    # Then
    assert planner.longest_seconds == 9.0
    # When: a replay knows that it went out
    planner.take(Chunk("c1", (1,), Phase.ISOLATED, Need.PRISTINE))
    # Then
    assert planner.longest_seconds == 5.0
    # When
    planner.take(Chunk("c2", (0, 2), Phase.ISOLATED, Need.PRISTINE))
    # Then
    assert planner.longest_seconds == 0.0


def test_together_all_goes_into_one_chunk_for_a_fresh_process() -> None:
    # Given
    manifest = make_manifest(
        group("a.A", Phase.ISOLATED, 3),
        group("a.B", Phase.NO_DATABASE, 2),
        group("a.C", Phase.TRANSACTIONAL, 2),
    )
    planner = Planner(atoms(manifest, Estimates({})), chunk_seconds=0.001, together=True)
    # When
    chunk = planner.next_chunk(8, frozenset())
    # Then
    assert chunk is not None
    assert chunk.indices == tuple(range(7))
    assert (chunk.fresh_process, chunk.ends_if_bad) == (True, False)
    assert (chunk.need, chunk.flushed, chunk.flushes) == (Need.PRISTINE, (), ("default",))
    assert planner.next_chunk(8, frozenset()) is None
    assert planner.remaining_seconds == 0


def test_together_what_a_lost_process_leaves_goes_out_again() -> None:
    # Given
    manifest = make_manifest(group("a.A", count=3), group("a.B", count=2))
    planner = Planner(atoms(manifest, Estimates({})), together=True)
    chunk = planner.next_chunk(1, frozenset())
    assert chunk is not None
    # When
    planner.requeue(chunk, (3, 4), fresh_process=True)
    again = planner.next_chunk(1, frozenset())
    # Then
    assert again is not None
    assert again.indices == (3, 4)
