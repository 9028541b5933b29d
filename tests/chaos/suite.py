"""The suite that every round runs.

600 generated tests whose verdicts are known by construction, and a few that torture.

`green` passes, `red` fails in every way there is; `torture` kills its process or hangs. The text
depends on nothing but this file, so that templates, timings and the oracle are good for all rounds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.projects import make_project

#: Tests of `green` and `red` together.
TESTS = 600
_RED = 60
#: Longest sleep of a test in seconds; the shortest is a fiftieth of it, and short ones are many.
_LONGEST = 0.05
_PER_FILE = 9
#: Seconds that a hanging test gets.
HANG_LIMIT = 6.0

_SETTINGS = """
    import os

    def _database(name):
        return {
            "ENGINE": "django.db.backends." + os.environ["CHAOS_DB_ENGINE"],
            "NAME": name,
            "HOST": os.environ["CHAOS_DB_HOST"],
            "PORT": os.environ["CHAOS_DB_PORT"],
            "USER": os.environ["CHAOS_DB_USER"],
            "PASSWORD": os.environ["CHAOS_DB_PASSWORD"],
            "TEST": {"CHARSET": "utf8mb4"} if os.environ["CHAOS_DB_ENGINE"] == "mysql" else {},
        }

    DATABASES = {"default": _database("chaos"), "other": _database("chaos_other")}
"""
_HEAD = """\
import os
import signal
import time
import unittest

from django.db import transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from shelf.models import Book

"""
#: Name of a kind of class -> (its bases and attributes, body of a passing test, share of the
#: classes).
_GREEN = {
    "Stored": (
        "(TestCase):",
        [
            "Book.objects.create(title='one')",
            "{sleep}",
            "self.assertEqual(Book.objects.count(), 1)",
        ],
        8,
    ),
    "Plain": ("(SimpleTestCase):", ["{sleep}", "self.assertTrue(True)"], 4),
    "Twofold": (
        "(TestCase):\n    databases = {'default', 'other'}\n",
        [
            "Book.objects.using('other').create(title='two')",
            "{sleep}",
            "self.assertEqual(Book.objects.count(), 0)",
        ],
        2,
    ),
    "Sub": (
        "(TestCase):",
        [
            "for n in range(3):",
            "    with self.subTest(n=n):",
            "        Book.objects.create(title=str(n))",
            "{sleep}",
        ],
        2,
    ),
    "Transactional": (
        "(TransactionTestCase):",
        [
            "with transaction.atomic():",
            "    Book.objects.create(title='t')",
            "{sleep}",
            "self.assertEqual(Book.objects.count(), 1)",
        ],
        1,
    ),
    "Unit": ("(unittest.TestCase):", ["{sleep}", "self.assertIn(1, [1])"], 1),
}
#: What a red test does, and its verdict.
_RED_BODIES = [
    ("", "self.fail('on purpose')", "failed"),
    ("", "raise ValueError('on purpose')", "error"),
    ("", "self.assertEqual(Book.objects.count(), 7)", "failed"),
    ("@unittest.expectedFailure", "pass", "xpassed"),
    ("", "Book.objects.create(title='x' * 3)", "passed"),
]
_DYING = """
class Dying(TestCase):
    def test_a_before(self):
        time.sleep(0.02)

    def test_b_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def test_c_after(self):
        self.assertEqual(Book.objects.count(), 0)


class Leaving(SimpleTestCase):
    def test_a_exit(self):
        os._exit(0)

    def test_b_after(self):
        pass
"""
_HANGING = """
class Hanging(SimpleTestCase):
    def test_a_hangs(self):
        time.sleep(3600)

    def test_b_after(self):
        pass
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """Verdicts in the shape of tests/torture/oracle.py."""

    tests: list[dict[str, str]]
    fixtures: list[dict[str, str]]

    @property
    def exit_code(self) -> int:
        return int(
            any(test["outcome"] in ("failed", "error", "xpassed") for test in self.tests)
            or bool(self.fixtures)
        )

    def to_dict(self) -> dict[str, Any]:
        return {"tests": self.tests, "fixtures": self.fixtures, "exit_code": self.exit_code}


@dataclass(slots=True)
class _Part:
    """Files below one label, and what their tests end with."""

    files: dict[str, str] = field(default_factory=dict)
    expected: Expected = field(default_factory=lambda: Expected([], []))

    def add(self, module: str, text: str) -> None:
        self.files[module.replace(".", "/") + ".py"] = _HEAD + text

    def tests(self, names: Sequence[str], outcomes: Sequence[str]) -> None:
        self.expected.tests.extend(
            {"id": name, "outcome": end} for name, end in zip(names, outcomes, strict=True)
        )


def write(folder: Path) -> Path:
    """The project, in this folder; its settings read CHAOS_DB_*."""
    files = {f"{label}/__init__.py": "" for label in ("green", "red", "torture")}
    files["pyproject.toml"] = "[tool.dct]\n"  # of both backends: options say which
    files["pytest.ini"] = "[pytest]\nDJANGO_SETTINGS_MODULE = site_settings\npythonpath = .\n"
    for part in _parts().values():
        files |= part.files
    return make_project(folder, "", settings=_SETTINGS, files=files)


def paths(labels: Sequence[str]) -> list[str]:
    """The labels as pytest's arguments."""
    return [f"{label.replace('.', '/')}.py" if "." in label else label for label in labels]


def of_pytest(of_django: Expected) -> Expected:
    """The same results as pytest has them: a set-up that fails is an error of each of its tests,
    what a test raises and an unexpected success are failures. (A death is an error, too.)
    """
    instead = {"not_run": "error", "xpassed": "failed"}
    tests = []
    for test in of_django.tests:
        module, cls, name = test["id"].rsplit(".", 2)
        outcome = test["outcome"]
        if outcome == "error" and not module.startswith("torture."):
            outcome = "failed"
        node = f"{module.replace('.', '/')}.py::{cls}::{name}"
        tests.append({"id": node, "outcome": instead.get(outcome, outcome)})
    return Expected(tests, [])


