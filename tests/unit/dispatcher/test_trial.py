"""Claims about `dct try`: what counts as a difference, what is counted, and the advice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dct_celery.core.model import (
    Bisection,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Manifest,
    OrderKind,
    OrderNote,
    Outcome,
    RunReport,
    Verdict,
)
from dct_celery.dispatcher.trial import Difference, Times, Trial, answered, differences
from tests.support.factories import group, make_entry, make_manifest

SUITE = make_manifest(group("shop.A", count=2), group("shop.B", count=2))
COMMAND = ["dct", "run", "--local"]
SECONDS = {"collect": 2.0, "wait": 1.0, "run": 20.0, "finish": 0.5, "wall": 23.5}
SLOW = {**SECONDS, "run": 20.0, "wall": 25.0}
BROKEN = Failure("failure", "AssertionError", "1 != 2", "…")


def report(
    outcomes: Mapping[int, str] | None = None,
    *,
    run: str = "first",
    suite: Manifest = SUITE,
    seconds: Mapping[str, float] = SECONDS,
    slots: int = 1,
    each: float = 0.5,
    **fields: Any,
) -> RunReport:
    """A report in which all tests but these passed."""
    verdicts = []
    for entry in suite:
        outcome = Outcome((outcomes or {}).get(entry.index, "passed"))
        failures = (BROKEN,) if outcome is Outcome.FAILED else ()
        verdicts.append(Verdict(entry, outcome, each, "build-a", 0, failures=failures))
    fields.setdefault("exit_code", 1 if any(v.bad for v in verdicts) else 0)
    busy = [{"worker": "a", "slot": n, "busy_seconds": 4.0, "chunks": 3} for n in range(slots)]
    return RunReport(
        run, tuple(verdicts), fields.pop("fixtures", ()), seconds=dict(seconds),
        slots=tuple(busy), **fields,
    )  # fmt: skip


def distributed(outcomes: Mapping[int, str] | None = None, **fields: Any) -> RunReport:
    seconds = {**SECONDS, "run": 5.0, "wall": 8.5}
    return report(outcomes, **{"run": "second", "seconds": seconds, "slots": 4, **fields})


def trial(first: RunReport, second: RunReport, wall: float = 10.0) -> Trial:
    return Trial(first, second, tuple(differences(first, second)), wall)


def advice(of: Trial) -> str:
    return list(of.lines(COMMAND))[-1]


# -- what is a difference ----------------------------------------------------------------


def test_equal_verdicts_are_parity() -> None:
    # When
    same = trial(report({1: "failed"}), distributed({1: "failed"}))
    # Then
    assert (same.differences, same.parity, same.exit_code) == ((), True, 0)
    assert list(same.lines(COMMAND))[:3] == [
        "parity:  the same verdict for all 4 tests, 1 of them failing in both",
        "  failing in both: shop.A.test_1",
        "    if one of them passes with the project's own command, the slots lack a file, a"
        " variable or a package that it needs",
    ]


@pytest.mark.parametrize(
    ("first", "second", "bad_in"),
    [
        ("passed", "failed", "second"),
        ("failed", "passed", "first"),
        ("passed", "skipped", ""),
        ("failed", "error", ""),
        ("passed", "xfailed", ""),
        ("xpassed", "passed", "first"),
    ],
)
def test_each_other_outcome_is_a_difference(first: str, second: str, bad_in: str) -> None:
    # When
    (found,) = differences(report({2: first}), distributed({2: second}))
    # Then
    assert (found.name, found.sequential, found.distributed) == ("shop.B.test_0", first, second)
    assert found.run == bad_in
    assert found.open is bool(bad_in)


def test_tests_of_one_name_are_compared_one_by_one() -> None:
    # Given
    suite = Manifest(tuple(make_entry(index, name="same") for index in range(2)))
    # When
    found = differences(report({0: "failed"}, suite=suite), distributed({1: "failed"}, suite=suite))
    # Then
    assert [(one.sequential, one.distributed) for one in found] == [
        ("failed", "passed"),
        ("passed", "failed"),
    ]


def test_a_test_that_only_one_run_has_is_a_difference() -> None:
    # When
    found = differences(report(), distributed(suite=SUITE.only([0, 1, 2])))
    # Then
    assert [(one.name, one.distributed) for one in found] == [("shop.B.test_1", "missing")]


def test_a_fixture_that_failed_in_one_run_is_a_difference() -> None:
    # Given
    fixture = FixtureVerdict(FixtureRef.parse("tearDownClass (shop.A)"), Outcome.ERROR)
    # When
    (found,) = differences(report(), distributed(fixtures=(fixture,)))
    # Then
    assert (found.name, found.sequential, found.distributed) == (
        "tearDownClass (shop.A)",
        "passed",
        "error",
    )
    assert differences(report(fixtures=(fixture,)), distributed(fixtures=(fixture,))) == []


def test_what_the_run_has_called_flaky_needs_no_bisection() -> None:
    # Given
    second = distributed({2: "failed"})
    note = OrderNote(OrderKind.FLAKY, "", "failed and passed after the same classes")
    verdicts = tuple(
        replace(verdict, order=note) if verdict.bad else verdict for verdict in second.verdicts
    )
    # When
    (found,) = differences(report(), replace(second, verdicts=verdicts))
    # Then
    assert not found.open
    assert found.cause.startswith("flaky, or disturbed by what ran on other slots")


# -- causes ------------------------------------------------------------------------------

OPEN = Difference("shop.B.test_0", "passed", "failed", run="second", unit="shop.B")
FOUND = Bisection("shop.B.test_0", OrderKind.VICTIM, "shop.A", "fails after it", True, True)


@pytest.mark.parametrize(
    ("kind", "fails", "says"),
    [
        (OrderKind.VICTIM, True, "polluted by shop.A: it fails after it"),
        (OrderKind.BRITTLE, False, "needs shop.A before it: it fails after it"),
        (OrderKind.FLAKY, True, "flaky, or disturbed by what ran on other slots"),
        (OrderKind.UNPROVEN, True, "not settled: it fails after it"),
        (None, True, "it fails after it"),
        (None, False, "fails after it, as tried again"),
    ],
)
def test_the_answer_of_a_bisection_is_the_cause(
    kind: OrderKind | None, fails: bool, says: str
) -> None:
    # When
    told = answered(OPEN, replace(FOUND, kind=kind, fails=fails))
    # Then
    assert told.cause.startswith(says)


def test_a_bisection_that_failed_is_no_cause_but_says_why() -> None:
    # When / Then
    assert answered(OPEN, "the store is away").cause == "not found out: the store is away"


def test_a_difference_that_was_not_bisected_says_how_to() -> None:
    # When
    lines = list(trial(report(), distributed({2: "failed"})).lines(COMMAND))
    # Then
    assert "    not found out; see dct bisect second shop.B.test_0" in lines


def test_each_difference_is_named_with_its_cause_and_its_command() -> None:
    # Given
    first, second = report(), distributed({2: "failed"})
    shown = replace(FOUND, shown_after=("shop.A",), command="python manage.py test shop.A shop.B")
    (found,) = differences(first, second)
    # When
    lines = list(Trial(first, second, (answered(found, shown),), 10.0).lines(COMMAND))
    # Then
    assert lines[:4] == [
        "parity:  no, 1 difference in 4 tests",
        "  shop.B.test_0: passed in one process, failed distributed",
        "    polluted by shop.A: it fails after it",
        "    python manage.py test shop.A shop.B",
    ]
    assert lines[-1] == "advice:  switch when the 1 difference is fixed"


def test_the_screen_stays_one_screen() -> None:
    # Given
    suite = make_manifest(group("shop.A", count=300))
    every = dict.fromkeys(range(300), "failed")
    # When
    lines = list(trial(report(suite=suite), distributed(every, suite=suite)).lines(COMMAND))
    # Then
    assert len(lines) < 40
    assert any("and 292 more" in line for line in lines)


# -- speed and advice --------------------------------------------------------------------


def test_the_own_command_is_charged_for_what_it_does_itself() -> None:
    # Given: 1 s of waiting for a worker, in which it made databases for 0.6 s
    built = {"workers": {"a": {"templates": "built", "seconds": {"load": 9.0, "templates": 0.6}}}}
    # When / Then
    assert Times.of(report(databases=built)).own_command == pytest.approx(22.6)
    there = {"workers": {"a": {"templates": "reused", "seconds": {"templates": 0.6}}}}
    assert Times.of(report(databases=there)).own_command == pytest.approx(22.0)


def test_the_distributed_run_is_charged_for_its_whole_command() -> None:
    # When
    told = trial(report(), distributed(), wall=11.0)
    # Then
    assert told.factor == pytest.approx(2.0)
    assert "22.0 s in one process, 11.0 s on 4 slots: 2.0 times as fast" in "\n".join(
        told.lines(COMMAND)
    )
    assert told.busy_share == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("wall", "fields", "says"),
    [
        (10.0, {}, "advice:  switch: dct run --local"),
        (10.0, {"each": 2.0}, "advice:  switch: dct run --local; to go faster, split shop.A"),
        (30.0, {}, "not worth it: the suite is too short, 25.0 s go by beside the tests"),
        (
            25.0,
            {"seconds": {**SLOW, "settle": 9.0}},
            "not yet: 9.0 s went into settling failures; fix them, and it is 1.4 times as fast",
        ),
        (
            50.0,
            {"seconds": {**SLOW, "run": 40.0, "settle": 20.0}, "each": 9.0},
            "not yet: shop.A takes most of the time; split it first",
        ),
        (30.0, {"seconds": SLOW}, "not worth it on these 4 slots, which were busy for 20% of the"),
        (30.0, {"slots": 1}, "advice:  not on one slot"),
        (
            30.0,
            {"seconds": SLOW, "each": 9.0},
            "advice:  not yet: shop.A takes most of the time; split it first",
        ),
    ],
)
def test_the_advice_has_its_reason(wall: float, fields: dict[str, Any], says: str) -> None:
    # When
    told = advice(trial(report(), distributed(**fields), wall))
    # Then
    assert says in told


def test_what_depends_on_order_is_named() -> None:
    # Given
    second = distributed()
    note = OrderNote(OrderKind.BRITTLE, "shop.A", "fails alone and passes after it")
    verdicts = (*second.verdicts[:3], replace(second.verdicts[3], order=note))
    # When
    lines = list(trial(report(), replace(second, verdicts=verdicts)).lines(COMMAND))
    # Then
    assert "order:   1 test depends on order, settled in the run:" in lines
    assert "  shop.B.test_1: needs shop.A before it: it fails alone and passes after it" in lines


def test_a_run_that_did_not_end_is_no_parity() -> None:
    # When
    stopped = trial(report(), distributed(exit_code=7, note="no worker took the run"))
    # Then
    assert (stopped.parity, stopped.exit_code) == (False, 7)
    assert list(stopped.lines(COMMAND)) == [
        "no comparison: the distributed run did not come to its end (no worker took the run)"
    ]


def test_two_runs_that_ended_before_their_tests_are_no_parity() -> None:
    # Given
    none = dict.fromkeys(range(len(SUITE)), "not_run")
    refused: dict[str, Any] = {"exit_code": 1, "note": "SystemCheckError: 1 issue"}
    # When
    stopped = trial(report(none, **refused), distributed(none, **refused))
    # Then
    assert (stopped.differences, stopped.parity, stopped.exit_code) == ((), False, 1)
    assert list(stopped.lines(COMMAND)) == [
        "no comparison: the first run did not come to its end (SystemCheckError: 1 issue)"
    ]


def test_a_test_that_a_fixture_kept_from_running_is_compared() -> None:
    # Given
    fixture = FixtureRef.parse("setUpClass (shop.B)")
    covered = [
        Verdict(entry, Outcome.NOT_RUN, covered_by=fixture) if entry.cls == "shop.B" else verdict
        for entry, verdict in zip(SUITE, report().verdicts, strict=True)
    ]
    first, second = (
        replace(one, verdicts=tuple(covered), exit_code=1) for one in (report(), distributed())
    )
    # When
    found = trial(first, second)
    # Then
    assert (found.parity, found.exit_code) == (True, 0)


def test_a_test_that_its_own_code_leaves_out_is_compared() -> None:
    # Given
    left_out = Verdict(SUITE[0], Outcome.NOT_RUN, worker="w@host", reason="never started")
    first, second = (
        replace(one, verdicts=(left_out, *one.verdicts[1:])) for one in (report(), distributed())
    )
    # When
    found = trial(first, second)
    # Then
    assert (found.parity, found.exit_code) == (True, 0)


def test_json_has_the_whole_comparison() -> None:
    # When
    first, second = report(), distributed({2: "failed"})
    found = json.loads(json.dumps(trial(first, second).to_dict()))
    # Then
    assert (found["parity"], found["exit_code"], found["switch"]) == (False, 1, False)
    assert found["differences"] == [
        {
            "name": "shop.B.test_0",
            "sequential": "passed",
            "distributed": "failed",
            "message": "AssertionError: 1 != 2",
            "cause": "",
            "command": "",
            "run": "second",
        }
    ]
    assert (found["sequential_seconds"], found["distributed_seconds"]) == (22.0, 10.0)
