"""CONCURRENT_TEST_CONFIG in the Django settings: any setting of dct, by its name in capitals.

    CONCURRENT_TEST_CONFIG = {"PARALLEL": 4, "TEST_TIMEOUT": 60, "POOL": "ci"}

The names of django-concurrent-test work, its CONCURRENT_TEST too, and CONCURRENT_TEST_LOGGING for
the log of the worker on this machine. Only the test runner class reads them: `dct run` knows its
settings before it knows the project's.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dct_celery.core.option import Option
from dct_celery.errors import ConfigError
from dct_celery.settings import OPTIONS, Settings

#: Names of the setting.
NAMES = ("CONCURRENT_TEST_CONFIG", "CONCURRENT_TEST")
_VARIABLES = "DJANGO_TEST_"
#: Names of django-concurrent-test, its variables' among them -> our settings; "!" means the
#: opposite.
OLD = {"ENABLED": "!sequential", "JUNITXML": "junit_xml"} | {
    variable.lstrip("!").removeprefix(_VARIABLES): "!" * variable.startswith("!") + option.name
    for option in OPTIONS
    for variable in option.aliases
    if variable.lstrip("!").startswith(_VARIABLES) and variable != _VARIABLES + option.name.upper()
}
#: Keys of CONCURRENT_TEST_LOGGING -> our settings.
LOGGING = {"LEVEL": "log_level", "FORMAT": "log_format", "FILE": "log_file"}
#: Old names without an effect -> why.
_WITHOUT = {
    "WORKER_TIMEOUT": "a slot takes chunk after chunk for as long as the run lasts; TIMEOUT limits"
    " the run, TEST_TIMEOUT each test",
}


def read(settings: Any) -> tuple[dict[str, tuple[object, str]], list[str]]:
    """(setting -> (value, origin), lines for people). Raises ConfigError for a name that is unknown
    or for two names of one setting that differ.
    """
    found: dict[str, tuple[object, str]] = {}
    notes: list[str] = []
    all_names = {option.name.upper(): option.name for option in OPTIONS} | OLD
    for name in NAMES:
        for key, value, origin in _entries(settings, name, "{'PARALLEL': 4}"):
            if key in _WITHOUT:
                notes.append(f"note: {origin} has no effect: {_WITHOUT[key]}")
            elif value is not None:
                _add(found, _setting(key, origin, all_names), value, origin)
    for key, value, origin in _entries(settings, "CONCURRENT_TEST_LOGGING", "{'LEVEL': 'DEBUG'}"):
        text = str(value).lower() if key in ("LEVEL", "FORMAT") else value
        _add(found, _setting(key, origin, LOGGING), text, origin)
    return found, notes


def _entries(settings: Any, name: str, example: str) -> Iterator[tuple[str, object, str]]:
    """(key, value, origin) of a dict in the settings. Raises ConfigError if it is none."""
    table = getattr(settings, name, None)
    if table is None:
        return
    if not isinstance(table, Mapping):
        raise ConfigError(f"{name} in the Django settings is no dict; write {name} = {example}")
    for key, value in table.items():
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        yield str(key), plain, f"{name}[{key!r}]"


def _setting(key: str, origin: str, names: Mapping[str, str]) -> str:
    """Name of the setting, "!" before it for the opposite. Raises ConfigError."""
    if key in names:
        return names[key]
    close = difflib.get_close_matches(key.upper(), names, 1)
    fix = f"did you mean {close[0]!r}?" if close else "dct config names all settings"
    raise ConfigError(f"{origin}: unknown setting; {fix}")


def _add(found: dict[str, tuple[object, str]], name: str, value: object, origin: str) -> None:
    if name.startswith("!"):
        if not isinstance(value, bool):
            raise ConfigError(f"{origin}: {value!r} is not valid; give True or False")
        name, value = name[1:], not value
    known, before = found.setdefault(name, (value, origin))
    if before != origin and known != value:
        raise ConfigError(f"{before} and {origin} mean the same setting and differ; remove one")


def flags(settings: Settings, used: Mapping[str, str], origins: Collection[str]) -> Iterator[str]:
    """Arguments of `dct run` for those of the settings that count: `used` (setting -> origin) says
    that they come from one of these `origins`.
    """
    for option, value in _counting(settings, used, origins):
        if not _has_flag(option):
            continue
        flag = max(option.flags, key=len)
        if option.kind == "bool":
            yield from [flag] if value is not option.switches_off else []
        else:
            yield from (f"{flag}={item}" for item in (value if option.kind == "list" else [value]))


def variables(
    settings: Settings, used: Mapping[str, str], origins: Collection[str]
) -> dict[str, str]:
    """The same for settings without flags, those of workers: the one of this machine gets them. And
    for secrets, which other users could read in arguments.
    """
    return {
        option.variable: str(value)
        for option, value in _counting(settings, used, origins)
        if not _has_flag(option)
    }


def _has_flag(option: Option) -> bool:
    return bool(option.flags) and not option.secret


def _counting(
    settings: Settings, used: Mapping[str, str], origins: Collection[str]
) -> Iterator[tuple[Option, Any]]:
    for option in OPTIONS:
        value = getattr(settings, option.name)
        if used[option.name] in origins and value is not None:
            yield option, value
