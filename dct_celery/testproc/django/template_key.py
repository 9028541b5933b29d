"""The project's side of a template's key: a hash of all that decides its contents after migrate.

It is equal in two processes and on two hosts for the same code, settings and packages. In doubt it
differs: a template that is built once too often costs time, one that is wrongly reused costs
verdicts.

What it cannot see: files that a data migration opens by name outside of fixtures/, sql/ and
FIXTURE_DIRS, modules that are imported and commands that are called by a computed name, what comes
over the network, the clock, and environment variables that migrations read by themselves (those
that settings read show in the settings). For files there is the setting `template_depends`, for the
rest `--create-db`, which rebuilds the templates.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from dct_celery.testproc.django import databases
from dct_celery.testproc.django.migrate_signals import receivers_of
from dct_celery.testproc.django.sources import Sources
from dct_celery.testproc.django.stable_values import StableValues

#: Distributions whose version has no effect on a database.
_TOOLS = frozenset({"pip", "setuptools", "wheel", "uv", "dct-celery"})
#: Entries of DATABASES that say where a server is, or how a connection is kept, but nothing about
#: the contents.
_PLACES = frozenset(
    {"HOST", "PORT", "PASSWORD", "NAME", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "ATOMIC_REQUESTS"}
)
#: Settings that no migration can reasonably depend on, or that differ between hosts and processes
#: by their nature: secrets, addresses of services, web settings, logging. DATABASES,
#: DATABASE_ROUTERS, CACHES and INSTALLED_APPS have parts of their own.
_IGNORED = re.compile(
    r"DATABASES|DATABASE_ROUTERS|INSTALLED_APPS|CACHES|CACHE_MIDDLEWARE_.*"
    r"|SECRET_.*|.*_SECRET|(.*_)?(SECRETS?|PASSWORD|PASSWD|TOKENS?|KEYS?|DSN|CREDENTIALS?)(_.*)?"
    r"|EMAIL_.*|SERVER_EMAIL|DEFAULT_FROM_EMAIL|ADMINS|MANAGERS|LOGGING.*|SENTRY_.*|RAVEN_.*"
    r"|ALLOWED_HOSTS|INTERNAL_IPS|ROOT_URLCONF|WSGI_APPLICATION|ASGI_APPLICATION|MIDDLEWARE|TEMPLATES|FORM_RENDERER"
    r"|MEDIA_.*|STATIC_.*|STATICFILES_.*|FILE_UPLOAD_.*|DATA_UPLOAD_.*|SESSION_.*|CSRF_.*|CORS_.*|SECURE_.*|X_FRAME_OPTIONS"
    r"|CELERY.*|BROKER_.*|CHANNEL_LAYERS|AUTH_PASSWORD_VALIDATORS|TEST_RUNNER|DEBUG_.*|IGNORABLE_404_URLS|MESSAGE_.*"
)
#: Matches a pattern above, but a migration that creates users depends on it.
_KEPT = frozenset({"PASSWORD_HASHERS"})
#: What Django's schema editor reads from a model's Meta, and what the rows for permissions and
#: content types contain.
_META = (
    "label", "db_table", "db_table_comment", "db_tablespace", "managed", "proxy", "swapped",
    "swappable", "auto_created", "unique_together", "index_together", "indexes", "constraints",
    "order_with_respect_to", "required_db_features", "required_db_vendor", "permissions",
    "default_permissions", "verbose_name_raw", "default_manager_name",
)  # fmt: skip


class Keyed(databases.DatabaseUser, Protocol):
    """What a project is asked here."""

    #: Top of the tree that the project is part of.
    root: str


def fingerprint(project: Keyed, environment: Mapping[str, str], depends: Iterable[str]) -> str:
    """The key: 64 hexadecimal digits.

    `environment`: see environment.describe; `depends`: globs below the top of the tree. Environment
    variables are no part of it; what settings make of them is.
    """
    return _hash(parts(project, environment, depends))


def parts(project: Keyed, environment: Mapping[str, str], depends: Iterable[str]) -> dict[str, str]:
    """Name -> hash of each part of the key, so that a difference between two can be named."""
    commands = _commands()
    plain, sources = StableValues(project.root), Sources(commands)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading a deprecated setting warns
        found = {
            "databases": _databases(project, plain),
            "apps": _apps(),
            "models": [_model(model, plain) for model in _models()],
            "settings": _settings(plain),
            "packages": _packages(environment),
            "data": _data(project, sources, depends),
            **_code(project, sources, commands),
        }
    return {name: _hash(value) for name, value in found.items()}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()


def _databases(project: Keyed, plain: StableValues) -> Any:
    """How aliases share databases, and their entries in DATABASES with Django's defaults."""
    described = {}
    for alias in sorted(databases.alive(project)):
        entries = dict(databases.connection_of(alias).settings_dict)
        # We choose the test name.
        entries["TEST"] = {
            key: value for key, value in entries.get("TEST", {}).items() if key != "NAME"
        }
        entries["OPTIONS"] = {
            key: value for key, value in (entries.get("OPTIONS") or {}).items() if not _secret(key)
        }
        described[alias] = plain.value(
            {key: value for key, value in entries.items() if key not in _PLACES}
        )
    return [databases.groups(project.databases), described]


