"""CONCURRENT_TEST_CONFIG in the Django settings: any setting of dct, by its name in capitals.

    CONCURRENT_TEST_CONFIG = {"PARALLEL": 4, "TEST_TIMEOUT": 60, "POOL": "ci"}

The names of django-concurrent-test work, its CONCURRENT_TEST too. Only the test runner class reads
them: `dct run` knows its settings before it knows the project's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from dct_celery.errors import ConfigError
from dct_celery.settings import OPTIONS

#: Names of the setting; the first one wins where both say something.
NAMES = ("CONCURRENT_TEST_CONFIG", "CONCURRENT_TEST")
#: Names of django-concurrent-test -> our settings; "!" means the opposite.
_OLD = {
    "ENABLED": "!sequential",
    "WORKERS": "parallel",
    "MAX_RETRIES": "database_retries",
    "TEMPLATE_CACHE": "!create_db",
    "JUNITXML": "junit_xml",
    "HEALTH_CHECK_INTERVAL": "health_check_seconds",
}
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
    for name in NAMES:
        table = getattr(settings, name, None)
        if table is None:
            continue
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"{name} in the Django settings is no dict; write {name} = {{'PARALLEL': 4}}"
            )
        for key, value in table.items():
            origin = f"{name}[{key!r}]"
            if key in _WITHOUT:
                notes.append(f"note: {origin} has no effect: {_WITHOUT[key]}")
            elif value is not None:
                _add(found, _setting(key, origin), value, origin)
    return found, notes


def _setting(key: object, origin: str) -> str:
    """Name of the setting, "!" before it for the opposite."""
    names = {option.name.upper(): option.name for option in OPTIONS} | _OLD
    if key in names:
        return names[str(key)]
    close = difflib.get_close_matches(str(key).upper(), [*names, *_WITHOUT], 1)
    fix = f"did you mean {close[0]!r}?" if close else "dct config names all settings"
    raise ConfigError(f"{origin}: unknown setting; {fix}")


def _add(found: dict[str, tuple[object, str]], name: str, value: object, origin: str) -> None:
    if name.startswith("!"):
        if not isinstance(value, bool):
            raise ConfigError(f"{origin}: {value!r} is not valid; give True or False")
        name, value = name[1:], not value
    known, before = found.setdefault(name, (value, origin))
    if known != value and before.partition("[")[0] == origin.partition("[")[0]:
        raise ConfigError(f"{before} and {origin} mean the same setting and differ; remove one")


def flags(found: Mapping[str, tuple[object, str]], used: Mapping[str, str]) -> Iterator[str]:
    """Arguments of `dct run` for those of the settings that count. `used`: setting -> origin."""
    for option in OPTIONS:
        if option.name not in found or used[option.name] != found[option.name][1]:
            continue
        value, origin = found[option.name]
        if not option.flags:
            raise ConfigError(f"{origin}: workers alone have this setting; give it to them")
        flag = max(option.flags, key=len)
        if option.kind == "bool":
            yield from [flag] if value else []
        else:
            items = value if isinstance(value, list | tuple) else [value]
            yield from (f"{flag}={item}" for item in items)
