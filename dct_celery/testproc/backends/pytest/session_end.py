"""The end of a session in a test process that has not run the last test of the suite.

In the sequential run that test tears the session down, and reports what fails in it.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest

from dct_celery.core.model import Failure
from dct_celery.testproc.failures import describe

#: Packages whose fixtures tear down what is ours, or nothing.
_NOT_OWN = ("_pytest.", "pytest_django.")


class SessionFixtures:
    """A plugin that knows which fixtures of the session have been set up."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        __tracebackhide__ = True
        own = not f"{fixturedef.func.__module__}.".startswith(_NOT_OWN)
        if own and fixturedef.scope == "session":
            self._known[id(fixturedef)] = fixturedef
        return (yield)

    def have_tear_downs(self) -> bool:
        """One of them is still there that has something to tear down."""
        there = (one for one in self._known.values() if one.cached_result is not None)
        return any(_own(finalizer) for one in there for finalizer in one._finalizers)


def tear_down(session: pytest.Session, root: str) -> tuple[Failure, ...]:
    """Tears the session down. `root`: top of the tree."""
    state: Any = session._setupstate

    def call_finalizers() -> None:
        __tracebackhide__ = True
        state.teardown_exact(None)

    call = pytest.CallInfo.from_call(call_finalizers, when="teardown")
    if call.excinfo is None:
        return ()
    report = pytest.TestReport.from_item_and_call(session.items[-1], call)
    error = call.excinfo.value
    return (describe(type(error), error, report.longreprtext, root + os.sep, kind="error"),)


def _own(finalizer: Any) -> bool:
    """It is the fixture's own, and neither pytest's, ours, nor that of a fixture which uses it."""
    if isinstance(finalizer, functools.partial):
        return not isinstance(getattr(finalizer.func, "__self__", None), pytest.FixtureDef)
    module = getattr(finalizer, "__module__", "") or ""
    return module != "_pytest.fixtures" and not module.startswith("dct_celery.")
