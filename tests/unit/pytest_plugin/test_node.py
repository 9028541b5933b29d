"""Claims about what plugins for xdist find on the dispatcher."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from dct_celery.pytest_plugin.node import Node

hookimpl = pluggy.HookimplMarker("pytest")


class Plugin:
    """One that puts something into `workerinput`, and waits for what comes back."""

    def __init__(self, given: Any = None) -> None:
        self.given = given
        self.down: list[tuple[str, object, object]] = []
        self.ids: list[str] = []

    @hookimpl
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["given"] = self.given

    @hookimpl
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self.ids = ids

    @hookimpl
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        output = getattr(node, "workeroutput", None)
        self.down.append((node.gateway.id, output, error))


def node_with(*plugins: Plugin, **options: object) -> Node:
    manager = pluggy.PluginManager("pytest")
    for plugin in plugins:
        manager.register(plugin)
    config: Any = SimpleNamespace(
        hook=manager.hook, pluginmanager=manager, option=SimpleNamespace(**options)
    )
    return Node(config, {"workerid": "gw0", "testrunuid": "run"})


@pytest.mark.parametrize("value", [None, 1, "x", [1, (2,)], {"a": {1, 2}}, b"\x80\x04pickle"])
def test_what_xdist_carries_is_added(value: object) -> None:
    # Given
    node = node_with(Plugin(value))
    # When
    node.configure()
    # Then
    assert node.added() == {"given": value}


def test_what_does_not_travel_is_one_clear_error() -> None:
    # When / Then
    with pytest.raises(pytest.UsageError) as raised:
        node_with(Plugin(object())).configure()
    assert str(raised.value) == (
        "workerinput['given'] of a plugin: a value of type object does not travel to other"
        " machines; disable the plugin with -p no:NAME"
    )


def test_seeds_are_given_where_their_plugins_have_no_xdist_to_ask_them() -> None:
    # Given
    node = node_with(randomly_seed=7, random_order_seed="default:5", other=1)
    # When
    node.configure()
    # Then
    assert node.added() == {"randomly_seed": 7, "random_order_seed": "default:5"}


def test_plugins_hear_of_each_process_that_has_sent_its_output() -> None:
    # Given
    plugin = Plugin()
    # When
    node_with(plugin).down({"gw3": {"a": 1}, "gw17": {}})
    # Then
    assert plugin.down == [("gw3", {"a": 1}, None), ("gw17", {}, None)]


def test_without_any_output_they_hear_once_that_there_is_none() -> None:
    # Given
    plugin = Plugin()
    # When
    node_with(plugin).down({})
    # Then
    assert plugin.down == [("gw0", None, None)]


def test_plugins_hear_which_tests_there_are() -> None:
    # Given
    plugin = Plugin()
    # When
    node_with(plugin).collected(["a.py::test"])
    # Then
    assert plugin.ids == ["a.py::test"]


def test_without_a_plugin_for_xdist_nothing_is_called() -> None:
    # Given
    node = node_with()
    # When
    node.configure()
    node.collected(["a.py::test"])
    node.down({"gw1": {}})
    # Then
    assert node.added() == {}
