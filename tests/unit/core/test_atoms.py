"""What must stay together, what it needs, and what it is said to cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given

from dct_celery.core import timings
from dct_celery.core.model import Manifest, Need, Phase
from dct_celery.core.planner import Atom, atoms, lower_bound
from dct_celery.core.timings import Estimates, Sample
from tests.support.factories import group, make_atom, make_manifest, make_samples, manifests

UNKNOWN = Estimates({})


def _members(plan: Sequence[Atom]) -> list[tuple[int, ...]]:
    return [atom.indices for atom in plan]


def test_a_class_is_one_atom_within_one_phase() -> None:
    # Given
    manifest = make_manifest(group("a.T", count=2), group("a.U"), group("a.T", Phase.TRANSACTIONAL, 2))
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
        group("a.T"),
        group("a.U", keep_module=True),
        group("b.T"),
        group("b.U"),
        group("a.V", Phase.NO_DATABASE),
        group("a.W", Phase.NO_DATABASE),
    )
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert _members(plan) == [(0, 1), (2,), (3,), (4,), (5,)]


def test_what_shares_a_lock_file_is_one_atom_and_brings_its_modules_along() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", lock_file="x.lock"),
        group("b.T"),
        group("b.U", lock_file="x.lock", keep_module=True),
        group("c.T", lock_file="y.lock"),
        group("d.T", Phase.TRANSACTIONAL, lock_file="x.lock"),
    )
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert _members(plan) == [(0, 1, 2), (3,), (4,)]
    assert [atom.locks for atom in plan] == [("file:x.lock",), ("file:y.lock",), ("file:x.lock",)]


def test_a_fixed_port_locks_but_does_not_bind() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", Phase.TRANSACTIONAL, port=8081), group("a.U", Phase.TRANSACTIONAL, port=8081, lock_file="x")
    )
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    assert [atom.locks for atom in plan] == [("port:8081",), ("file:x", "port:8081")]


def test_all_import_errors_are_one_atom() -> None:
    # Given
    manifest = make_manifest(group("f.A", Phase.LOAD_FAILED), group("a.T"), group("f.B", Phase.LOAD_FAILED))
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
    manifest = make_manifest(group("a.T", Phase.UNMANAGED), group("a.U", Phase.TRANSACTIONAL), group("a.V", Phase.UNMANAGED))
    # When
    needs = [atom.need for atom in atoms(manifest, UNKNOWN)]
    # Then
    assert needs == [Need.PRISTINE, Need.PRISTINE, Need.FLUSHED]


def test_isolated_tests_need_pristine_data_and_tests_without_database_need_none() -> None:
    # Given
    manifest = make_manifest(group("a.U", Phase.TRANSACTIONAL), group("a.T"), group("a.N", Phase.NO_DATABASE))
    # When
    needs = [atom.need for atom in atoms(manifest, UNKNOWN)]
    # Then
    assert needs == [Need.PRISTINE, Need.PRISTINE, Need.ANY]


def test_an_estimate_is_the_tests_and_each_class_once() -> None:
    # Given
    manifest = make_manifest(group("a.T", count=3, keep_module=True), group("a.U"))
    samples = make_samples(manifest, [1.0, 2.0, 4.0, 8.0])
    del samples[timings.test_key(manifest[0])]
    samples |= {"c:a.T": Sample(100.0, 1), "c:a.U": Sample(200.0, 1)}
    # When
    (atom,) = atoms(manifest, Estimates(samples, manifest))
    # Then
    assert atom.estimate == pytest.approx(4.0 + 2.0 + 4.0 + 8.0 + 300.0)
    assert atom.known


def test_an_atom_is_unknown_while_none_of_its_tests_was_timed() -> None:
    # Given
    manifest = make_manifest(group("a.T", count=2))
    # When
    (atom,) = atoms(manifest, Estimates({"c:a.T": Sample(1.0, 1)}, manifest))
    # Then
    assert not atom.known
    assert atom.estimate == pytest.approx(2 * timings.FALLBACK_SECONDS + 1.0)


@given(manifests())
def test_every_index_is_in_one_atom_and_ties_never_lead_out_of_it(manifest: Manifest) -> None:
    # When
    plan = atoms(manifest, UNKNOWN)
    # Then
    home = {index: number for number, atom in enumerate(plan) for index in atom.indices}
    assert sorted(index for atom in plan for index in atom.indices) == list(range(len(manifest)))
    kept = {(entry.module, entry.phase) for entry in manifest if entry.keep_module}
    ties = defaultdict(set)
    for entry in manifest:
        ties["class", entry.cls, entry.phase].add(home[entry.index])
        if entry.phase is Phase.LOAD_FAILED:
            ties["failed", "", entry.phase].add(home[entry.index])
        elif (entry.module, entry.phase) in kept:
            ties["module", entry.module, entry.phase].add(home[entry.index])
        elif entry.lock_file is not None:
            ties["file", entry.lock_file, entry.phase].add(home[entry.index])
    assert all(len(homes) == 1 for homes in ties.values())


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
