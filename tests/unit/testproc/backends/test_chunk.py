"""Claims about how the Django backend runs a chunk.

Which records there are, fixtures and early ends included.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import types
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from dct_celery.core.model import FixtureRef, Outcome
from dct_celery.testproc import recorder as recorders
from dct_celery.testproc.backends.django_unittest.chunk import run_chunk
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages
from tests.support.inprocess import Bench

NAME = "shelf_tests_of_a_chunk"


class Result(unittest.TextTestResult):
    """Ends the chunk in a hook if the test wants it."""

    hook = ""

    def startTestRun(self) -> None:
        super().startTestRun()
        if self.hook == "startTestRun":
            raise SystemExit("before all tests")

    def stopTestRun(self) -> None:
        super().stopTestRun()
        if self.hook == "stopTestRun":
            raise SystemExit("after all tests")


class Runner:
    """What a chunk wants of the project's runner: the text runner, and what to make it with."""

    test_runner = unittest.TextTestRunner

    def __init__(self, **kwargs: Any) -> None:
        self._kwargs = kwargs

    def get_test_runner_kwargs(self) -> dict[str, Any]:
        return {"verbosity": 0, **self._kwargs}


class Suite:
    """A project with these tests."""

    def __init__(self, *tests: unittest.TestCase, **kwargs: Any) -> None:
        self.tests = list(tests)
        self.runner = Runner(**kwargs)

    def run(self, recorder: Recorder, *indices: int) -> messages.ChunkFinished:
        project: Any = self
        return run_chunk(project, indices or range(len(self.tests)), recorder)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def module() -> Iterator[Any]:
    """A module of tests, empty."""
    made = types.ModuleType(NAME)
    sys.modules[NAME] = made
    yield made
    del sys.modules[NAME]


def cases(name: str, *names: str, base: type = unittest.TestCase, **body: Any) -> list[Any]:
    """Tests of one class of the module, by default one called test_it.

    What is given as an exception is raised.
    """

    def acting(what: Any) -> Any:
        def method(*_: object) -> None:
            if isinstance(what, BaseException):
                raise what

        return method

    names = names or ("test_it",)
    methods = {each: acting(body.pop(each, None)) for each in names}
    around: dict[str, Any] = {each: classmethod(acting(what)) for each, what in body.items()}
    cls = type(name, (base,), {"__module__": NAME, "__qualname__": name, **methods, **around})
    return [cls(each) for each in names]


def outcomes(sent: list[messages.Message]) -> list[tuple[int, str]]:
    return [
        (each.index, each.outcome.value) for each in sent if isinstance(each, messages.TestFinished)
    ]


def fixtures(sent: list[messages.Message]) -> list[str]:
    return [str(each.fixture) for each in sent if isinstance(each, messages.FixtureFinished)]


def test_a_test_may_look_at_the_suite_that_runs_it(bench: Bench, module: Any) -> None:
    # Given: as tools do that show the variables of each frame
    seen = []

    class Looking(unittest.TestCase):
        def test_it(self) -> None:
            suites = [
                suite
                for frame in inspect.stack()
                if isinstance(suite := frame.frame.f_locals.get("self"), unittest.TestSuite)
            ]
            seen.extend([(repr(suite), suite.countTestCases(), list(suite)) for suite in suites])

    tests = [Looking("test_it"), *cases("Other")]
    # When
    Suite(*tests).run(bench.recorder)
    # Then
    assert outcomes(bench.sent()) == [(0, "passed"), (1, "passed")]
    assert seen
    assert "test_it" in seen[0][0]


def test_each_test_of_a_chunk_has_one_record_in_order(module: Any, bench: Bench) -> None:
    # Given
    suite = Suite(*cases("A", "test_1", "test_2", test_2=AssertionError("no")), *cases("B"))
    # When
    end = suite.run(bench.recorder)
    # Then
    assert outcomes(bench.sent()) == [(0, "passed"), (1, "failed"), (2, "passed")]
    assert (end.chunk, end.records, end.left, end.stopped) == ("c1", 3, (), "")
    assert len(end.began) == 3
    assert bench.leaks.checked == [f"{NAME}.A", f"{NAME}.B"]


