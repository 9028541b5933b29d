"""Claims about `core.order`: what may be out of order, and what a search for its effects finds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core import order
from dct_celery.core.model import OrderKind
from dct_celery.core.order import Finding, Preamble

#: Whether the test is bad after these.
Bad = Callable[[Preamble], bool]


def search(
    bad: Bad,
    atom: int,
    past: Preamble | None = (),
    *,
    passed_alone: bool = False,
    partners: Sequence[int] = (),
) -> tuple[Finding, list[Preamble]]:
    """What is found, and all that was tried for it."""
    steps = order.search(atom, past, passed_alone=passed_alone, partners=partners)
    tried: list[Preamble] = []
    try:
        ask = next(steps)
        while True:
            tried.append(ask.preamble)
            ask = steps.send(bad(ask.preamble))
    except StopIteration as end:
        return end.value, tried


# -- early work --------------------------------------------------------------------------


def test_work_of_one_length_keeps_its_order() -> None:
    assert order.stretching([1.0] * 40, 8, 1.0) == []


def test_what_is_longer_than_all_that_follows_can_hide_goes_early() -> None:
    # Given: behind the first there is enough for the other slots, behind the second there is not
    seconds = [5.0, *[1.0] * 30, 5.0, *[1.0] * 3]
    # Then
    assert order.stretching(seconds, 4, 1.0) == [31]


def test_one_slot_has_nothing_to_gain() -> None:
    assert order.stretching([1.0, 9.0], 1, 0.0) == []


@pytest.mark.parametrize(("after", "may"), [(None, True), (4, True), (5, False), (6, False)])
def test_a_process_runs_only_what_comes_later(after: int | None, may: bool) -> None:
    assert order.ascends((5, 7), after) is may


# -- searches ----------------------------------------------------------------------------


def test_what_fails_alone_and_after_everything_is_an_ordinary_failure() -> None:
    # When
    found, tried = search(lambda preamble: True, 20)
    # Then
    assert (found.kind, found.preamble, found.proven) == (None, None, True)
    assert tried[-1] == tuple(range(20))


def test_what_is_known_when_a_search_is_cut_short_is_said_in_words() -> None:
    # Given
    steps = order.search(200, (), passed_alone=False, partners=())
    said = [next(steps).so_far.proven_by]
    # When
    said += [steps.send(True).so_far.proven_by for _ in range(2)]
    # Then
    assert said == [
        "fails alone and was not tried after others",
        "fails alone and after what runs right before it",
        "fails alone and after the 8 classes before it",
    ]


def test_what_fails_alone_and_has_passed_alone_before_needs_no_further_try() -> None:
    # When
    found, tried = search(lambda preamble: True, 20, (3, 4), passed_alone=True)
    # Then
    assert (found.kind, tried) == (None, [()])


def test_what_was_alone_already_is_not_run_alone_again() -> None:
    # When
    _, tried = search(lambda preamble: True, 20, (), passed_alone=True)
    # Then
    assert tried == []


@given(st.integers(1, 300).flatmap(lambda atom: st.tuples(st.just(atom), st.integers(0, atom - 1))))
def test_the_state_setter_of_a_brittle_class_is_found(where: tuple[int, int]) -> None:
    # Given
    atom, setter = where
    # When
    found, _ = search(lambda preamble: setter not in preamble, atom)
    # Then
    assert (found.kind, found.partner, found.preamble) == (OrderKind.BRITTLE, setter, (setter,))


def test_any_class_before_it_will_do_where_imports_left_something_behind() -> None:
    # When
    found, tried = search(lambda preamble: not preamble, 30)
    # Then
    assert (found.kind, found.preamble, tried) == (
        OrderKind.BRITTLE,
        (29,),
        [(29,), (), (29,), (), (), (29,)],
    )


def test_a_class_that_needs_several_others_gets_them_and_no_more() -> None:
    # When
    found, _ = search(lambda preamble: not {4, 9, 20} <= {*preamble}, 30)
    # Then
    assert (found.kind, found.partner, found.preamble) == (OrderKind.BRITTLE, 4, (4, 9, 20))
    assert found.proven_by == "fails alone and passes after it, together with 2 more"


@given(st.data())
def test_the_polluter_of_a_victim_is_found_and_whether_something_cleans_up(
    data: st.DataObject,
) -> None:
    # Given
    atom = data.draw(st.integers(2, 200))
    past = tuple(sorted(data.draw(st.sets(st.integers(0, atom - 1), min_size=1))))
    polluter = data.draw(st.sampled_from(past))
    cleaner = data.draw(st.none() | st.integers(polluter, atom - 1).filter(lambda n: n not in past))

    def bad(preamble: Preamble) -> bool:
        return polluter in preamble and cleaner not in preamble

    # When
    found, _ = search(bad, atom, past)
    # Then
    assert (found.kind, found.partner, found.proven) == (OrderKind.VICTIM, polluter, True)
    assert (found.preamble is None) is (cleaner is None)
    assert found.preamble is None or cleaner in found.preamble


def test_two_polluters_that_do_it_together_are_both_in_the_evidence() -> None:
    # Given
    past = (1, 3, 5, 7, 9)
    # When
    found, tried = search(lambda preamble: {3, 7} <= {*preamble}, 12, past)
    # Then
    assert (found.kind, found.partner) == (OrderKind.VICTIM, 3)
    assert "together with 1 more" in found.proven_by
    assert (3, 7) in tried


@given(st.data())
def test_polluters_that_do_it_together_are_all_in_the_evidence_and_no_others(
    data: st.DataObject,
) -> None:
    # Given
    past = tuple(sorted(data.draw(st.sets(st.integers(0, 99), min_size=1))))
    together = data.draw(st.sets(st.sampled_from(past), min_size=1, max_size=5))
    # When
    found, tried = search(lambda preamble: together <= {*preamble}, 100, past)
    # Then
    assert found.shown_after == tuple(sorted(together))
    assert found.partner == min(together)
    assert len(tried) < 40 + 10 * len(together)


def test_what_fails_and_passes_after_the_same_is_flaky() -> None:
    # When
    found, tried = search(lambda preamble: False, 12, (1, 3, 5))
    # Then
    assert (found.kind, found.preamble) == (OrderKind.FLAKY, None)
    assert tried[-1] == (1, 3, 5)


@pytest.mark.parametrize("past", [(), (1, 3, 5)])
def test_a_test_that_fails_at_random_is_hardly_ever_taken_for_an_order_dependent_pass(
    past: Preamble,
) -> None:
    # Given
    chance = random.Random(7)
    # When
    found = [search(lambda preamble: chance.random() < 0.5, 12, past)[0] for _ in range(400)]
    # Then
    assert sum(1 for one in found if one.preamble is not None) <= 400 * 0.1
    assert sum(1 for one in found if one.kind is OrderKind.FLAKY) > 400 * 0.4


def test_what_passes_alone_after_an_unknown_past_is_not_proven() -> None:
    # When
    found, _ = search(lambda preamble: False, 12, None)
    # Then
    assert (found.kind, found.proven, found.preamble) == (OrderKind.UNPROVEN, False, None)


def test_a_partner_of_a_failure_that_looks_the_same_is_tried_first() -> None:
    # When
    found, tried = search(lambda preamble: 2 not in preamble, 30, partners=[2])
    # Then
    assert (found.partner, tried) == (2, [(2,)])
    # When
    found, tried = search(lambda preamble: 2 in preamble, 4, (1, 2, 3), partners=[2])
    # Then
    assert (found.partner, tried[:2]) == (2, [(), (2,)])


# -- bisections --------------------------------------------------------------------------


@given(
    st.integers(1, 60).flatmap(
        lambda atom: st.tuples(st.just(atom), st.sets(st.integers(0, atom - 1)), st.booleans())
    ),
    st.integers(1, 9),
)
def test_what_is_tried_ahead_begins_with_what_is_asked(
    where: tuple[int, set[int], bool], most: int
) -> None:
    # Given
    atom, guilty, alone = where

    def begin() -> order.Search:
        return order.bisection(atom, None, failed=True)

    known: dict[order.Try, bool] = {}
    steps = begin()
    try:
        ask = next(steps)
        while True:
            while ask.key in known:
                ask = steps.send(known[ask.key])
            # When
            ahead = order.ahead(begin, known, most)
            # Then
            assert ahead[0] == ask
            assert len({one.key for one in ahead}) == len(ahead) <= most
            assert not known.keys() & {one.key for one in ahead}
            known[ask.key] = (not ask.preamble and alone) or bool(guilty & {*ask.preamble})
            ask = steps.send(known[ask.key])
    except StopIteration:
        assert order.ahead(begin, known, most) == []


def test_two_answers_ahead_cover_both_cases() -> None:
    # When
    asks = order.ahead(lambda: order.bisection(9, (2, 3), failed=True), {}, 3)
    # Then: alone; then, if bad, after the one before it; if not, after the last of its past
    assert [one.preamble for one in asks] == [(), (8,), (3,)]


@pytest.mark.parametrize("passes", [2, 3])
def test_what_passes_once_in_several_tries_alone_is_flaky(passes: int) -> None:
    # Given
    steps = order.bisection(1, (), failed=True)
    ask = next(steps)
    # When
    found: Finding | None = None
    try:
        while True:
            ask = steps.send(ask.again != passes)
    except StopIteration as end:
        found = end.value
    # Then
    assert found is not None
    assert found.kind is OrderKind.FLAKY


def test_what_fails_every_other_time_is_flaky() -> None:
    # Given
    steps, bad = order.bisection(5, (0, 1), failed=True), False
    known: dict[order.Try, bool] = {}
    found: Finding | None = None
    # When
    try:
        ask = next(steps)
        while True:
            if ask.key not in known:
                known[ask.key] = bad = not bad
            ask = steps.send(known[ask.key])
    except StopIteration as end:
        found = end.value
    # Then
    assert found is not None
    assert found.kind is OrderKind.FLAKY


def test_a_flaky_test_that_behaved_for_long_is_found_out_by_a_bisection() -> None:
    # Given: after class 1 it fails three times, and then it passes
    def bad(ask: order.Ask) -> bool:
        return 1 in ask.preamble and ask.again < 4

    steps = order.bisection(5, (0, 1), failed=True)
    found: Finding | None = None
    # When
    try:
        ask = next(steps)
        while True:
            ask = steps.send(bad(ask))
    except StopIteration as end:
        found = end.value
    # Then
    assert found is not None
    assert found.kind is OrderKind.FLAKY
