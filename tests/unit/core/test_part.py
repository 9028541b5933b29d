"""Claims about `core.part` and manifests of which a part runs."""

from __future__ import annotations

from dct_celery.core.model import Manifest, Phase
from dct_celery.core.part import WHOLE, Part, chosen, find, names
from dct_celery.core.plan.planner import atoms
from dct_celery.core.plan.timings import Estimates
from tests.support.factories import group, make_entry, make_manifest

SUITE = make_manifest(group("a.A", count=2), group("a.B", count=3), group("a.C", count=1))


def test_a_part_is_counted_and_iterated_alone_but_indexed_as_in_the_suite() -> None:
    # When
    part = SUITE.only([4, 1, 4])
    # Then
    assert len(part) == 2
    assert [entry.index for entry in part] == [1, 4]
    assert part[5].cls == "a.C"


def test_a_part_has_the_digest_of_its_suite() -> None:
    # When / Then: workers load the whole suite, and compare it
    assert SUITE.only([3]).digest == SUITE.digest


def test_names_survive_a_suite_that_has_grown() -> None:
    # Given
    wanted = names(SUITE.entries, (1, 4))
    grown = make_manifest(group("a.0", count=4), *(group(f"a.{c}", count=3) for c in "AB"))
    # When
    found, missing = find(grown.entries, wanted)
    # Then
    assert [grown[index].id for index in found] == ["a.A.test_1", "a.B.test_2"]
    assert missing == []


def test_what_is_no_more_is_named() -> None:
    # When
    found, missing = find(SUITE.entries, [("a.A.test_0", 0), ("a.Z.test_0", 0)])
    # Then
    assert (found, missing) == ((0,), ["a.Z.test_0"])


def test_tests_that_share_an_id_are_told_apart() -> None:
    # Given
    suite = Manifest(tuple(make_entry(index, name="same") for index in range(3)))
    # When
    wanted = names(suite.entries, (0, 2))
    # Then
    assert find(suite.entries, wanted) == ((0, 2), [])


def test_without_a_part_the_whole_suite_runs() -> None:
    # When / Then
    assert chosen(SUITE, WHOLE) is SUITE
    assert len(chosen(SUITE, Part(names(SUITE.entries, (2,))))) == 1


def test_atoms_of_a_part_start_from_the_databases_of_the_whole_suite() -> None:
    # Given
    suite = make_manifest(
        group("a.Flushing", Phase.TRANSACTIONAL, 2), group("a.Later", Phase.TRANSACTIONAL, 2)
    )
    # When
    (atom,) = atoms(suite.only([3]), Estimates({}))
    # Then
    assert atom.indices == (3,)
    assert atom.flushed == ("default",)
