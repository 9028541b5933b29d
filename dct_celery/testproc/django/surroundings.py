"""Facts about a Django project beside its tests and databases: settings, services, its command."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from dct_celery.core.command import default_settings
from dct_celery.errors import ConfigError

#: Settings that shape the schema or the tested behaviour and have a stable repr. Secrets, hosts and
#: paths are left out.
_SETTINGS = (
    "INSTALLED_APPS", "MIDDLEWARE", "AUTH_USER_MODEL", "DATABASE_ROUTERS", "DEFAULT_AUTO_FIELD",
    "USE_TZ", "TIME_ZONE", "LANGUAGE_CODE", "LANGUAGES", "USE_I18N", "ROOT_URLCONF",
    "PASSWORD_HASHERS", "MIGRATION_MODULES", "TEST_RUNNER", "AUTHENTICATION_BACKENDS", "SITE_ID",
    "DEBUG", "APPEND_SLASH", "ATOMIC_REQUESTS", "FORMAT_MODULE_PATH", "SERIALIZATION_MODULES",
    "TEST_NON_SERIALIZED_APPS", "DEFAULT_CHARSET", "STORAGES", "FIXTURE_DIRS",
)  # fmt: skip

#: The address in an object's default repr: it differs between processes and is no part of the
#: setting.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def facts() -> dict[str, str]:
    """Facts for reports and guards."""
    import django

    return {
        "django": django.get_version(),
        "debug": str(_configured_debug()).lower(),
        "settings": os.environ.get("DJANGO_SETTINGS_MODULE", ""),
    }


def timings_file() -> str:
    """What the setting TEST_TIMINGS_FILE names; empty if it is not set. Raises ConfigError."""
    from django.conf import settings

    path = getattr(settings, "TEST_TIMINGS_FILE", None) or ""
    if isinstance(path, str | os.PathLike):
        return os.fsdecode(path)
    raise ConfigError(
        f"TEST_TIMINGS_FILE in Django's settings is no path but {path!r}; give the path of a file"
    )


def saved_environment() -> Any:
    """What Django keeps for the tear-down of its test environment; None outside of tests."""
    from django.test import utils

    return getattr(utils._TestState, "saved_data", None)


def _configured_debug() -> bool:
    """The project's own DEBUG."""
    from django.conf import settings

    return bool(getattr(saved_environment(), "debug", settings.DEBUG))


def rerun_command(command: Sequence[str], settings: str | None) -> tuple[str, ...]:
    """The project's own command as a user would type it in the project's folder.

    `settings`: the module that the environment named, which that of the user may not; None where it
    named none.
    """
    whole = ("python", *command)
    named = any(word.startswith("--settings=") for word in command)
    if settings and not named and settings != _default(command[0]):
        return (*whole, f"--settings={settings}")
    return whole


def _default(script: str) -> str | None:
    """The settings module that the script uses where nobody names one."""
    try:
        with open(script, "rb") as file:
            return default_settings(file.read())
    except OSError:
        return None


def settings_facts(root: str) -> dict[str, str]:
    """Maps "setting:NAME" to the value, or to its hash where that is long; equal below any root."""
    from django.conf import settings

    roots = {root, os.path.realpath(root)}
    facts = {}
    for name in _SETTINGS:
        text = repr(getattr(settings, name, None))
        for prefix in roots:
            text = text.replace(prefix, "<root>")
        text = _ADDRESS.sub("", text)
        facts[f"setting:{name}"] = (
            text if len(text) <= 60 else hashlib.sha256(text.encode()).hexdigest()[:16]
        )
    for alias, database in settings.DATABASES.items():
        facts[f"setting:DATABASES[{alias}]"] = str(database.get("ENGINE", ""))
    return facts


def redis_in_use() -> list[str]:
    """host:port/db of every Redis that the project is configured to use.

    That is, by caches, channel layers or its own Celery. A FLUSHDB in a test must never reach our
    store; the worker compares these with its own.
    """
    from django.conf import settings

    candidates: list[Any] = [
        *(cache.get("LOCATION") for cache in getattr(settings, "CACHES", {}).values()),
        *(
            layer.get("CONFIG", {}).get("hosts")
            for layer in getattr(settings, "CHANNEL_LAYERS", {}).values()
        ),
        getattr(settings, "CELERY_BROKER_URL", None),
        getattr(settings, "CELERY_RESULT_BACKEND", None),
    ]
    return sorted({place for candidate in candidates for place in _redis_targets(candidate)})


def _redis_targets(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
            return [f"{value[0]}:{value[1]}/0"]
        return [place for item in value for place in _redis_targets(item)]
    if isinstance(value, dict):
        return _redis_targets(value.get("address"))
    if not isinstance(value, str) or not value.startswith(("redis://", "rediss://")):
        return []
    parts = urlsplit(value)
    return [f"{parts.hostname or 'localhost'}:{parts.port or 6379}/{parts.path.strip('/') or '0'}"]
