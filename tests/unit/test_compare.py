"""Claims about the comparison with the oracle."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.compare import differences


def run(
    *tests: tuple[str, str], fixtures: tuple[tuple[str, str, str], ...] = (), exit_code: int = 0
) -> dict[str, Any]:
    return {
        "tests": [{"id": test_id, "outcome": outcome} for test_id, outcome in tests],
        "fixtures": [
            {"id": i, "phase": phase, "outcome": outcome} for i, phase, outcome in fixtures
        ],
        "exit_code": exit_code,
    }


SET_UP_ERROR = ("setUpClass (a.T)", "setUpClass", "error")


def test_equal_runs_have_no_differences() -> None:
    # Given
    oracle = run(("a", "passed"), ("b", "failed"), fixtures=(SET_UP_ERROR,), exit_code=1)
    # When / Then
    assert differences(oracle, oracle) == []


def test_order_and_other_keys_do_not_matter() -> None:
    # Given
    oracle = run(("a", "passed"), ("b", "failed"))
    ours = run(("b", "failed"), ("a", "passed"))
    ours["tests"][0]["worker"] = "build-a"
    # When / Then
    assert differences(oracle, ours) == []


@pytest.mark.parametrize(
    ("ours", "line"),
    [
        (run(("a", "failed")), "test 'a': sequential passed, ours failed"),
        (run(("a", "not_run")), "test 'a': sequential passed, ours not_run"),
        (run(), "test 'a': sequential passed, ours absent"),
        (run(("a", "passed"), ("a", "passed")), "test 'a': sequential passed, ours 2 x passed"),
        (run(("a", "passed"), ("a", "error")), "test 'a': sequential passed, ours error + passed"),
    ],
)
def test_a_verdict_that_differs_is_named(ours: dict[str, Any], line: str) -> None:
    # Given
    oracle = run(("a", "passed"))
    # When
    lines = differences(oracle, ours)
    # Then
    assert lines == [line]


def test_a_test_that_only_we_have_is_named() -> None:
    # Given
    oracle, ours = run(), run(("new\x00", "passed"))
    # When / Then
    assert differences(oracle, ours) == [r"test 'new\x00': sequential absent, ours passed"]


def test_tests_of_one_id_are_a_multiset() -> None:
    # Given
    oracle = run(("a", "passed"), ("a", "failed"), ("a", "passed"))
    # When / Then
    assert differences(oracle, run(("a", "failed"), ("a", "passed"), ("a", "passed"))) == []
    assert differences(oracle, run(("a", "passed"), ("a", "failed"))) == [
        "test 'a': sequential failed + 2 x passed, ours failed + passed"
    ]


def test_repeated_fixture_events_count_once() -> None:
    # Given
    oracle = run(fixtures=(SET_UP_ERROR, SET_UP_ERROR))
    # When / Then
    assert differences(oracle, run(fixtures=(SET_UP_ERROR,))) == []


def test_fixture_events_that_differ_are_named_with_their_side() -> None:
    # Given
    oracle = run(fixtures=(SET_UP_ERROR,))
    ours = run(fixtures=(("setUpClass (a.T)", "setUpClass", "skipped"),))
    # When / Then
    assert differences(oracle, ours) == [
        "fixture 'setUpClass (a.T)' (setUpClass, error): sequential run only",
        "fixture 'setUpClass (a.T)' (setUpClass, skipped): our run only",
    ]


def test_exit_codes_are_compared() -> None:
    # Given / When / Then
    assert differences(run(exit_code=1), run(exit_code=7)) == ["exit code: sequential 1, ours 7"]


def test_an_object_without_tests_is_refused() -> None:
    # Given
    oracle = run()
    # When / Then
    with pytest.raises(KeyError):
        differences(oracle, {"exit_code": 0, "fixtures": []})
