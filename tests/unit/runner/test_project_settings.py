"""Claims about CONCURRENT_TEST_CONFIG: names of settings, old ones too, and never two meanings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.errors import ConfigError
from dct_celery.runner.project_settings import flags, read, variables
from dct_celery.settings import OPTIONS, load


def test_each_variable_of_the_ancestor_is_a_key_as_well() -> None:
    # Given
    old = {
        alias.lstrip("!").removeprefix("DJANGO_TEST_"): (option, alias)
        for option in OPTIONS
        for alias in option.aliases
        if "DJANGO_TEST_" in alias
    }
    for key, (option, alias) in old.items():
        # When
        found, _ = read(SimpleNamespace(CONCURRENT_TEST_CONFIG={key: True}))
        # Then
        opposite = alias.startswith("!")
        assert found == {option.name: (not opposite, f"CONCURRENT_TEST_CONFIG[{key!r}]")}


@pytest.mark.parametrize(
    ("settings", "both"),
    [
        (
            {"CONCURRENT_TEST_CONFIG": {"TIMEOUT": 5}, "CONCURRENT_TEST": {"TIMEOUT": 6}},
            "CONCURRENT_TEST_CONFIG['TIMEOUT'] and CONCURRENT_TEST['TIMEOUT']",
        ),
        (
            {"CONCURRENT_TEST": {"WORKERS": 1, "PARALLEL": 2}},
            "CONCURRENT_TEST['WORKERS'] and CONCURRENT_TEST['PARALLEL']",
        ),
        (
            {
                "CONCURRENT_TEST_CONFIG": {"LOG_LEVEL": "info"},
                "CONCURRENT_TEST_LOGGING": {"LEVEL": "DEBUG"},
            },
            "CONCURRENT_TEST_CONFIG['LOG_LEVEL'] and CONCURRENT_TEST_LOGGING['LEVEL']",
        ),
    ],
)
def test_two_names_of_one_setting_that_differ_are_refused(
    settings: dict[str, Any], both: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read(SimpleNamespace(**settings))
    # Then
    assert str(refused.value) == f"{both} mean the same setting and differ; remove one"


def test_the_same_said_twice_is_no_contradiction() -> None:
    # When
    found, _ = read(SimpleNamespace(CONCURRENT_TEST_CONFIG={"WORKERS": 2, "PARALLEL": 2}))
    # Then
    assert found["parallel"][0] == 2


def test_a_value_that_is_not_even_itself_is_left_to_the_check_of_values() -> None:
    # When
    found, _ = read(SimpleNamespace(CONCURRENT_TEST_CONFIG={"TIMEOUT": float("nan")}))
    # Then
    assert found["timeout"][1] == "CONCURRENT_TEST_CONFIG['TIMEOUT']"


@pytest.mark.parametrize(
    ("table", "arguments", "environment"),
    [
        ({"METRICS": False}, ["--no-metrics"], {}),
        ({"METRICS": True, "FAILFAST": "false", "BUFFER": "yes"}, ["--buffer"], {}),
        ({"JUNIT_XML": Path("out", "j.xml"), "TAG": "a,b"}, ["--tag=a", "--tag=b"], {}),
        ({"WORKERS": True, "LOCAL": True, "SHUFFLE": False}, ["--local=0", "--parallel=auto"], {}),
        ({"MIN_WORKERS": 2, "DYNAMIC_SCALING": "no"}, [], {"DCT_MIN_SLOTS": "2"}),
        ({"STORE": "redis://:secret@s/0"}, [], {"DCT_STORE": "redis://:secret@s/0"}),
    ],
)
def test_they_are_passed_on_as_what_they_mean(
    tmp_path: Path, table: dict[str, Any], arguments: list[str], environment: dict[str, str]
) -> None:
    # Given
    found, _ = read(SimpleNamespace(CONCURRENT_TEST_CONFIG=table))
    settings, used = load({}, env={}, cwd=tmp_path, project=found)
    origins = {origin for _, origin in found.values()}
    # When
    passed = list(flags(settings, used, origins))
    # Then
    assert [one for one in passed if "junit" not in one] == arguments
    assert ("--junit-xml=out/j.xml" in passed) is ("JUNIT_XML" in table)
    assert environment.items() <= variables(settings, used, origins).items()
    assert not any("secret" in one for one in passed)
