"""Compares a run with its sequential oracle: verdicts, fixture events, exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


def differences(oracle: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """One readable line for each difference between `ours` and `oracle`.

    `ours` is an object of `dct run --json`, `oracle` one of tests/torture/oracle.py. Empty if
    verdicts, fixture events and exit code are equal.
    """
    return [
        *_tests(_pairs(oracle["tests"]), _pairs(ours["tests"])),
        *_fixtures(_events(oracle["fixtures"]), _events(ours["fixtures"])),
        *_exit_codes(oracle["exit_code"], ours["exit_code"]),
    ]


def _pairs(tests: Iterable[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for test in tests:
        found.setdefault(test["id"], Counter())[str(test["outcome"])] += 1
    return found


def _events(fixtures: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, str]]:
    return {(fixture["id"], fixture["phase"], str(fixture["outcome"])) for fixture in fixtures}


def _tests(oracle: Mapping[str, Counter[str]], ours: Mapping[str, Counter[str]]) -> list[str]:
    nothing: Counter[str] = Counter()
    lines = []
    for test_id in sorted({*oracle, *ours}):
        expected, got = oracle.get(test_id, nothing), ours.get(test_id, nothing)
        if expected != got:
            lines.append(f"test {test_id!a}: sequential {_words(expected)}, ours {_words(got)}")
    return lines


def _words(outcomes: Counter[str]) -> str:
    if not outcomes:
        return "absent"
    return " + ".join(
        outcome if n == 1 else f"{n} x {outcome}" for outcome, n in sorted(outcomes.items())
    )


def _fixtures(oracle: set[tuple[str, str, str]], ours: set[tuple[str, str, str]]) -> list[str]:
    sides = [("sequential run only", oracle - ours), ("our run only", ours - oracle)]
    return [
        f"fixture {event_id!a} ({phase}, {outcome}): {side}"
        for side, events in sides
        for event_id, phase, outcome in sorted(events)
    ]


def _exit_codes(oracle: int, ours: int) -> list[str]:
    return [] if oracle == ours else [f"exit code: sequential {oracle}, ours {ours}"]
