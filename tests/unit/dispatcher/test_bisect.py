"""Claims about `dct bisect`: what is asked, and how the answer is put."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dct_celery.core.backends import rerun_after
from dct_celery.core.model import FLAKY, Bisection, Failure, OrderKind, Outcome
from dct_celery.dispatcher.bisect import explained, plan_bisection
from dct_celery.errors import UsageError
from tests.support.factories import make_entry
from tests.support.runs import finished, released
from tests.unit.core.run.test_history import events
from tests.unit.dispatcher.test_replay import one_process, past_of

FOUND = Bisection(
    "shop.B.test_1",
    OrderKind.VICTIM,
    "shop.A",
    "passes alone and fails after it",
    proven=True,
    fails=True,
    shown_after=("shop.A",),
    command="python manage.py test shop.A shop.B.test_1",
    probes=9,
    seconds=2.5,
)


def test_what_ran_before_the_test_is_its_past() -> None:
    # When
    part, opening = plan_bisection(one_process(), "B.test_1")
    # Then
    assert part.tests == (("shop.B.test_1", 0),)
    assert part.question is not None
    assert part.question.outcome is Outcome.FAILED
    assert part.question.past == (("shop.A.test_0", 0), ("shop.A.test_1", 0), ("shop.B.test_0", 0))
    assert opening == "shop.B.test_1 failed in run run-one after 1 class"


def test_what_it_failed_with_is_kept() -> None:
    # Given
    failure = Failure("failure", "AssertionError", "1 != 2", "…")
    past = past_of(events("c1", finished(4, "failed", failures=(failure,)), process=1))
    # When
    part, opening = plan_bisection(past, "C.test_0")
    # Then
    assert part.question is not None
    assert part.question.failures == (failure,)
    assert opening.endswith("where nothing else ran before it")


def test_a_test_that_passed_is_said_to_have() -> None:
    # When
    part, opening = plan_bisection(one_process(), "C.test_0")
    # Then
    assert part.question is not None
    assert part.question.passed
    assert "passed in run run-one; finding out whether it fails in canonical order" in opening


def test_a_death_is_a_failure() -> None:
    # Given
    *begun, end = events("c1", 0, process=1)
    past = past_of([*begun, released(end.lease, "crash", index=4)])
    # When
    part, _ = plan_bisection(past, "C.test_0")
    # Then
    assert part.question is not None
    assert part.question.failures[0].type == "dct.ProcessDied"


def test_what_a_fixture_kept_from_running_has_failed() -> None:
    # Given
    covered = finished(4, "not_run", covered_by="setUpClass (shop.C)")
    # When
    part, _ = plan_bisection(past_of(events("c1", covered, process=1)), "C.test_0")
    # Then
    assert part.question is not None
    assert not part.question.passed
    assert part.question.failures[0].message == "setUpClass (shop.C) failed"


def test_a_test_that_did_not_run_is_one_line() -> None:
    # When
    with pytest.raises(UsageError) as refused:
        plan_bisection(past_of(), "C.test_0")
    # Then
    assert str(refused.value) == "shop.C.test_0 did not run in run run-one"


def test_the_answer_has_the_proof_and_a_command() -> None:
    # When / Then
    assert explained(FOUND) == [
        "shop.B.test_1",
        "  victim of shop.A: it passes alone and fails after it; in canonical order it fails",
        "  it fails after: shop.A",
        "  python manage.py test shop.A shop.B.test_1",
        "  9 probes, 2.5 slot-seconds",
    ]


@pytest.mark.parametrize(
    ("kind", "fails", "proven", "changed", "says"),
    [
        (OrderKind.VICTIM, False, True, False, "in canonical order it passes"),
        (OrderKind.BRITTLE, False, True, False, "needs shop.A before it: it passes alone"),
        (OrderKind.FLAKY, True, True, False, f"{FLAKY}: it passes alone"),
        (OrderKind.FLAKY, True, True, True, "not the same any more: it"),
        (OrderKind.UNPROVEN, True, False, False, "not settled: it passes alone"),
        (None, True, True, False, "an ordinary failure: it passes alone"),
        (None, False, True, False, "no failure: it passes alone"),
    ],
)
def test_each_kind_of_answer_is_named(
    kind: OrderKind | None, fails: bool, proven: bool, changed: bool, says: str
) -> None:
    # Given
    found = replace(FOUND, kind=kind, fails=fails, proven=proven)
    # When / Then
    assert says in explained(found, changed=changed)[1]


def test_an_ordinary_failure_may_be_one_of_an_import_that_the_command_does_not_have() -> None:
    # Given
    found = replace(FOUND, kind=None, fails=True, shown_after=())
    # When / Then
    assert explained(found)[2:4] == [
        "  python manage.py test shop.A shop.B.test_1",
        "  if this passes, another test module's import is the cause",
    ]


def test_the_command_has_classes_before_the_test_in_the_order_that_it_runs_them_in() -> None:
    # Given
    words = ["python", "manage.py", "test"]
    first, last = make_entry(0, "shop.A"), make_entry(7, "shop.C")
    labelled = make_entry(5, "shop.B", label="shop/b.py::B::test_5")
    # When / Then
    assert rerun_after(words, [first, first], last) == (
        "python manage.py test shop.A shop.C.test_7"
    )
    assert rerun_after([*words, "--reverse"], [first], labelled) == (
        "python manage.py test --reverse shop/b.py::B::test_5 shop.A"
    )
