from __future__ import annotations

from typing import Any

import pytest

from dct_celery.core.model import (
    Failure,
    FixtureRef,
    FixtureVerdict,
    Limited,
    NearLimit,
    OrderKind,
    OrderNote,
    Outcome,
    RunReport,
    Verdict,
)
from tests.unit.reports.scene import FAILURE, TRACEBACK, Scene, verdict


def summary(
    *verdicts: Verdict,
    exit_code: int = 0,
    options: dict[str, Any] | None = None,
    how: Any = None,
    **report: Any,
) -> str:
    scene = Scene(**(options or {}))
    scene.start(**(how or {}))
    scene.finish(RunReport("r1", verdicts, report.pop("fixtures", ()), exit_code, **report))
    return scene.out.getvalue()


def test_a_green_run_ends_as_in_django() -> None:
    # Given
    verdicts = [verdict(index=i) for i in range(3010)]
    verdicts += [verdict(index=i, outcome=Outcome.SKIPPED) for i in range(3)] + [
        verdict(outcome=Outcome.XFAILED)
    ]
    slots = (
        {"worker": "build-b", "slot": 0, "busy_seconds": 30.0, "chunks": 1},
        {"worker": "build-a", "slot": 0, "busy_seconds": 57.0, "chunks": 12},
    )

    # When
    text = summary(*verdicts, slots=slots, seconds={"run": 60.0, "wall": 61.2})

    # Then
    assert text.splitlines() == [
        "",
        "slots: build-a/0 57.0 s busy (95%), 12 chunks;",
        "       build-b/0 30.0 s busy (50%), 1 chunk",
        "",
        "-" * 70,
        "Ran 3,014 tests in 61.2 s on 2 slots (2 workers)",
        "",
        "OK (skipped=3, expected failures=1)",
    ]


def test_a_red_run_shows_each_failure_in_full_with_its_command() -> None:
    # Given
    subtests = (
        Failure("failure", "AssertionError", "1 != 2", TRACEBACK, subtest="(i=3)"),
        Failure("error", "ValueError", "boom", "ValueError: boom\n", subtest="[m] (i=4)"),
    )
    failed = verdict("test_x", Outcome.FAILED, output="printed\n", sql="SELECT 1\n", attempt=2)
    erred = verdict("test_y", Outcome.ERROR, failures=subtests)

    # When
    text = summary(failed, erred, verdict("test_z", Outcome.XPASSED), exit_code=1)

    # Then
    assert text.splitlines() == [
        "",
        "=" * 70,
        "ERROR: test_y (app.tests.T.test_y)",
        "build-a/0, 0.12 s",
        "-" * 70,
        "FAIL in subtest (i=3):",
        *TRACEBACK.splitlines(),
        "",
        "ERROR in subtest [m] (i=4):",
        "ValueError: boom",
        "",
        "re-run: dct run app.tests.T.test_y",
        "",
        "=" * 70,
        "FAIL: test_x (app.tests.T.test_x)",
        "build-a/0, 0.12 s, attempt 2",
        "-" * 70,
        *TRACEBACK.splitlines(),
        "",
        "Captured output:",
        "printed",
        "",
        "SQL:",
        "SELECT 1",
        "",
        "re-run: dct run app.tests.T.test_x",
        "",
        "=" * 70,
        "UNEXPECTED SUCCESS: test_z (app.tests.T.test_z)",
        "build-a/0, 0.12 s",
        "-" * 70,
        "It passed, but is marked as an expected failure.",
        "",
        "re-run: dct run app.tests.T.test_z",
        "",
        "Failed:",
        "  ERROR app.tests.T.test_y  AssertionError: 1 != 2",
        "  FAIL app.tests.T.test_x  AssertionError: 1 != 2",
        "  UNEXPECTED SUCCESS app.tests.T.test_z",
        "",
        "-" * 70,
        "Ran 3 tests in 0.0 s",
        "",
        "FAILED (failures=1, errors=1, unexpected successes=1)",
    ]