def test_a_test_begins_after_the_tear_down_before_it_whatever_is_torn_down_after_it(
    module: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    seconds = itertools.count()
    monkeypatch.setattr(recorders, "now", lambda: next(seconds))
    seen = []

    def note(_: object) -> None:
        seen.append((next(seconds), bench.recorder.began[-1]))

    suite = Suite(*cases("A"), *cases("B", "test_1", "test_2"))
    for test in suite.tests:
        monkeypatch.setattr(type(test), test._testMethodName, note)
    # When
    end = suite.run(bench.recorder)
    # Then
    assert list(end.began) == [began for _, began in seen]
    assert all(began < at for at, began in seen)


def test_only_the_tests_that_were_asked_for_run_and_none_runs_twice(
    module: Any, bench: Bench
) -> None:
    # Given
    suite = Suite(*cases("A"), *cases("B"), *cases("C"))
    # When
    suite.run(bench.recorder, 0, 2)
    # Then
    assert outcomes(bench.sent()) == [(0, "passed"), (2, "passed")]
    assert [test is None for test in suite.tests] == [True, False, True]


def test_every_fixture_is_announced_before_it_runs(module: Any, bench: Bench) -> None:
    # Given
    module.setUpModule = module.tearDownModule = lambda: None
    # When
    Suite(*cases("A"), *cases("B")).run(bench.recorder)
    # Then
    announced = [each.fixture for each in bench.sent() if isinstance(each, messages.FixtureStarted)]
    assert [fixture and str(fixture) for fixture in announced] == [
        f"setUpModule ({NAME})",
        f"setUpClass ({NAME}.A)",
        None,
        f"tearDownClass ({NAME}.A)",
        f"setUpClass ({NAME}.B)",
        None,
        f"tearDownClass ({NAME}.B)",
        f"tearDownModule ({NAME})",
    ]


def test_a_class_whose_set_up_fails_is_covered_and_the_next_one_runs(
    module: Any, bench: Bench
) -> None:
    # Given
    broken = cases("A", "test_1", "test_2", setUpClass=OSError("no disk"))
    # When
    Suite(*broken, *cases("B")).run(bench.recorder)
    # Then
    sent = bench.sent()
    assert fixtures(sent) == [f"setUpClass ({NAME}.A)"]
    assert outcomes(sent) == [(0, "not_run"), (1, "not_run"), (2, "passed")]
    covered = [each.covered_by for each in sent if isinstance(each, messages.TestFinished)]
    assert covered == [FixtureRef.parse(f"setUpClass ({NAME}.A)")] * 2 + [None]


def test_a_module_whose_set_up_fails_covers_all_its_classes(module: Any, bench: Bench) -> None:
    # Given
    def fail() -> None:
        raise OSError("no disk")

    module.setUpModule = fail
    # When
    Suite(*cases("A"), *cases("B")).run(bench.recorder)
    # Then
    sent = bench.sent()
    assert fixtures(sent) == [f"setUpModule ({NAME})"]
    assert outcomes(sent) == [(0, "not_run"), (1, "not_run")]


def test_a_tear_down_that_fails_is_a_record_and_takes_no_verdict_back(
    module: Any, bench: Bench
) -> None:
    # When
    Suite(*cases("A", tearDownClass=OSError("busy"))).run(bench.recorder)
    # Then
    sent = bench.sent()
    assert outcomes(sent) == [(0, "passed")]
    assert fixtures(sent) == [f"tearDownClass ({NAME}.A)"]


def test_failfast_leaves_the_rest(module: Any, bench: Bench) -> None:
    # When
    end = Suite(*cases("A", test_it=AssertionError("no")), *cases("B"), failfast=True).run(
        bench.recorder
    )
    # Then
    assert outcomes(bench.sent()) == [(0, "failed")]
    assert (end.left, end.stopped) == ((1,), "failfast")


def test_an_exception_that_unittest_does_not_catch_is_its_tests_error_and_leaves_the_rest(
    module: Any, bench: Bench
) -> None:
    # When
    end = Suite(*cases("A"), *cases("B", test_it=KeyboardInterrupt("now")), *cases("C")).run(
        bench.recorder
    )
    # Then
    assert outcomes(bench.sent()) == [(0, "passed"), (1, "error")]
    assert (end.left, end.stopped, end.records) == ((2,), "aborted", 2)


def test_an_exception_in_a_fixture_that_unittest_does_not_catch_covers_its_class(
    module: Any, bench: Bench
) -> None:
    # Given
    broken = cases("B", "test_1", "test_2", setUpClass=KeyboardInterrupt("now"))
    # When
    end = Suite(*cases("A"), *broken, *cases("C")).run(bench.recorder)
    # Then
    sent = bench.sent()
    assert fixtures(sent) == [f"setUpClass ({NAME}.B)"]
    assert outcomes(sent) == [(0, "passed"), (1, "not_run"), (2, "not_run")]
    assert (end.left, end.stopped) == ((3,), "aborted")


def test_an_exception_before_all_tests_is_the_error_of_the_first_test(
    module: Any, bench: Bench
) -> None:
    # Given
    result = type("Ending", (Result,), {"hook": "startTestRun"})
    # When
    end = Suite(*cases("A"), *cases("B"), resultclass=result).run(bench.recorder)
    # Then
    assert outcomes(bench.sent()) == [(0, "error")]
    assert (end.left, end.stopped) == ((1,), "aborted")


def test_an_exception_after_all_tests_is_that_of_the_hook(module: Any, bench: Bench) -> None:
    # Given
    result = type("Ending", (Result,), {"hook": "stopTestRun"})
    # When
    end = Suite(*cases("A"), resultclass=result).run(bench.recorder)
    # Then
    sent = bench.sent()
    assert outcomes(sent) == [(0, "passed")]
    assert fixtures(sent) == ["tearDownSession (stopTestRun)"]
    assert (end.left, end.stopped) == ((), "aborted")


def test_each_test_has_a_first_interrupt_of_its_own(
    module: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the handler that Django installs, which has seen one already
    handler = types.SimpleNamespace(called=True)
    monkeypatch.setattr("unittest.signals._interrupt_handler", handler)
    # When
    Suite(*cases("A")).run(bench.recorder)
    # Then
    assert handler.called is False


def test_the_cost_of_a_class_beside_its_tests_is_measured(
    module: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a clock that jumps by a second in the set-up of A
    seconds = [0.0]
    monkeypatch.setattr(
        "dct_celery.testproc.backends.django_unittest.chunk.now", lambda: seconds[0]
    )
    monkeypatch.setattr("dct_celery.testproc.recorder.now", lambda: seconds[0])

    class Slow(unittest.TestCase):
        @classmethod
        def setUpClass(cls) -> None:
            seconds[0] += 1.0

    # When
    end = Suite(*cases("A", base=Slow)).run(bench.recorder)
    # Then
    assert end.class_seconds == {f"{NAME}.A": 1.0}
    (record,) = bench.finished()
    assert (record.outcome, record.seconds) == (Outcome.PASSED, 0.0)
