"""Claims about what plugins of a test process send to the dispatcher, and about their names."""

from __future__ import annotations

import types
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest
from _pytest import hookspec

from dct_celery.testproc.backends.pytest.plugins import own_id
from dct_celery.testproc.backends.pytest.workeroutput import WorkerOutput
from dct_celery.wire.pytest_reports import unpacked

hookimpl = pluggy.HookimplMarker("pytest")


class Publisher:
    """A plugin as pytest-durations is."""

    def __init__(self) -> None:
        self.asked = 0

    @hookimpl
    def pytest_sessionfinish(self, session: Any) -> None:
        self.asked += 1
        session.config.workeroutput["measured"] = (self.asked, b"x")

    @hookimpl
    def pytest_testnodedown(self, node: Any, error: Any) -> None: ...


class Cleaner:
    """A plugin that ends something when the session does."""

    @hookimpl
    def pytest_sessionfinish(self) -> None:
        raise AssertionError("the session is not over")


def session_with(*plugins: Any) -> Any:
    manager = pluggy.PluginManager("pytest")
    manager.add_hookspecs(hookspec)
    for plugin in plugins:
        manager.register(plugin)
    config = SimpleNamespace(hook=manager.hook, pluginmanager=manager, workeroutput={})
    return SimpleNamespace(config=config, testsfailed=0)


def in_package(cls: type, package: str) -> Any:
    """An object of the class, as if that were of this package."""
    return type(cls.__name__, (cls,), {"__module__": f"{package}.plugin"})()


def test_nothing_is_asked_of_plugins_that_wait_for_nothing() -> None:
    assert not WorkerOutput(session_with(in_package(Cleaner, "cleaning"))).wanted


@pytest.mark.parametrize("package", ["xdist", "pytest_cov"])
def test_plugins_with_ways_of_their_own_are_left_alone(package: str) -> None:
    assert not WorkerOutput(session_with(in_package(Publisher, package))).wanted


def test_plugins_that_wait_are_asked_each_time_and_no_others() -> None:
    # Given
    session = session_with(in_package(Publisher, "durations"), in_package(Cleaner, "cleaning"))
    output = WorkerOutput(session)
    assert output.wanted
    # When
    output.take("/builds/shop")
    kind, data = output.take("/builds/shop")
    # Then
    assert (kind, unpacked(data)["measured"]) == ("output", (2, b"x"))


def test_a_package_may_have_both_hooks_in_different_plugins() -> None:
    # Given
    module: Any = types.ModuleType("syrupy")
    module.pytest_sessionfinish = lambda session: session.config.workeroutput.update(report=1)
    waiting: Any = types.ModuleType("syrupy.waiting")
    waiting.pytest_testnodedown = lambda node: None
    # When
    _, data = WorkerOutput(_marked(session_with(), module, waiting)).take("/builds/shop")
    # Then
    assert data["report"] == 1


def _marked(session: Any, *modules: Any) -> Any:
    """The session with these modules as plugins."""
    for module in modules:
        for name in [name for name in vars(module) if name.startswith("pytest_")]:
            hookimpl(getattr(module, name))
        session.config.pluginmanager.register(module)
    return session


def test_a_process_says_how_it_ended_as_a_worker_of_xdist_does() -> None:
    # Given
    session = session_with(in_package(Publisher, "durations"))
    session.testsfailed = 2
    # When
    _, data = WorkerOutput(session).take("/builds/shop")
    # Then
    assert (data["exitstatus"], data["shouldfail"], data["shouldstop"]) == (1, False, False)


def test_a_plugin_that_fails_is_named_and_nothing_half_is_sent() -> None:
    # Given
    class Broken(Publisher):
        @hookimpl
        def pytest_sessionfinish(self, session: Any) -> None:
            raise LookupError("no such table")

    # When
    kind, data = WorkerOutput(session_with(in_package(Broken, "broken"))).take("/builds/shop")
    # Then
    assert kind == "note"
    assert "LookupError: no such table" in data["text"]


def test_what_does_not_travel_is_shown_as_text() -> None:
    # Given
    session = session_with(in_package(Publisher, "durations"))
    session.config.workeroutput["thing"] = {"place": object()}
    # When
    _, data = WorkerOutput(session).take("/builds/shop")
    # Then
    assert data["thing"]["place"].startswith("<object object")


def test_the_id_of_a_process_is_that_of_one_of_xdists_workers() -> None:
    assert own_id({"DCT_PROCESS": "17"}) == "gw17"
    assert own_id({}) == "gw0"
