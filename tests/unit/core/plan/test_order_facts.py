"""Claims about `core.plan.order_facts`: what is remembered, when it expires, what a plan does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dct_celery.core.model import Entry, Manifest, OrderKind, Phase
from dct_celery.core.order import Finding
from dct_celery.core.plan.order_facts import MOST_BEFORE, OrderFact, OrderFacts
from dct_celery.core.plan.planner import Planner, atoms
from dct_celery.core.plan.timings import Estimates
from tests.support.factories import group, make_manifest

FREE: frozenset[str] = frozenset()
SUITE = make_manifest(*(group(f"a.C{number}", count=2) for number in range(6)))
BRITTLE = Finding((1,), OrderKind.BRITTLE, 1, "fails alone and passes after it")
VICTIM = Finding(None, OrderKind.VICTIM, 2, "passes alone and fails after it")
CLEANED = Finding((2, 3), OrderKind.VICTIM, 2, "passes alone and fails after it, unless")


def code(entries: Iterable[Entry]) -> str:
    """Each class's code is its name."""
    return ",".join(dict.fromkeys(entry.cls for entry in entries))


def facts(known: dict[str, OrderFact] | None = None, suite: Manifest = SUITE) -> OrderFacts:
    return OrderFacts(suite, atoms(suite, Estimates({})), known or {}, code)


def learned(finding: Finding, *, failed: bool = False) -> dict[str, OrderFact]:
    """What is remembered of class 4."""
    return facts().learn([], {4: finding}, {4: (SUITE[8].id,)}, [4] if failed else [])


def chunks(of: OrderFacts) -> list[tuple[tuple[int, ...], tuple[int, ...], bool]]:
    """Preamble, indices and freshness of all that a plan for one slot hands out."""
    planner = Planner(of.planned())
    found = []
    while (chunk := planner.next_chunk(1, FREE)) is not None:
        found.append((chunk.preamble, chunk.indices, chunk.fresh_process))
    return found


def test_a_brittle_class_runs_after_its_state_setter_in_a_process_of_its_own() -> None:
    # When
    planned = facts(learned(BRITTLE))
    # Then
    assert ((2, 3), (8, 9), True) in chunks(planned)
    ran = sorted(index for _, indices, _ in chunks(planned) for index in indices)
    assert ran == list(range(12))
    (note,) = {planned.notes()[8]}
    assert (note.kind, note.partner) == (OrderKind.BRITTLE, "a.C1")


def test_a_note_is_about_the_tests_that_depend_on_order_alone() -> None:
    assert set(facts(learned(BRITTLE)).notes()) == {8}


def test_a_victim_that_something_cleans_up_for_runs_where_nothing_ran_before_it() -> None:
    assert ((), (8, 9), True) in chunks(facts(learned(CLEANED)))


def test_a_victim_that_nothing_cleans_up_for_fails_after_its_polluter_again() -> None:
    assert ((4, 5), (8, 9), True) in chunks(facts(learned(VICTIM, failed=True)))


def test_a_victim_of_several_together_fails_after_all_of_them_again() -> None:
    # Given
    together = replace(VICTIM, shown_after=(1, 2))
    # Then
    assert ((2, 3, 4, 5), (8, 9), True) in chunks(facts(learned(together, failed=True)))


def test_what_passed_alone_is_known_and_changes_no_plan() -> None:
    # When
    known = facts().learn([3], {}, {}, [])
    # Then
    assert facts(known).passed_alone == {3}
    assert chunks(facts(known)) == chunks(facts())


def test_what_fails_in_every_order_is_kept_with_all_else_that_is_known_of_its_class() -> None:
    # Given
    known = facts(learned(BRITTLE))
    # When
    new = known.learn([], {}, {}, [4], {4: {"a.C4.test_9": "1f"}})
    # Then
    again = facts({**learned(BRITTLE), **new})
    assert again.ordinary() == {"a.C4.test_9": "1f"}
    assert set(again.notes()) == {8}
    assert again.learn([], {}, {}, [4], {4: {"a.C4.test_9": "1f"}}) == {}
    # When something else is found out about the class
    more = again.learn([], {4: VICTIM}, {4: (SUITE[8].id,)}, [4])
    # Then
    assert more["a.C4"].ordinary == {"a.C4.test_9": "1f"}


def test_what_is_known_already_is_not_learned_again() -> None:
    # Given
    known = facts(learned(BRITTLE))
    # Then
    assert known.learn([], {4: BRITTLE}, {4: (SUITE[8].id,)}, []) == {}


def test_a_fact_expires_with_the_code_of_the_class_or_of_its_partner() -> None:
    # Given
    (known,) = learned(BRITTLE).values()
    for stale in ("a.C4,a.CX", "a.CX,a.C1", ""):
        # When
        later = facts({"a.C4": OrderFact(stale, kind=known.kind, before=known.before)})
        # Then
        assert later.notes() == {}


def test_that_something_cleans_up_for_a_victim_is_forgotten_where_that_may_be_gone() -> None:
    # Given: class 3, between the polluter and the victim
    known = learned(CLEANED)
    kept = make_manifest(*(group(f"a.C{number}", count=2) for number in (2, 3, 4, 5)))
    changed = make_manifest(*(group(f"a.{name}", count=2) for name in ("C2", "CX", "C4", "C5")))
    gone = make_manifest(*(group(f"a.C{number}", count=2) for number in (2, 4, 5)))
    # Then
    assert facts(known, kept).notes()
    assert facts(known, changed).notes() == {}
    assert facts(known, gone).notes() == {}


def test_a_partner_that_is_not_selected_or_runs_later_is_no_reason_for_anything() -> None:
    # Given
    known = learned(BRITTLE)
    without = make_manifest(*(group(f"a.C{number}", count=2) for number in (0, 4, 5)))
    turned = make_manifest(*(group(f"a.C{number}", count=2) for number in (4, 0, 1)))
    # Then
    assert facts(known, without).notes() == {}
    assert facts(known, turned).notes() == {}


def test_what_is_unproven_or_needs_many_classes_is_not_remembered() -> None:
    unproven = Finding(None, OrderKind.UNPROVEN, None, "was not run alone", proven=False)
    many = Finding(tuple(range(MOST_BEFORE + 1)), OrderKind.BRITTLE, 0, "after others")
    crowd = replace(VICTIM, shown_after=tuple(range(MOST_BEFORE + 1)))
    assert learned(unproven) == {}
    assert learned(many) == {}
    assert learned(crowd, failed=True) == {}


def test_functions_of_one_module_have_facts_of_their_own() -> None:
    # Given a module of pytest, whose tests no plan keeps together
    suite = Manifest(
        tuple(
            Entry(number, f"a.py::test_{number}", "a", "a", Phase.NO_DATABASE)
            for number in range(4)
        )
    )
    finding = Finding((1,), OrderKind.BRITTLE, 1, "fails alone and passes after it")
    # When
    found = facts(suite=suite).learn([0], {3: finding}, {3: ("a.py::test_3",)}, [])
    # Then
    assert set(found) == {"a.py::test_0", "a.py::test_3"}
    assert found["a.py::test_3"].before == ("a.py::test_1",)
    planned = facts(found, suite)
    assert set(planned.notes()) == {3}
    assert ((1,), (3,), True) in chunks(planned)