def expected(labels: Sequence[str], backend: str = "django") -> Expected:
    """The results that a run of these labels must have.

    The labels: `green`, `red`, `torture.test_dying`, `torture.test_hanging`.
    """
    if backend == "pytest":
        return of_pytest(expected(labels))
    parts = _parts()
    tests = [test for label in labels for test in parts[label].expected.tests]
    fixtures = [fixture for label in labels for fixture in parts[label].expected.fixtures]
    return Expected(tests, fixtures)


def _parts() -> dict[str, _Part]:
    chance = random.Random(4)
    return {"green": _green(chance), "red": _red(chance), **_torture()}


def _green(chance: random.Random) -> _Part:
    part = _Part()
    classes = list(_classes(chance, TESTS - _RED))
    for start in range(0, len(classes), _PER_FILE):
        module = f"green.test_{start // _PER_FILE:02}"
        texts = []
        for kind, number, sleeps in classes[start : start + _PER_FILE]:
            text, names, outcomes = _green_class(kind, number, sleeps)
            texts.append(text)
            part.tests([f"{module}.{kind}{number:03}.{name}" for name in names], outcomes)
        part.add(module, "\n\n".join(texts))
    return part


def _classes(chance: random.Random, tests: int) -> Iterator[tuple[str, int, list[float]]]:
    """(kind, number, sleep of each test) until there are so many tests."""
    kinds = [kind for kind, (_, _, share) in _GREEN.items() for _ in range(share)]
    number = 0
    while tests:
        size = min(chance.randint(3, 12), tests)
        yield chance.choice(kinds), number, [_sleep(chance) for _ in range(size)]
        tests -= size
        number += 1


def _sleep(chance: random.Random) -> float:
    return round(max(_LONGEST * chance.random() ** 2, _LONGEST / 50), 3)


def _green_class(
    kind: str, number: int, sleeps: Sequence[float]
) -> tuple[str, list[str], list[str]]:
    head, body, _ = _GREEN[kind]
    lines, names, outcomes = [f"class {kind}{number:03}{head}"], [], []
    for index, seconds in enumerate(sleeps):
        names.append(f"test_{index:02}")
        mark, outcome = _dress(number * 12 + index)
        outcomes.append(outcome)
        lines += [f"    {mark}"] if mark else []
        lines.append(f"    def {names[-1]}(self):")
        lines += [f"        {line.format(sleep=f'time.sleep({seconds})')}" for line in body]
        lines += ["        self.fail('expected')"] if outcome == "xfailed" else []
        lines.append("")
    return "\n".join(lines), names, outcomes


def _dress(number: int) -> tuple[str, str]:
    """Here and there a skip or an expected failure."""
    if number % 29 == 0:
        return "@unittest.skip('not today')", "skipped"
    if number % 31 == 0:
        return "@unittest.expectedFailure", "xfailed"
    return "", "passed"


def _red(chance: random.Random) -> _Part:
    part = _Part()
    texts = [_broken_class(part, number) for number in range(2)]
    number = 0
    while len(part.expected.tests) < _RED:
        size = min(chance.randint(3, 8), _RED - len(part.expected.tests))
        texts.append(_red_class(part, number, [_sleep(chance) for _ in range(size)]))
        number += 1
    part.add("red.test_red", "\n\n".join(texts))
    return part


def _red_class(part: _Part, number: int, sleeps: Sequence[float]) -> str:
    names, outcomes, lines = [], [], [f"class Red{number:02}(TestCase):"]
    for index, seconds in enumerate(sleeps):
        mark, body, outcome = _RED_BODIES[(number + index) % len(_RED_BODIES)]
        names.append(f"red.test_red.Red{number:02}.test_{index}")
        outcomes.append(outcome)
        lines += [f"    {mark}"] if mark else []
        lines += [
            f"    def test_{index}(self):",
            f"        time.sleep({seconds:.3f})",
            f"        {body}",
            "",
        ]
    part.tests(names, outcomes)
    return "\n".join(lines)


def _broken_class(part: _Part, number: int) -> str:
    """A class whose set-up fails: its tests do not run, and the fixture is an error."""
    name = f"red.test_red.Broken{number}"
    part.tests([f"{name}.test_{index}" for index in range(3)], ["not_run"] * 3)
    part.expected.fixtures.append(
        {"id": f"setUpClass ({name})", "phase": "setUpClass", "outcome": "error"}
    )
    lines = [f"class Broken{number}(TestCase):", "    @classmethod", "    def setUpClass(cls):"]
    lines += ["        raise RuntimeError('on purpose')", ""]
    return "\n".join(
        [*lines, *(f"    def test_{index}(self):\n        pass\n" for index in range(3))]
    )


def _torture() -> dict[str, _Part]:
    dying, hanging = _Part(), _Part()
    module = "torture.test_dying"
    dying.add(module, _DYING.strip() + "\n")
    names = [
        "Dying.test_a_before",
        "Dying.test_b_killed",
        "Dying.test_c_after",
        "Leaving.test_a_exit",
        "Leaving.test_b_after",
    ]
    dying.tests(
        [f"{module}.{name}" for name in names], ["passed", "error", "passed", "error", "passed"]
    )
    module = "torture.test_hanging"
    hanging.add(module, _HANGING.strip() + "\n")
    hanging.tests(
        [f"{module}.Hanging.test_a_hangs", f"{module}.Hanging.test_b_after"], ["error", "passed"]
    )
    return {"torture.test_dying": dying, "torture.test_hanging": hanging}
