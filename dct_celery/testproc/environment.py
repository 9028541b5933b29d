"""What decides verdicts beside the code itself, by name, so that a difference can be named: interpreter, packages, settings."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from typing import Any
from urllib.parse import urlsplit

#: Settings that shape the schema or the behaviour under test and that have a stable repr. Secrets, hosts and paths are not here.
_SETTINGS = (
    "INSTALLED_APPS", "MIDDLEWARE", "AUTH_USER_MODEL", "DATABASE_ROUTERS", "DEFAULT_AUTO_FIELD", "USE_TZ", "TIME_ZONE",
    "LANGUAGE_CODE", "LANGUAGES", "USE_I18N", "ROOT_URLCONF", "PASSWORD_HASHERS", "MIGRATION_MODULES", "TEST_RUNNER",
    "AUTHENTICATION_BACKENDS", "SITE_ID", "DEBUG", "APPEND_SLASH", "ATOMIC_REQUESTS", "FORMAT_MODULE_PATH",
    "SERIALIZATION_MODULES", "TEST_NON_SERIALIZED_APPS", "DEFAULT_CHARSET", "STORAGES", "FIXTURE_DIRS",
)  # fmt: skip

#: The address in the default repr of an object: another in every process, and no part of what the setting says.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def describe(root: str) -> dict[str, str]:
    """Name -> value. Equal dicts on two machines mean that a test should end alike on both."""
    facts = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": sys.platform,
        "flags": "".join(str(flag) for flag in (sys.flags.optimize, sys.flags.dev_mode, sys.flags.utf8_mode)),
    }
    facts.update({f"package:{name}": version for name, version in _packages().items()})
    facts.update(_settings(root))
    return facts


def _packages() -> dict[str, str]:
    """Versions of all installed distributions, read from folder names: opening every METADATA costs 50 ms."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            if entry.endswith((".dist-info", ".egg-info")):
                name, _, version = entry.rsplit(".", 1)[0].partition("-")
                if version:
                    found.setdefault(name.lower().replace("_", "-"), version)
    return found


def _settings(root: str) -> dict[str, str]:
    from django.conf import settings

    roots = {root, os.path.realpath(root)}
    facts = {}
    for name in _SETTINGS:
        text = repr(getattr(settings, name, None))
        for prefix in roots:
            text = text.replace(prefix, "<root>")
        text = _ADDRESS.sub("", text)
        facts[f"setting:{name}"] = text if len(text) <= 60 else hashlib.sha256(text.encode()).hexdigest()[:16]
    for alias, database in settings.DATABASES.items():
        facts[f"setting:DATABASES[{alias}]"] = str(database.get("ENGINE", ""))
    return facts


def redis_in_use() -> list[str]:
    """host:port/db of every Redis that caches, channel layers or the project's own Celery are configured to use.

    A FLUSHDB in a test must never reach our store; the worker compares these with its own.
    """
    from django.conf import settings

    candidates: list[Any] = [
        *(cache.get("LOCATION") for cache in getattr(settings, "CACHES", {}).values()),
        *(layer.get("CONFIG", {}).get("hosts") for layer in getattr(settings, "CHANNEL_LAYERS", {}).values()),
        getattr(settings, "CELERY_BROKER_URL", None),
        getattr(settings, "CELERY_RESULT_BACKEND", None),
    ]
    return sorted({place for candidate in candidates for place in _redis_places(candidate)})


def _redis_places(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
            return [f"{value[0]}:{value[1]}/0"]
        return [place for item in value for place in _redis_places(item)]
    if isinstance(value, dict):
        return _redis_places(value.get("address"))
    if not isinstance(value, str) or not value.startswith(("redis://", "rediss://")):
        return []
    parts = urlsplit(value)
    return [f"{parts.hostname or 'localhost'}:{parts.port or 6379}/{parts.path.strip('/') or '0'}"]
