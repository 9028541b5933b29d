"""Runs the tests of one chunk as one top-level suite, under the project's own text runner."""

from __future__ import annotations

import sys
import unittest
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from unittest import signals
from unittest.util import strclass

from dct_celery.core.model import FixturePhase, FixtureRef, FixtureScope
from dct_celery.testproc.backends.django_unittest.result import fixture_named, recording
from dct_celery.testproc.clock import now
from dct_celery.testproc.django import sqlite_memory
from dct_celery.testproc.nowhere import Nowhere
from dct_celery.testproc.recorder import Recorder, Scopes
from dct_celery.wire import messages

if TYPE_CHECKING:
    from dct_celery.testproc.backends.django_unittest.project import DjangoProject

#: Bound at import, as tests patch it.
_catch_warnings = warnings.catch_warnings


class ChunkSuite(unittest.TestSuite):
    """A TestSuite that reports its position to the recorder.

    unittest asks its iterator for the next test only when the last one is wholly done, tear-down
    outside `startTest` and `stopTest` included; so the code behind `yield` is the one place where a
    record can be closed. Others may iterate, too: repr() of the suite does, on behalf of a test
    that shows the variables of all frames.
    """

    def __init__(self, tests: list[tuple[int, unittest.TestCase]], recorder: Recorder) -> None:
        super().__init__(test for _, test in tests)
        self._dct_indices = [index for index, _ in tests]
        self._dct_recorder = recorder
        #: When the current test itself began, in seconds of `now()`.
        self._dct_mark = 0.0
        #: Module set-up that follows when the previous module is torn down.
        self._dct_next: FixtureRef | None = None
        self.finished = 0
        self._dct_starts = False

    def run(self, result: Any, debug: bool = False) -> Any:
        self._dct_starts = True
        return super().run(result, debug)

    def __iter__(self) -> Iterator[Any]:
        if not self._dct_starts:
            return super().__iter__()
        self._dct_starts = False
        return self._dct_recorded()

    def _dct_recorded(self) -> Iterator[Any]:
        recorder = self._dct_recorder
        types = [type(test) for test in self._tests]
        scopes: Scopes = ()
        for position, index in enumerate(self._dct_indices):
            if not recorder.goes_on(index):
                return
            test = self._tests[position]
            new = position == 0 or types[position - 1] is not types[position]
            if new:
                scopes = scopes_of(test)
            _forget_interrupt()
            recorder.begin(test, index, scopes, fixtures=new)
            self._dct_mark = recorder.began[-1]
            yield test
            recorder.end(now() - self._dct_mark)
            self.finished = position + 1
            if position + 1 < len(types) and types[position] is not types[position + 1]:
                recorder.flush()  # class tear-down comes next

    # Class and module fixtures are timed apart, so that their cost is not charged to the first test
    # of the class. unittest calls all three for every test, and between two tests of one class they
    # do nothing.
    def _tearDownPreviousClass(self, test: Any, result: Any) -> None:
        previous = getattr(result, "_previousTestClass", None)
        if previous is type(test):
            return
        if previous is not None:
            self._dct_recorder.fixture(
                FixtureRef(FixturePhase.TEAR_DOWN, FixtureScope.CLASS, strclass(previous))
            )
        self._dct_timed(previous, super()._tearDownPreviousClass, test, result)  # type: ignore[misc]
        if previous is not None:
            sqlite_memory.close_abandoned()
            self._dct_recorder.class_over(strclass(previous))
            if test is not None:  # not after the last class: no test follows
                self._dct_mark = self._dct_recorder.begin_again()

    def _handleModuleFixture(self, test: Any, result: Any) -> None:
        if getattr(result, "_previousTestClass", None) is type(test):
            return
        module = type(test).__module__
        new = module != self._get_previous_module(result)  # type: ignore[attr-defined]
        sets_up = new and hasattr(sys.modules.get(module), "setUpModule")
        self._dct_next = (
            FixtureRef(FixturePhase.SET_UP, FixtureScope.MODULE, module) if sets_up else None
        )
        self._dct_timed(type(test), super()._handleModuleFixture, test, result)  # type: ignore[misc]

    def _handleModuleTearDown(self, result: Any) -> None:
        """Called by the other handler when a module begins, and by unittest at the end."""
        if previous := self._get_previous_module(result):  # type: ignore[attr-defined]
            self._dct_recorder.fixture(
                FixtureRef(FixturePhase.TEAR_DOWN, FixtureScope.MODULE, previous)
            )
        super()._handleModuleTearDown(result)  # type: ignore[misc]
        if self._dct_next:
            self._dct_recorder.fixture(self._dct_next)
            self._dct_next = None
        else:
            self._dct_recorder.fixture_over()

    def _handleClassSetUp(self, test: Any, result: Any) -> None:
        if getattr(result, "_previousTestClass", None) is type(test):
            return
        self._dct_recorder.fixture(
            FixtureRef(FixturePhase.SET_UP, FixtureScope.CLASS, strclass(type(test)))
        )
        self._dct_timed(type(test), super()._handleClassSetUp, test, result)  # type: ignore[misc]
        self._dct_recorder.fixture(
            None
        )  # not after a BaseException: the recorder has to know where it came from

    def _dct_timed(self, cls: Any, fixture: Any, test: Any, result: Any) -> None:
        start = now()
        try:
            fixture(test, result)
        finally:
            self._dct_mark = now()
            if isinstance(cls, type) and self._dct_mark - start > 0.0005:
                self._dct_recorder.class_took(strclass(cls), self._dct_mark - start)


