"""The JSON report's shape."""

from __future__ import annotations

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.core.metrics import FixtureMetrics, TestMetrics
from dct_celery.core.model import (
    Entry,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Limited,
    NearLimit,
    OrderKind,
    OrderNote,
    Outcome,
    Phase,
    RunReport,
    Verdict,
)
from dct_celery.core.run.leaks import Leak, LeakKind
from dct_celery.reports.json_report import render, to_dict
from tests.support.verdicts import REPORTS

ENTRY = Entry(
    0, "app.tests.T.test_a", "app.tests.T", "app.tests", Phase.ISOLATED, "app/tests.py", 7
)
ANY_TEXT = st.text(st.characters())


def report(*verdicts: Verdict, **more: object) -> RunReport:
    return RunReport("r1", verdicts, **{"fixtures": (), "exit_code": 0, **more})  # type: ignore[arg-type]


def test_the_object_has_exactly_the_documented_keys() -> None:
    # Given
    wrong = (Failure("failure", "AssertionError", "1 != 2", "T"),)
    before = Verdict(
        ENTRY, Outcome.ERROR, 0.5, "build-b", 0, failures=(Failure("error", "OSError", "", "T"),)
    )
    victim = OrderNote(OrderKind.VICTIM, "app.tests.P", "passes alone and fails after it")
    failed = Verdict(
        ENTRY,
        Outcome.FAILED,
        0.25,
        "build-a",
        1,
        2,
        wrong,
        earlier=(before,),
        order=victim,
        measured="3,,1,412",
    )
    fixture = FixtureVerdict(
        FixtureRef.parse("tearDownClass (app.tests.T)"), Outcome.ERROR, "build-a", 1
    )
    slot = {"worker": "build-a", "slot": 1, "busy_seconds": 1.5, "chunks": 3, "unknown": "dropped"}
    leak = Leak(LeakKind.THREAD, "lingers", "app.tests.T", "build-a", 1)
    near = NearLimit(Limited.TEST, "app.tests.T.test_a", 50.0, 60.0)
    used = FixtureMetrics("setUpClass (app.tests.T)", "build-a", 2, 0.5, TestMetrics(queries=4))

    # When
    data = to_dict(
        report(
            failed,
            fixtures=(fixture,),
            exit_code=1,
            seconds={"wall": 2.0},
            slots=(slot,),
            note="n",
            complete=False,
            leaks=(leak,),
            near_limits=(near,),
            fixture_metrics=(used,),
        )
    )

    # Then
    assert data == {
        "version": 1,
        "run": "r1",
        "exit_code": 1,
        "complete": False,
        "note": "n",
        "error": "",
        "totals": {
            "tests": 1,
            "passed": 0,
            "skipped": 0,
            "xfailed": 0,
            "xpassed": 0,
            "failed": 1,
            "error": 0,
            "not_run": 0,
            "flaky": 0,
            "fixtures": 1,
        },
        "seconds": {
            "collect": 0.0,
            "snapshot": 0.0,
            "wait": 0.0,
            "run": 0.0,
            "finish": 0.0,
            "wall": 2.0,
        },
        "databases": {},
        "slots": [{"worker": "build-a", "slot": 1, "busy_seconds": 1.5, "chunks": 3}],
        "tests": [
            {
                "id": "app.tests.T.test_a",
                "outcome": "failed",
                "seconds": 0.25,
                "worker": "build-a",
                "slot": 1,
                "attempt": 2,
                "file": "app/tests.py",
                "line": 7,
                "covered_by": None,
                "message": "AssertionError: 1 != 2",
                "flaky": False,
                "order": {
                    "kind": "victim",
                    "of": "app.tests.P",
                    "proven": True,
                    "proven_by": "passes alone and fails after it",
                    "failed_with": "",
                },
                "artifacts": [],
                "attempts": [
                    {
                        "outcome": "error",
                        "seconds": 0.5,
                        "worker": "build-b",
                        "slot": 0,
                        "message": "OSError",
                    }
                ],
                "metrics": {"queries": 3, "writes": 1, "db_seconds": 0.000412},
            }
        ],
        "fixtures": [
            {
                "id": "tearDownClass (app.tests.T)",
                "phase": "tearDownClass",
                "outcome": "error",
                "worker": "build-a",
                "order": None,
            }
        ],
        "leaks": [
            {
                "kind": "thread",
                "what": "lingers",
                "by": "app.tests.T",
                "worker": "build-a",
                "slot": 1,
            }
        ],
        "near_limits": [
            {"kind": "test", "name": "app.tests.T.test_a", "seconds": 50.0, "limit": 60.0}
        ],
        "fixture_metrics": [
            {
                "name": "setUpClass (app.tests.T)",
                "worker": "build-a",
                "times": 2,
                "seconds": 0.5,
                "queries": 4,
            }
        ],
        "worker_metrics": [
            {
                "worker": "build-a",
                "slots": 1,
                "chunks": 3,
                "busy_seconds": 1.5,
                "tests": 1,
                "failed": 1,
                "skipped": 0,
                "test_seconds": 0.25,
                "queries": 7,
                "writes": 1,
                "db_seconds": 0.000412,
            }
        ],
    }


def test_a_test_that_passed_after_a_failure_is_passed_and_flaky() -> None:
    # Given
    failed = Verdict(ENTRY, Outcome.FAILED, worker="build-a", slot=1)

    # When
    data = to_dict(
        report(Verdict(ENTRY, Outcome.PASSED, earlier=(failed,)), Verdict(ENTRY, Outcome.PASSED))
    )

    # Then
    assert [(test["outcome"], test["flaky"], len(test["attempts"])) for test in data["tests"]] == [
        ("passed", True, 1),
        ("passed", False, 0),
    ]
    assert (data["totals"]["passed"], data["totals"]["flaky"]) == (2, 1)


def test_a_message_is_one_line_without_colours() -> None:
    # Given
    skipped = Verdict(ENTRY, Outcome.SKIPPED, reason="\n\x1b[33mnot today\x1b[0m\nsecond line")

    # When
    [test] = to_dict(report(skipped))["tests"]

    # Then
    assert test["message"] == "not today"


def test_seconds_that_json_cannot_express_are_zero() -> None:
    # Given
    odd = [math.nan, math.inf, -math.inf, -0.5]

    # When
    data = to_dict(
        report(
            *(Verdict(ENTRY, Outcome.PASSED, seconds) for seconds in odd),
            seconds={"wall": math.nan},
        )
    )

    # Then
    assert [test["seconds"] for test in data["tests"]] == [0.0] * 4
    assert data["seconds"]["wall"] == 0.0


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
@settings(database=None, deadline=None)
def test_any_text_survives_a_strict_writer_and_reader(id_: str, reason: str, note: str) -> None:
    # Given
    entry = Entry(0, id_, "app.T", "app", Phase.ISOLATED)
    data = to_dict(report(Verdict(entry, Outcome.SKIPPED, reason=reason), note=note))

    # When
    back = json.loads(json.dumps(data, ensure_ascii=True, allow_nan=False).encode("ascii"))

    # Then
    assert back == data
    assert back["tests"][0]["id"] == id_
    assert len(back["tests"][0]["message"].splitlines()) <= 1


@given(REPORTS)
@settings(database=None, deadline=None, max_examples=200)
def test_what_is_put_together_from_strings_is_what_the_encoder_writes(run: RunReport) -> None:
    # When / Then
    assert render(run) == json.dumps(to_dict(run), ensure_ascii=True, allow_nan=False)
