"""Claims about what other plugins find in a test process, and what is said where that is less."""

from __future__ import annotations

import io
import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.testproc.backends.pytest import plugins


def config_with(*names: str, **options: object) -> Any:
    return SimpleNamespace(
        pluginmanager=SimpleNamespace(hasplugin=lambda name: name in names),
        getoption=lambda name, default=None: options.get(name, default),
        getini=lambda name: "",
        option=SimpleNamespace(**options),
        workerinput={},
    )


def test_settings_of_a_plugin_that_is_switched_off_are_not_asked_for() -> None:
    # Given: pytest -p no:logging, whose settings pytest does not know then
    def getini(name: str) -> str:
        raise ValueError(f"unknown configuration value: {name!r}")

    config = config_with("xdist")
    config.getini = getini
    # When / Then
    assert list(plugins.limits(config)) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (config_with("xdist", "syrupy"), ""),
        (config_with("xdist", "harvest"), "pytest-harvest does not gather results"),
        (config_with("syrupy"), "syrupy reports nothing of other processes unless pytest-xdist"),
        (config_with("pytest-durations"), "pytest-durations reports nothing of other processes"),
        (
            config_with("xdist", max_suite_reruns=3),
            "--max-suite-reruns counts in each test process",
        ),
        (config_with("xdist", liveserver="localhost:8097"), "live_server at localhost:8097: "),
        (config_with("xdist", liveserver="localhost"), ""),
        (config_with("xdist", setupshow=True), "--setup-show shows nothing"),
        (
            config_with("xdist", "logging", log_file="log.txt"),
            "the log file of pytest gets nothing",
        ),
    ],
)
def test_what_a_plugin_cannot_do_on_slots_is_said_in_one_sentence(config: Any, said: str) -> None:
    # When
    found = list(plugins.limits(config))
    # Then
    assert len(found) == bool(said)
    assert not said or found[0].startswith(said)


def test_seeds_are_the_same_in_each_process_without_a_dispatcher_that_has_them() -> None:
    # Given
    config = config_with(randomly_seed="default", random_order_seed="default:517")
    # When
    found = plugins._seeds(config, 7)
    # Then
    assert found == plugins._seeds(config, 7)
    assert found["randomly_seed"] == 7
    # As the plugin knows by this word that nobody has asked for another order.
    assert found["random_order_seed"].startswith("default:")
    assert plugins._seeds(config, 8) != found


def test_seeds_that_the_user_chose_are_kept() -> None:
    # Given
    config = config_with(randomly_seed=11, random_order_seed="22")
    # Then
    assert plugins._seeds(config, 7) == {"randomly_seed": 11, "random_order_seed": "22"}


def test_plugins_do_not_connect_to_the_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    reruns: Any = types.ModuleType("pytest_rerunfailures")
    reruns.HAS_PYTEST_HANDLECRASHITEM = True
    retry: Any = types.ModuleType("pytest_retry.retry_plugin")
    retry.ClientReporter = retry.OfflineReporter = lambda: "offline"
    for module in (reruns, retry):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    config = config_with()
    # When
    plugins._without_sockets(config)
    # Then
    assert not reruns.HAS_PYTEST_HANDLECRASHITEM
    assert retry.ClientReporter(config.workerinput["server_port"]) == "offline"


def test_the_text_of_retries_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    assert plugins.retry_text() == ""
    stream = io.StringIO()
    retry: Any = types.ModuleType("pytest_retry.retry_plugin")
    retry.retry_manager = SimpleNamespace(reporter=SimpleNamespace(stream=stream))
    monkeypatch.setitem(sys.modules, retry.__name__, retry)
    # When
    stream.write("failed on attempt 1")
    # Then
    assert [plugins.retry_text(), plugins.retry_text()] == ["failed on attempt 1", ""]
    stream.write("again")
    assert plugins.retry_text() == "again"


def test_files_are_sorted_by_when_they_were_changed_where_that_is_known() -> None:
    # Given
    plugin: Any = SimpleNamespace()
    manager = SimpleNamespace(getplugin=lambda name: plugin)
    config: Any = SimpleNamespace(pluginmanager=manager)
    items = [SimpleNamespace(path=f"/builds/shop/{name}.py") for name in "abcd"]
    # When
    plugins.sort_new_first(config, "/builds/shop", {"b.py": 3.0, "c.py": 5.0})
    # Then
    found = [item.path[-4] for item in plugin._get_increasing_order(items)]
    assert found == ["c", "b", "a", "d"]