def _secret(name: str) -> bool:
    return name.upper() in {*_PLACES, "UNIX_SOCKET", "PASSFILE"} or bool(
        _IGNORED.fullmatch(name.upper())
    )


def _apps() -> Any:
    from django.apps import apps

    return [
        [c.name, c.label, type(c).__module__, type(c).__qualname__] for c in apps.get_app_configs()
    ]


def _models() -> Iterable[Any]:
    """All models, those of tests included, in the order of their registration.

    This is the order of their content types.
    """
    from django.apps import apps

    return apps.get_models(include_auto_created=True, include_swapped=True)


def _model(model: Any, plain: StableValues) -> Any:
    meta = model._meta
    fields = [
        [field.name, field.column, *_field(field, plain)]
        for field in (*meta.local_fields, *meta.local_many_to_many)
    ]
    return [
        plain.value([getattr(meta, name, None) for name in _META]),
        [base.__qualname__ for base in model.__mro__],
        fields,
    ]


def _field(field: Any, plain: StableValues) -> Any:
    try:
        _, path, args, kwargs = field.deconstruct()
    except Exception as error:  # a field that cannot be migrated can still be created by syncdb
        return [type(field).__qualname__, type(error).__name__]
    return [path, plain.value(args), plain.value(kwargs)]


def _settings(plain: StableValues) -> Any:
    from django.conf import settings

    names = [
        name
        for name in dir(settings)
        if name.isupper() and (name in _KEPT or not _IGNORED.fullmatch(name))
    ]
    found = {name: plain.value(getattr(settings, name, None)) for name in names}
    tables = {
        alias: plain.value(dict(cache))
        for alias, cache in settings.CACHES.items()
        if _in_database(cache)
    }
    return [found, tables]


def _in_database(cache: Mapping[str, Any]) -> bool:
    """Whether createcachetable creates a table for the cache."""
    from django.core.cache.backends.db import BaseDatabaseCache
    from django.utils.module_loading import import_string

    path = str(cache.get("BACKEND", ""))
    if path.startswith("django.core.cache.backends."):
        return path.startswith("django.core.cache.backends.db.")
    try:
        return issubclass(import_string(path), BaseDatabaseCache)
    except (ImportError, TypeError):
        return False


def _packages(environment: Mapping[str, str]) -> Any:
    import django

    found = {name: version for name, version in environment.items() if name.startswith("package:")}
    interpreter = [sys.implementation.name, *sys.version_info[:2]]
    return [
        {n: v for n, v in found.items() if n.partition(":")[2] not in _TOOLS},
        interpreter,
        django.get_version(),
    ]