def scopes_of(test: unittest.TestCase) -> Scopes:
    """The names of its class and module, as unittest names their fixtures."""
    cls = type(test)
    return strclass(cls), cls.__module__


def _forget_interrupt() -> None:
    """Resets unittest's SIGINT handler, which Django installs.

    It ends a sequential run after the first SIGINT and interrupts at the second. Here every test
    may get a first one, whatever another test sent to itself.
    """
    if (handler := getattr(signals, "_interrupt_handler", None)) is not None:
        handler.called = False


def run_chunk(
    project: DjangoProject, indices: Sequence[int], recorder: Recorder
) -> messages.ChunkFinished:
    """Runs the chunk to its end, or to the BaseException that ends it early."""
    tests = [(index, project.tests[index]) for index in indices]
    suite = ChunkSuite(tests, recorder)
    aborted = False
    text_runner = _text_runner(project)
    result = recording(text_runner._makeResult(), recorder)
    result.failfast = getattr(text_runner, "failfast", False)
    result.buffer = getattr(text_runner, "buffer", False)
    result.tb_locals = getattr(text_runner, "tb_locals", False)
    with _catch_warnings():
        if getattr(text_runner, "warnings", None):
            warnings.simplefilter(text_runner.warnings)
        try:
            _run(suite, result)
        except (
            BaseException
        ) as error:  # a KeyboardInterrupt of the test's own, a SystemExit in setUpClass
            if not recorder.busy and not suite.finished and tests:
                # startTestRun failed: without a verdict for one test, the chunk would be queued
                # again for ever.
                index, test = tests[0]
                recorder.begin(test, index, scopes_of(test), fixtures=False)
            suite.finished += recorder.abort(error, outside=fixture_named("stopTestRun"))
            aborted = True
    rest = [(index, scopes_of(test)) for index, test in tests[suite.finished :]]
    # A test never runs twice in one process. unittest drops them, too, to free memory.
    for index in indices:
        project.tests[index] = None  # type: ignore[call-overload]
    if aborted:
        return recorder.finish(recorder.cover(rest), "aborted")
    return recorder.finish([index for index, _ in rest], "failfast" if result.shouldStop else "")


def _run(suite: ChunkSuite, result: Any) -> None:
    for name in ("startTestRun", None, "stopTestRun"):
        if name is None:
            suite(result)
        else:
            hook = getattr(result, name, None)
            if hook is not None:
                hook()


def _text_runner(project: DjangoProject) -> Any:
    """The project's text runner, with its output discarded."""
    from django.test.runner import DiscoverRunner

    runner = project.runner
    kwargs = runner.get_test_runner_kwargs() if hasattr(runner, "get_test_runner_kwargs") else {}
    text_runner = getattr(runner, "test_runner", DiscoverRunner.test_runner)(**kwargs)
    text_runner.stream = unittest.runner._WritelnDecorator(Nowhere())
    return text_runner