def test_what_was_not_run_is_grouped_by_reason_or_by_its_fixture() -> None:
    # Given
    lost = [
        verdict(f"test_{i}", Outcome.NOT_RUN, i, reason="lost with its worker") for i in range(4)
    ]
    silent = verdict("test_s", Outcome.NOT_RUN, 8)
    set_up = FixtureRef.parse("setUpClass (app.tests.T)")
    covered = verdict("test_c", Outcome.NOT_RUN, 9, covered_by=set_up)
    fixture = FixtureVerdict(set_up, Outcome.ERROR, "build-a", 0, (FAILURE,), covers=(9,))

    # When
    text = summary(
        *lost, silent, covered, fixtures=(fixture,), exit_code=7, note="a worker was lost"
    )

    # Then
    assert text.splitlines() == [
        "",
        "=" * 70,
        "ERROR: setUpClass (app.tests.T)",
        "build-a/0",
        "-" * 70,
        *TRACEBACK.splitlines(),
        "",
        "It kept 1 test from running.",
        "",
        "Not run: 5 tests",
        "  4: lost with its worker",
        "      app.tests.T.test_0",
        "      app.tests.T.test_1",
        "      app.tests.T.test_2",
        "      and 1 more",
        "  1: no verdict came",
        "      app.tests.T.test_s",
        "",
        "-" * 70,
        "Ran 0 tests in 0.0 s",
        "",
        "INCOMPLETE (errors=1, not run=6): a worker was lost",
    ]


@pytest.mark.parametrize(
    ("exit_code", "end"),
    [
        (0, "OK: why"),
        (1, "FAILED: why"),
        (2, "INTERRUPTED: why"),
        (5, "NO TESTS RAN: why"),
        (7, "INCOMPLETE: why"),
        (3, "INCOMPLETE: why"),
    ],
)
def test_only_exit_code_zero_ends_with_ok(exit_code: int, end: str) -> None:
    # Given / When
    text = summary(exit_code=exit_code, note="why")

    # Then
    assert text.splitlines()[-1] == end


def test_durations_and_timing_are_shown_when_asked_for() -> None:
    # Given
    verdicts = [verdict(f"test_{s}", seconds=s) for s in (0.0001, 2.0, 1.0, 3.0)]
    seconds = {"collect": 2.1, "wall": 61.2}

    # When
    two = summary(*verdicts, how={"durations": 2}).splitlines()
    every = summary(*verdicts, how={"durations": 0, "timing": True}, seconds=seconds).splitlines()

    # Then
    assert two[1:4] == [
        "Slowest test durations",
        "    3.000 s  test_3.0 (app.tests.T.test_3.0)",
        "    2.000 s  test_2.0 (app.tests.T.test_2.0)",
    ]
    assert every[4:11] == [
        "    1.000 s  test_1.0 (app.tests.T.test_1.0)",
        "(durations < 0.001 s were hidden; use -v 2 to show these durations)",
        "",
        "Timing",
        "  collect       2.10 s",
        "  wall         61.20 s",
        "",
    ]


def test_many_slots_are_shown_by_worker_within_the_width() -> None:
    # Given
    slots = tuple(
        {"worker": f"w{i % 3}", "slot": i, "busy_seconds": 10.0, "chunks": 2} for i in range(30)
    )

    # When
    lines = summary(slots=slots, seconds={"run": 20.0, "wall": 22.0}).splitlines()

    # Then
    assert lines[1:3] == [
        "workers: w0 10 slots 100.0 s busy (50%), 20 chunks;",
        "         w1 10 slots 100.0 s busy (50%), 20 chunks;",
    ]


def test_a_flaky_test_is_reported_where_it_failed_with_its_reason_and_in_the_final_line() -> None:
    # Given
    failed = verdict(
        outcome=Outcome.FAILED,
        failures=(Failure("failure", "AssertionError", "1 != 2", "T", "", "t.py", 7),),
    )
    flaky = verdict("test_x", earlier=(failed, verdict(outcome=Outcome.ERROR)))

    # When
    text = summary(
        flaky, verdict("test_y", index=1, outcome=Outcome.SKIPPED), options={"verbosity": 0}
    )

    # Then
    assert text.splitlines()[1:6] == [
        "Flaky: 1 test failed, and passed when run again",
        "  app.tests.T.test_x",
        "      build-a/0: AssertionError: 1 != 2 (t.py:7)",
        "      build-a/0: AssertionError: 1 != 2",
        "      build-a/0: passed",
    ]
    assert text.splitlines()[-1] == "OK, 1 flaky (skipped=1)"


def test_a_green_run_with_a_flaky_test_does_not_end_in_green() -> None:
    # When
    text = summary(verdict(earlier=(verdict(outcome=Outcome.FAILED),)), options={"colour": True})

    # Then
    assert text.splitlines()[-1] == "\x1b[33mOK, 1 flaky\x1b[0m"


