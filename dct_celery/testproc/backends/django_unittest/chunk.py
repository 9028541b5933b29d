"""Runs one chunk: the tests of the given indices, as one top-level suite, under the project's own text runner."""

from __future__ import annotations

import sys
import unittest
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal
from unittest.util import strclass

from dct_celery.core.model import FixturePhase, FixtureRef, FixtureScope
from dct_celery.testproc import sharedmemory
from dct_celery.testproc.backends.django_unittest.project import Project
from dct_celery.testproc.clock import now
from dct_celery.testproc.leaks import Watch
from dct_celery.testproc.recorder import Recorder, recording
from dct_celery.wire import messages

#: Bound now, as tests patch it.
_catch_warnings = warnings.catch_warnings


class ChunkSuite(unittest.TestSuite):
    """A TestSuite that tells the recorder where it is.

    unittest asks its iterator for the next test only when the last one is wholly done, tear-down outside `startTest` and
    `stopTest` included; so the code behind `yield` is the one place where a record can be closed.
    """

    def __init__(self, tests: list[tuple[int, unittest.TestCase]], recorder: Recorder, watch: Watch) -> None:
        super().__init__(test for _, test in tests)
        self._dct_indices = [index for index, _ in tests]
        self._dct_recorder = recorder
        self._dct_watch = watch
        self._dct_mark = 0.0
        #: Module set-up that comes once the module before is torn down.
        self._dct_next: FixtureRef | None = None
        #: When each test began, in seconds of `now()`.
        self.began: list[float] = []
        self.finished = 0
        self.class_seconds: dict[str, float] = defaultdict(float)

    def __iter__(self) -> Iterator[Any]:
        types = [type(test) for test in self._tests]
        for position, index in enumerate(self._dct_indices):
            test = self._tests[position]
            new = position == 0 or types[position - 1] is not types[position]
            self._dct_recorder.begin(index, test, fixtures=new)
            self._dct_mark = now()
            self.began.append(self._dct_mark)
            yield test
            self._dct_recorder.end(now() - self._dct_mark)
            self.finished = position + 1
            if position + 1 < len(types) and types[position] is not types[position + 1]:
                self._dct_recorder.flush()  # class tear-down comes next

    # Class and module fixtures are timed apart, so that a class's cost is not taken for its first test's. unittest calls all
    # three for every test, and they do nothing between two tests of one class.
    def _tearDownPreviousClass(self, test: Any, result: Any) -> None:
        previous = getattr(result, "_previousTestClass", None)
        if previous is type(test):
            return
        if previous is not None:
            self._dct_recorder.fixture(FixtureRef(FixturePhase.TEAR_DOWN, FixtureScope.CLASS, strclass(previous)))
        self._dct_timed(previous, super()._tearDownPreviousClass, test, result)  # type: ignore[misc]
        if previous is not None:
            sharedmemory.let_go()
            self._dct_watch.look(strclass(previous))
            self._dct_mark = self.began[-1] = now()

    def _handleModuleFixture(self, test: Any, result: Any) -> None:
        if getattr(result, "_previousTestClass", None) is type(test):
            return
        module = type(test).__module__
        new = module != self._get_previous_module(result)  # type: ignore[attr-defined]
        sets_up = new and hasattr(sys.modules.get(module), "setUpModule")
        self._dct_next = FixtureRef(FixturePhase.SET_UP, FixtureScope.MODULE, module) if sets_up else None
        self._dct_timed(type(test), super()._handleModuleFixture, test, result)  # type: ignore[misc]

    def _handleModuleTearDown(self, result: Any) -> None:
        """Called by the other handler where a module begins, and by unittest at the end."""
        if previous := self._get_previous_module(result):  # type: ignore[attr-defined]
            self._dct_recorder.fixture(FixtureRef(FixturePhase.TEAR_DOWN, FixtureScope.MODULE, previous))
        super()._handleModuleTearDown(result)  # type: ignore[misc]
        if self._dct_next:
            self._dct_recorder.fixture(self._dct_next)
            self._dct_next = None

    def _handleClassSetUp(self, test: Any, result: Any) -> None:
        if getattr(result, "_previousTestClass", None) is type(test):
            return
        self._dct_recorder.fixture(FixtureRef(FixturePhase.SET_UP, FixtureScope.CLASS, strclass(type(test))))
        self._dct_timed(type(test), super()._handleClassSetUp, test, result)  # type: ignore[misc]
        self._dct_recorder.fixture(None)  # not after a BaseException: the recorder has to know where it came from

    def _dct_timed(self, cls: Any, fixture: Any, test: Any, result: Any) -> None:
        start = now()
        try:
            fixture(test, result)
        finally:
            self._dct_mark = now()
            if isinstance(cls, type) and self._dct_mark - start > 0.0005:
                self.class_seconds[strclass(cls)] += self._dct_mark - start


def run_chunk(project: Project, order: messages.RunChunk, recorder: Recorder, watch: Watch) -> messages.ChunkFinished:
    """Runs the chunk to its end, or to the BaseException that ends it early."""
    recorder.start_chunk()
    watch.begin()
    tests = [(index, project.tests[index]) for index in order.indices]
    suite = ChunkSuite(tests, recorder, watch)
    stopped: Literal["", "failfast", "aborted"] = ""
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
        except BaseException as error:  # a KeyboardInterrupt of the test's own, a SystemExit in setUpClass
            if not recorder.busy and not suite.finished and tests:
                # startTestRun: without a verdict for one, the chunk would be queued anew for ever.
                recorder.begin(*tests[0], fixtures=False)
            suite.finished += recorder.abort(error)
            stopped = "aborted"
    if result.shouldStop and not stopped:
        stopped = "failfast"
    left = recorder.cover(tests[suite.finished :]) if stopped == "aborted" else order.indices[suite.finished :]
    for index in order.indices:
        project.tests[index] = None  # type: ignore[call-overload]  # never run twice in one process; unittest frees them, too
    last = strclass(type(tests[-1][1])) if tests else order.chunk
    return messages.ChunkFinished(
        order.chunk,
        recorder.records,
        dict(suite.class_seconds),
        tuple(left),
        stopped,
        tuple(watch.end(last)),
        tuple(round(second, 4) for second in suite.began),
    )


def _run(suite: ChunkSuite, result: Any) -> None:
    for name in ("startTestRun", None, "stopTestRun"):
        if name is None:
            suite(result)
        else:
            hook = getattr(result, name, None)
            if hook is not None:
                hook()


def _text_runner(project: Project) -> Any:
    """The project's text runner, writing its dots to nobody."""
    from django.test.runner import DiscoverRunner

    runner = project.runner
    kwargs = runner.get_test_runner_kwargs() if hasattr(runner, "get_test_runner_kwargs") else {}
    text_runner = getattr(runner, "test_runner", DiscoverRunner.test_runner)(**kwargs)
    text_runner.stream = unittest.runner._WritelnDecorator(_Nowhere())
    return text_runner


class _Nowhere:
    """A text stream that keeps nothing."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False
