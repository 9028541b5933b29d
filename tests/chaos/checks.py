"""What must be true after a round, and what must be gone a while later.

Pure but for the reading of report files.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.compare import differences

#: Seconds after the end of its round within which whatever it left must be gone.
ORPHAN_SECONDS = 180.0
#: Lines of one complaint that are kept.
_LINES = 8


def report_problems(
    oracle: Mapping[str, Any], code: int | None, report: Mapping[str, Any]
) -> list[str]:
    """Ways in which the JSON report and the exit code of a run differ from the oracle.

    Empty for none.
    """
    if not report:
        return [f"exit {code}, and no JSON report"]
    problems = _short(differences(oracle, report))
    problems += [] if report["complete"] else [f"the report is incomplete: {report.get('note')}"]
    problems += [
        f"{test}: {count} times in the JSON report"
        for test, count in _doubles(t["id"] for t in report["tests"])
    ]
    if code != report["exit_code"]:
        problems.append(f"the command ended with {code}, its report says {report['exit_code']}")
    return problems


def junit_problems(oracle: Mapping[str, Any], path: Path) -> list[str]:
    """Tests that JUnit has not, or more than once, or too few failures."""
    try:
        cases = list(ET.parse(path).getroot().iter("testcase"))
    except (OSError, ET.ParseError) as error:
        return [f"JUnit cannot be read: {error}"]
    names = Counter(map(_name, cases))
    tests = {_dotted(test["id"]) for test in oracle["tests"]}
    problems = [
        f"{test}: {names[test]} times in JUnit" for test in sorted(tests) if names[test] != 1
    ]
    problems += [
        f"{name}: {count} times in JUnit"
        for name, count in names.items()
        if count > 1 and name not in tests
    ]
    bad = sum(test["outcome"] in ("failed", "error", "xpassed") for test in oracle["tests"])
    found = sum(
        _name(case) in tests and bool(case.findall("failure") + case.findall("error"))
        for case in cases
    )
    return _short(problems) + (
        [] if found >= bad else [f"JUnit has {found} failures, the oracle {bad}"]
    )


def _dotted(id_: str) -> str:
    """As JUnit has it: of pytest, "a/test_b.py::T::test_c" is "a.test_b.T.test_c"."""
    file, colons, rest = id_.partition("::")
    if not colons:
        return id_
    return ".".join([file.removesuffix(".py").replace("/", "."), *rest.split("::")])


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}.{case.get('name')}"


def _doubles(names: Iterable[str]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in Counter(names).items() if count > 1]


def _short(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _LINES else [*lines[:_LINES], f"and {len(lines) - _LINES} more"]


def read_report(path: Path) -> dict[str, Any]:
    """The JSON report; empty when there is none that can be read."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def reruns(report: Mapping[str, Any]) -> int:
    """Tests whose verdict is of a later attempt."""
    return sum(test["attempt"] > 1 for test in report.get("tests", ()))


@dataclass(slots=True)
class Debts:
    """What rounds left behind, with the seed of its round and the moment when it must be gone."""

    seconds: float = ORPHAN_SECONDS
    _owed: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)

    def incur(self, found: Iterable[tuple[str, str]], seed: int, now: float) -> None:
        """(kind, name) of what is there at the end of this round; what is known keeps its date."""
        for thing in found:
            self._owed.setdefault(thing, (seed, now + self.seconds))

    def settle(self, found: Iterable[tuple[str, str]]) -> None:
        """What is not there any more is paid."""
        there = set(found)
        self._owed = {thing: owed for thing, owed in self._owed.items() if thing in there}

    def overdue(self, now: float) -> list[tuple[int, str]]:
        """(seed of its round, what it is) of everything that should be gone; each is named once."""
        late = {thing: seed for thing, (seed, due) in self._owed.items() if now >= due}
        for thing, seed in late.items():
            self._owed[thing] = (seed, float("inf"))
        return [(seed, f"{kind} left behind: {name}") for (kind, name), seed in late.items()]

    @property
    def open(self) -> list[str]:
        """Everything owed whose time is not over."""
        return [
            f"{kind} {name} (seed {seed})"
            for (kind, name), (seed, due) in self._owed.items()
            if due != float("inf")
        ]