def test_a_failure_for_good_says_how_often_it_ran_again() -> None:
    # Given
    failed = verdict(outcome=Outcome.FAILED)

    # When
    text = summary(verdict(outcome=Outcome.FAILED, earlier=(failed, failed)), exit_code=1)

    # Then
    assert "build-a/0, 0.12 s, 2 reruns" in text.splitlines()
    assert "Flaky" not in text


def test_an_interrupted_run_says_so_once() -> None:
    assert (
        summary(verdict(outcome=Outcome.NOT_RUN), exit_code=2, note="interrupted").splitlines()[-1]
        == "INTERRUPTED (not run=1)"
    )


def test_an_interrupted_run_says_why_tests_were_not_run() -> None:
    # Given
    kept = verdict(outcome=Outcome.NOT_RUN, reason="interrupted")
    # When / Then
    assert "  1: interrupted" in summary(kept, exit_code=2, note="interrupted")


def test_the_reason_why_a_run_ended_is_printed_once() -> None:
    # Given
    lost = [
        verdict(f"test_{i}", Outcome.NOT_RUN, i, reason="no worker takes the run: another key")
        for i in range(2)
    ]
    # When
    text = summary(*lost, exit_code=4, note="no worker takes the run: another key")
    # Then
    assert text.count("no worker takes the run: another key") == 1
    assert "  2: see below" in text
    assert text.splitlines()[-1].endswith("no worker takes the run: another key")


def test_many_failures_end_in_a_short_list_that_says_how_many_more_there_are() -> None:
    # Given
    failed = [verdict(f"test_{i}", Outcome.FAILED, i) for i in range(25)]

    # When
    lines = summary(*failed, exit_code=1).splitlines()

    # Then: a line each, last before the final lines
    start = lines.index("Failed:")
    assert lines[start + 1] == "  FAIL app.tests.T.test_0  AssertionError: 1 != 2"
    assert lines[start + 20 : start + 23] == [
        "  FAIL app.tests.T.test_19  AssertionError: 1 != 2",
        "  and 5 more",
        "",
    ]
    assert lines[start + 23] == "-" * 70


def test_one_failure_needs_no_list() -> None:
    assert "Failed:" not in summary(verdict(outcome=Outcome.FAILED), exit_code=1)


def test_a_class_that_its_fixture_skips_is_skipped_as_in_unittest() -> None:
    # Given: SkipTest in setUpClass
    set_up = FixtureRef.parse("setUpClass (app.tests.T)")
    kept = [verdict(f"test_{i}", Outcome.NOT_RUN, i, covered_by=set_up) for i in range(2)]
    fixture = FixtureVerdict(
        set_up, Outcome.SKIPPED, "build-a", 0, reason="no server", covers=(0, 1)
    )

    # When
    text = summary(*kept, fixtures=(fixture,))

    # Then
    assert "Not run" not in text
    assert text.splitlines()[-1] == "OK (skipped=1)"


def test_order_dependent_tests_are_listed_by_class_with_their_partner() -> None:
    # Given
    note = OrderNote(
        OrderKind.BRITTLE, "a.Setter", "fails alone and passes after it", failed_with="boom"
    )
    other = OrderNote(OrderKind.UNPROVEN, "", "was not run alone", proven=False)
    verdicts = [verdict(f"test_{n}", order=note) for n in range(3)]
    verdicts.append(verdict("test_z", Outcome.FAILED, order=other))
    # When
    text = summary(*verdicts, exit_code=1)
    # Then
    cls = verdicts[0].entry.cls
    assert "Order-dependent: 3 tests\n" in text
    assert (
        f"  {cls} (3 tests) needs a.Setter before it: it fails alone and passes after it\n"
        "      in the order of the sequential run it passes\n"
    ) in text
    assert "Not settled: 1 failure may be due to the order of tests (--settle)\n" in text
    assert f"  {cls} not settled: it was not run alone\n" in text


def test_what_came_near_its_limit_is_a_short_list() -> None:
    # Given
    near = tuple(NearLimit(Limited.TEST, f"app.T.test_{n}", 54.0, 60.0) for n in range(30))

    # When
    text = summary(verdict(), near_limits=near)

    # Then
    lines = text.splitlines()
    start = lines.index("Near a time limit: 30 things took 80% of it or more")
    assert lines[start + 1] == "  test app.T.test_0: 54.0 s, 90% of its 60 s"
    assert lines[start + 21 : start + 23] == ["  and 10 more", ""]
