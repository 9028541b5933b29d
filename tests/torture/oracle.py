"""The sequential oracle.

Runs Django's own test command in this process and writes down what happened to each test.

    python oracle.py --out FILE -- [arguments of `manage.py test`]        (in the project's folder)

Any project will do; its settings come from --settings, DJANGO_SETTINGS_MODULE or the default in its
manage.py. FILE gets {"tests": [{"id", "outcome"}], "fixtures": [{"id", "phase", "outcome"}],
"exit_code"}: one test object for every test of the built suite, in its order. The exit code is that
of the command.

The recorder shares no code with dct_celery, on purpose. It listens to the base class of all
results, so what a custom result class makes of an event counts, and it ignores the inner runs that
some suites start.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import traceback
import unittest
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.case import _SubTest  # type: ignore[attr-defined]
from unittest.suite import _ErrorHolder  # type: ignore[attr-defined]

#: Best to worst; the outcome of a test is the worst of its events.
ORDER = ["passed", "skipped", "xfailed", "xpassed", "failed", "error"]

EVENTS = {
    "addSuccess": "passed",
    "addSkip": "skipped",
    "addExpectedFailure": "xfailed",
    "addUnexpectedSuccess": "xpassed",
    "addFailure": "failed",
    "addError": "error",
}


class Record:
    """What is known of each test of the suite.

    Tests are told apart by identity, since ids may be equal.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.outcomes: list[str | None] = []
        self.fixtures: list[dict[str, str]] = []
        self._index: dict[int, tuple[Callable[[], Any], int]] = {}
        self._result: object = None

    def suite(self, tests: Iterator[Any]) -> None:
        """The first suite that is built is the one.

        Weak references let the tests go when unittest does.
        """
        if self.ids:
            return
        for test in tests:
            self._index[id(test)] = (_reference(test), len(self.ids))
            self.ids.append(_id(test))
            self.outcomes.append(None)

    def run_starts(self, result: object) -> None:
        """The first result to see a run is that of the command; others belong to inner runs."""
        if self._result is None:
            self._result = result

    def event(self, result: object, test: Any, outcome: str) -> None:
        if self._result is not None and self._result is not result:
            return  # a test that asks a result of its own about itself
        if isinstance(test, _ErrorHolder):
            self.fixtures.append(
                {
                    "id": test.description,
                    "phase": test.description.split(" ", 1)[0],
                    "outcome": outcome,
                }
            )
            return
        if isinstance(test, _SubTest):  # it speaks for its test
            test = test.test_case
        reference, index = self._index.get(id(test), (None, -1))
        if reference is not None and reference() is test:
            self.outcomes[index] = max(self.outcomes[index] or "passed", outcome, key=ORDER.index)

    def to_dict(self, exit_code: int) -> dict[str, Any]:
        pairs = zip(self.ids, self.outcomes, strict=True)
        tests = [{"id": test_id, "outcome": outcome or "not_run"} for test_id, outcome in pairs]
        return {"tests": tests, "fixtures": self.fixtures, "exit_code": exit_code}


def _reference(test: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(test)
    except TypeError:
        return lambda: test


def _id(test: Any) -> str:
    try:
        return str(test.id())
    except Exception:
        return repr(test)


def _before(cls: type, name: str, action: Callable[..., None]) -> None:
    original = getattr(cls, name)

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        action(self, *args)
        return original(self, *args, **kwargs)

    wrapper.__name__ = name
    setattr(cls, name, wrapper)


def listen_to_results(record: Record) -> None:
    """Patch the base class of all results."""
    result = unittest.TestResult
    for name, outcome in EVENTS.items():
        _before(
            result, name, lambda self, test, *_, outcome=outcome: record.event(self, test, outcome)
        )
    _before(result, "startTestRun", record.run_starts)
    # A test that ends without any event has passed: a result class swallowed it.
    _before(result, "startTest", lambda self, test: record.event(self, test, "passed"))

    def sub_test(self: object, test: Any, _subtest: Any, error: Any) -> None:
        record.event(self, test, "failed" if error is not None else "passed")

    _before(result, "addSubTest", sub_test)


def listen_to_runner(record: Record) -> None:
    """Patch the runner class the command will take, so that overridden methods are seen as well."""
    from django.core.management.commands import test as command
    from django.test.utils import iter_test_cases  # type: ignore[attr-defined]

    original = command.get_runner  # type: ignore[attr-defined]

    def get_runner(*args: Any, **kwargs: Any) -> Any:
        runner = original(*args, **kwargs)
        build_suite = runner.build_suite

        def recording(self: Any, *args: Any, **kwargs: Any) -> Any:
            suite = build_suite(self, *args, **kwargs)
            record.suite(iter_test_cases(suite))
            return suite

        if not hasattr(build_suite, "recorded"):
            recording.recorded = True  # type: ignore[attr-defined]
            runner.build_suite = recording
        return runner

    command.get_runner = get_runner  # type: ignore[attr-defined]


def default_settings(manage: Path) -> str | None:
    """The settings module that a manage.py sets when none is given."""
    if not manage.is_file():
        return None
    found = re.search(
        r"""DJANGO_SETTINGS_MODULE["']\s*,\s*["']([\w.]+)["']""", manage.read_text(encoding="utf-8")
    )
    return found[1] if found else None


def run(arguments: list[str], record: Record) -> int:
    """Run the command; its exit code."""
    from django.core.management import execute_from_command_line

    sys.argv = ["manage.py", "test", *arguments, "--noinput", "--parallel", "1"]
    try:
        listen_to_results(record)
        listen_to_runner(record)
        execute_from_command_line(sys.argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)  # --buffer may have replaced sys.stderr
        return 1
    return 0


def main() -> int:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    own, theirs = sys.argv[1:split], sys.argv[split + 1 :]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", required=True, type=Path)
    out: Path = parser.parse_args(own).out.resolve()
    sys.path[0] = str(Path.cwd())
    settings = default_settings(Path("manage.py"))
    if settings:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings)
    record = Record()
    exit_code = run(theirs, record)
    out.write_text(json.dumps(record.to_dict(exit_code), indent=1), encoding="utf-8")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
