"""What must stay together, what it needs, and what it is said to cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.model import Manifest, Need, Phase
from dct_celery.core.plan import timings
from dct_celery.core.plan.planner import Atom, atoms, lower_bound
from dct_celery.core.plan.timings import Estimates, Sample
from tests.support.factories import (
    group,
    make_atom,
    make_manifest,
    make_samples,
    manifests,
    tied_entry,
)

UNKNOWN = Estimates({})


def _members(plan: Sequence[Atom]) -> list[tuple[int, ...]]:
    return [atom.indices for atom in plan]


def _described() -> st.SearchStrategy[list[tuple[str, Phase, str | None]]]:
    """(class, phase, lock file) of each test, in order."""
    classes = st.sampled_from([f"{module}.tests.{name}" for module in "abc" for name in "TUV"])
    locks = st.sampled_from([None, None, "one", "two"])
    return st.lists(st.tuples(classes, st.sampled_from(Phase), locks), max_size=40)


def _tied_by_class_module_and_lock(
    described: list[tuple[str, Phase, str | None]], fixtures: set[str]
) -> list[tuple[int, ...]]:
    """What must stay together, found without names: by joining all that share something."""
    groups: list[list[int]] = []

    def together(a: int, b: int) -> bool:
        (cls, phase, lock), (other, other_phase, other_lock) = described[a], described[b]
        module, other_module = cls.rpartition(".")[0], other.rpartition(".")[0]
        if phase is not other_phase:
            return False
        if phase is Phase.LOAD_FAILED or cls == other:
            return True
        same_module = module == other_module and module in fixtures
        return same_module or (lock is not None and lock == other_lock)

    for index in range(len(described)):
        tied = [each for each in groups if any(together(index, member) for member in each)]
        groups = [each for each in groups if each not in tied]
        groups.append(sorted([index, *(member for each in tied for member in each)]))
    return [tuple(each) for each in sorted(groups)]


def test_a_class_is_one_atom_within_one_phase() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", count=2), group("a.U"), group("a.T", Phase.TRANSACTIONAL, 2)
    )
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert _members(plan) == [(0, 1), (2,), (3, 4)]
    assert [atom.phase for atom in plan] == [Phase.ISOLATED, Phase.ISOLATED, Phase.TRANSACTIONAL]


def test_classes_of_one_name_are_one_atom_wherever_they_stand() -> None:
    # Given
    manifest = make_manifest(group("a.T"), group("a.U"), group("a.T", module="b"))
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert _members(plan) == [(0, 2), (1,)]


def test_a_module_with_fixtures_is_one_atom_within_one_phase() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", keep_with=("class:a.T", "module:a")),
        group("a.U", keep_with=("class:a.U", "module:a")),
        group("b.T"),
        group("b.U"),
        group("a.V", Phase.NO_DATABASE, keep_with=("class:a.V", "module:a")),
        group("b.W", Phase.NO_DATABASE),
    )
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert _members(plan) == [(0, 1), (2,), (3,), (4,), (5,)]


def test_what_shares_a_lock_file_is_one_atom_and_brings_its_modules_along() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", keep_with=("class:a.T", "file:x"), locks=("file:x",)),
        group("b.T", keep_with=("class:b.T", "module:b")),
        group("b.U", keep_with=("class:b.U", "module:b", "file:x"), locks=("file:x",)),
        group("c.T", keep_with=("class:c.T", "file:y"), locks=("file:y",)),
        group("d.T", Phase.TRANSACTIONAL, keep_with=("class:d.T", "file:x"), locks=("file:x",)),
    )
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert _members(plan) == [(0, 1, 2), (3,), (4,)]
    assert [atom.locks for atom in plan] == [("file:x",), ("file:y",), ("file:x",)]


def test_a_lock_alone_keeps_nothing_together() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", Phase.TRANSACTIONAL, locks=("port:8081",)),
        group("a.U", Phase.TRANSACTIONAL, locks=("port:8081", "file:x")),
    )
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert [atom.locks for atom in plan] == [("port:8081",), ("file:x", "port:8081")]


def test_all_import_errors_are_one_atom() -> None:
    # Given
    manifest = make_manifest(
        group("f.A", Phase.LOAD_FAILED), group("a.T"), group("f.B", Phase.LOAD_FAILED)
    )
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert _members(plan) == [(0, 2), (1,)]
    assert plan[0].need is Need.ANY


def test_only_the_first_transactional_atom_sees_pristine_data() -> None:
    # Given
    manifest = make_manifest(*(group(f"a.{name}", Phase.TRANSACTIONAL, 2) for name in "TUV"))
    # When
    needs = [atom.need for atom in atoms(manifest, UNKNOWN)]
    # Then
    assert needs == [Need.PRISTINE, Need.FLUSHED, Need.FLUSHED]


def test_an_unmanaged_atom_sees_flushed_data_only_after_a_transactional_test() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", Phase.UNMANAGED),
        group("a.U", Phase.TRANSACTIONAL),
        group("a.V", Phase.UNMANAGED),
    )
    # When
    needs = [atom.need for atom in atoms(manifest, UNKNOWN)]
    # Then
    assert needs == [Need.PRISTINE, Need.PRISTINE, Need.FLUSHED]


def test_isolated_tests_need_pristine_data_and_tests_without_database_need_none() -> None:
    # Given
    manifest = make_manifest(
        group("a.U", Phase.TRANSACTIONAL), group("a.T"), group("a.N", Phase.NO_DATABASE)
    )
    # When
    needs = [atom.need for atom in atoms(manifest, UNKNOWN)]
    # Then
    assert needs == [Need.PRISTINE, Need.PRISTINE, Need.ANY]


def test_an_estimate_is_the_tests_and_each_class_once() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", count=3, keep_with=("one",)), group("a.U", keep_with=("one",))
    )
    samples = make_samples(manifest, [1.0, 2.0, 4.0, 8.0])
    del samples[timings.test_key(manifest[0])]
    samples |= {"c:a.T": Sample(100.0, 1), "c:a.U": Sample(200.0, 1)}
    # When
    (atom,) = atoms(manifest, Estimates(samples, manifest))
    # Then
    assert atom.estimate == pytest.approx(4.0 + 2.0 + 4.0 + 8.0 + 300.0)


def test_tests_that_were_never_timed_have_the_estimate_of_any_test() -> None:
    # Given
    manifest = make_manifest(group("a.T", count=2))
    # When
    (atom,) = atoms(manifest, Estimates({"c:a.T": Sample(1.0, 1)}, manifest))
    # Then
    assert atom.estimate == pytest.approx(2 * timings.FALLBACK_SECONDS + 1.0)


@given(manifests())
def test_every_index_is_in_one_atom_and_ties_never_lead_out_of_it(manifest: Manifest) -> None:
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    home = {index: number for number, atom in enumerate(plan) for index in atom.indices}
    assert sorted(index for atom in plan for index in atom.indices) == list(range(len(manifest)))
    ties = defaultdict(set)
    for entry in manifest:
        for name in entry.keep_with:
            ties[name, entry.phase].add(home[entry.index])
    assert all(len(homes) == 1 for homes in ties.values())


@given(_described(), st.sets(st.sampled_from(["a.tests", "b.tests"])))
def test_the_names_of_the_django_backend_make_the_atoms_that_classes_modules_and_locks_make(
    described: list[tuple[str, Phase, str | None]], fixtures: set[str]
) -> None:
    # Given tests of classes, some in modules with fixtures, some with lock files
    expected = _tied_by_class_module_and_lock(described, fixtures)
    # When
    manifest = Manifest(
        tuple(
            tied_entry(index, cls, phase, lock=lock, port=None, fixtures=fixtures)
            for index, (cls, phase, lock) in enumerate(described)
        )
    )
    # Then
    assert _members(atoms(manifest, UNKNOWN)) == expected


def test_an_entry_without_any_name_is_alone() -> None:
    # Given
    manifest = make_manifest(group("a.T", count=2, keep_with=()), group("a.U", keep_with=("x",)))
    # Then
    assert _members(atoms(manifest, UNKNOWN)) == [(0,), (1,), (2,)]


@given(manifests())
def test_at_most_one_transactional_atom_is_pristine(manifest: Manifest) -> None:
    # When
    plan = [atom for atom in atoms(manifest, UNKNOWN) if atom.phase is Phase.TRANSACTIONAL]
    # Then
    assert [atom.need for atom in plan] == [Need.PRISTINE, *[Need.FLUSHED] * len(plan)][: len(plan)]


def test_the_lower_bound_is_the_fair_share_or_the_longest_atom() -> None:
    # Given
    plan = [make_atom(0, 1.0), make_atom(1, 4.0), make_atom(2, 1.0)]
    # When
    bounds = [lower_bound(plan, slots) for slots in (1, 2, 0)]
    # Then
    assert bounds == [6.0, 4.0, 6.0]
    assert lower_bound((), 2) == 0.0