def _data(project: Keyed, sources: Sources, depends: Iterable[str]) -> Any:
    """Fixtures and SQL files, and what `template_depends` names."""
    from django.apps import apps
    from django.conf import settings

    found: dict[str, str] = {}
    for config in apps.get_app_configs():
        for folder in ("fixtures", "sql"):
            found |= sources.files(f"{config.label}/{folder}", f"{config.path}/{folder}")
    for number, folder in enumerate(settings.FIXTURE_DIRS):
        found |= sources.files(str(number), str(folder))
    for pattern in depends:
        found |= {
            f"depends:{name}": digest
            for name, digest in sources.matching(pattern, project.root).items()
        }
    return found


def _commands() -> dict[str, str]:
    """Management command -> its module."""
    from django.core.management import get_commands

    return {
        name: f"{app}.management.commands.{name}"
        for name, app in get_commands().items()
        if isinstance(app, str)  # a project may put an instance there
    }


def _code(project: Keyed, sources: Sources, commands: Mapping[str, str]) -> dict[str, Any]:
    """The migrations, and the project code that they or other parts of migrate can reach."""
    migrations: dict[str, Any] = {}
    seeds: set[str] = set()
    for label, module in _migration_modules():
        migrations[label] = files = {} if module is None else _migration_files(module, sources)
        seeds.update(
            f"{module}.{name[2:-3].replace('/', '.')}" for name in files if name.endswith(".py")
        )
    migrations["syncdb"] = sorted(
        label for label, module in _migration_modules() if module is None or not migrations[label]
    )
    seeds.update(_involved(project))
    # Those that Django calls for a test database; the project may have its own.
    seeds.update(commands[n] for n in ("migrate", "createcachetable", "flush") if n in commands)
    return {"migrations": migrations, "code": sources.closure(seeds)}


def _migration_modules() -> Iterator[tuple[str, str | None]]:
    """(label, package) of every app; None where MIGRATION_MODULES disables migrations."""
    from django.apps import apps
    from django.db.migrations.loader import MigrationLoader

    for config in apps.get_app_configs():
        yield config.label, MigrationLoader.migrations_module(config.label)[0]


def _migration_files(module: str, sources: Sources) -> dict[str, str]:
    _, folders = sources.locate(module)
    return {
        name: digest for folder in folders for name, digest in sources.files(".", folder).items()
    }


def _involved(project: Keyed) -> Iterator[str]:
    """Modules of classes and functions that take part in migrate.

    These are the runner, backends, routers, fields and receivers of signals.
    """
    from django.db import router
    from django.db.models import signals

    classes: set[Any] = {type(project.runner), *map(type, router.routers)}
    for alias in databases.alive(project):
        connection = databases.connection_of(alias)
        helpers = (
            connection,
            connection.creation,
            connection.ops,
            connection.features,
            connection.introspection,
        )
        classes.update(map(type, helpers), [connection.SchemaEditorClass])
    for model in _models():
        classes.update(map(type, model._meta.local_fields))
    for cls in classes - {None}:
        yield from (base.__module__ for base in cls.__mro__)
    yield from _receivers([signals.pre_migrate, signals.post_migrate], every=True)
    # Historical models send these signals, too, but only receivers of all senders get them.
    saving = [
        signals.pre_save,
        signals.post_save,
        signals.m2m_changed,
        signals.pre_delete,
        signals.post_delete,
    ]
    yield from _receivers(saving, every=False)


def _receivers(given: Iterable[Any], *, every: bool) -> Iterator[str]:
    for signal in given:
        for receiver in receivers_of(signal, every=every):
            yield from _modules(receiver)


def _modules(receiver: Any) -> Iterator[str]:
    """The modules with the code of a callable: function, partial, bound method or object."""
    while isinstance(receiver, functools.partial):
        receiver = receiver.func
    receiver = inspect.unwrap(receiver)
    owner = getattr(receiver, "__self__", receiver)
    classes = owner.__mro__ if isinstance(owner, type) else type(owner).__mro__
    yield from (base.__module__ for base in classes)
    yield str(getattr(receiver, "__module__", None) or "")
