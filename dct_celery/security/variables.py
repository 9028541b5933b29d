"""Environment variables as users' code reads them: typed, and refused in one line where wrong.

A variable that is set but empty counts as not set, as in `settings`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dct_celery.core.option import Kind, Option, accept, expected, shown
from dct_celery.errors import ConfigError
from dct_celery.security.masking import names_secret

#: What django-concurrent-test calls its variables -> the variable.
ENV_VARS: Mapping[str, str] = MappingProxyType(
    {
        "ENABLE_CONCURRENT": "DJANGO_ENABLE_CONCURRENT",
        "WORKER_COUNT": "DJANGO_TEST_WORKERS",
        "TIMEOUT": "DJANGO_TEST_TIMEOUT",
        "BENCHMARK": "DJANGO_TEST_BENCHMARK",
        "TELEMETRY": "DJANGO_TEST_TELEMETRY",
        "DEBUG": "DJANGO_DEBUG",
        "DATABASE_URL": "DATABASE_URL",
        "SECRET_KEY": "DJANGO_SECRET_KEY",
    }
)
#: Type -> how `settings` calls it, and what a valid value is if that has other words for it.
_KINDS: Mapping[type, tuple[Kind, str]] = MappingProxyType(
    {str: ("str", ""), bool: ("bool", ""), int: ("int", ""), float: ("float", "a number")}
)


def get_env_var(key: str, default: Any = None, var_type: type = str) -> Any:
    """The variable's value as `var_type` (str, bool, int or float); `default` if it is not set.

    True is any of 1, true, yes and on, False any of 0, false, no and off. Raises ConfigError for
    any other text, TypeError for another type.
    """
    if var_type not in _KINDS:
        raise TypeError(f"var_type is {var_type!r}; give str, bool, int or float")
    text = os.environ.get(key, "")
    if not text:
        return default
    kind, rule = _KINDS[var_type]
    option = Option(kind, "tests", "", rule=rule, secret=names_secret(key))
    try:
        return accept(option, text, text=True)
    except ValueError:
        raise ConfigError(
            f"{key}: {shown(option, text)} is not valid; give {expected(option)}, or unset it"
        ) from None


def get_env_bool(key: str, default: bool = False) -> bool:
    """See `get_env_var`."""
    return bool(get_env_var(key, default, bool))


def get_env_int(key: str, default: int = 0) -> int:
    """See `get_env_var`."""
    return int(get_env_var(key, default, int))


def get_env_float(key: str, default: float = 0.0) -> float:
    """See `get_env_var`."""
    return float(get_env_var(key, default, float))


def get_env_str(key: str, default: str = "") -> str:
    """See `get_env_var`."""
    return str(get_env_var(key, default, str))
