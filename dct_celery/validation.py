"""Checks that a project's own tools and tests may call: `from dct_celery.security import ...`.

They ask the same guards, adapters and figures as a run, so what they refuse, a run refuses. The
databases are those of the configured Django settings; which names are allowed or denied comes from
`DCT_*` variables and `[tool.dct]`. What only some of them need is imported late.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict

from dct_celery import machine
from dct_celery.core.databases.names import MAX_BYTES
from dct_celery.core.text import first_of, one_line
from dct_celery.errors import ConfigError, GuardRefused
from dct_celery.security import guards, masking
from dct_celery.security.variables import ENV_VARS, get_env_var

if TYPE_CHECKING:
    from dct_celery.ports import DatabaseSpec
    from dct_celery.settings import Settings

log = logging.getLogger("dct_celery.security")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: Seconds between the two looks at how busy the processors are.
_LOOK = 0.1
_GIB = 2**30


class Resources(TypedDict):
    """`check_system_resources`. Sizes are in GiB."""

    cpu_count: int
    cpu_percent: float
    memory_available_gb: float
    memory_total_gb: float
    disk_free_gb: float
    safe_worker_count: int
    #: "2 slots: 2 cores", "3 of 8 slots: 1.2 GiB of memory free, 400 MiB a slot"
    safe_worker_reason: str


# -- the machine -----------------------------------------------------------------------


def get_safe_worker_count() -> int:
    """How many slots this machine has room for, at least 1: see `dct_celery.machine`.

    Raises MachineUnfit where its memory, or that of a control group, is less than one slot takes.
    """
    slots = machine.room()
    log.info("%s", slots.reason)
    return slots.count


def check_system_resources() -> Resources:
    """What this process may use of its machine now. Takes a tenth of a second.

    Cores and memory are those that affinity and control groups leave; the processors are all of the
    machine's, the disk is that of temporary files. Raises MachineUnfit as `get_safe_worker_count`.
    """
    busy, ticks = machine.processor_ticks()
    time.sleep(_LOOK)
    busy_after, ticks_after = machine.processor_ticks()
    found = machine.look()
    slots = machine.slots_of(found)
    return {
        "cpu_count": found.cores,
        # Waiting is counted so roughly that it may run backwards.
        "cpu_percent": min(
            round(100 * (busy_after - busy) / max(ticks_after - ticks, 1), 1), 100.0
        ),
        "memory_available_gb": found.free / _GIB,
        "memory_total_gb": found.memory / _GIB,
        "disk_free_gb": shutil.disk_usage(tempfile.gettempdir()).free / _GIB,
        "safe_worker_count": slots.count,
        "safe_worker_reason": slots.reason,
    }


def validate_file_permissions(path: str | os.PathLike[str]) -> None:
    """Raises GuardRefused if every user of the machine can change this file or folder.

    A folder with the sticky bit, such as /tmp, is fine, and so is what does not exist. That the
    group can change it is logged. Raises ConfigError if it cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)} cannot be looked at: {error.strerror}") from error
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return
    shown = f"{os.fspath(path)} (mode {stat.S_IMODE(mode):04o})"
    if mode & stat.S_IWOTH:
        raise GuardRefused(f"every user can change {shown}; chmod o-w {os.fspath(path)}")
    if mode & stat.S_IWGRP:
        log.warning("its group can change %s", shown)


# -- databases -------------------------------------------------------------------------


def validate_database_name(name: str) -> None:
    """Raises GuardRefused for a name that no test database may have.

    It looks like production and is not allowed by --allow-database, is denied by --deny-database,
    is longer than 63 bytes, where PostgreSQL would cut it, or has other characters than ASCII
    letters, digits, "_", "-" and ".".
    """
    if not _NAME.fullmatch(name):
        raise GuardRefused(
            f"the database name {name!r} is not made of letters, digits, '_', '-' and '.' alone;"
            " choose another one"
        )
    if len(name) > MAX_BYTES:
        raise GuardRefused(
            f"the database name {name!r} has {len(name)} bytes, and PostgreSQL would cut it to"
            f" {MAX_BYTES}; choose a shorter one"
        )
    settings = own_settings()
    guards.check(
        [guards.Configured(name, "", name, "", test=False, host="", port="", used=True)],
        facts={},
        allow=settings.allow_database,
        deny=settings.deny_database,
        deny_hosts=(),  # it is about a name alone
        addresses={},
    )


def validate_database_permissions(alias: str = "default") -> None:
    """Proves that this alias's role may make test databases on its server, as a worker does.

    SQLite has no roles: it passes. Raises PermissionException (DatabaseUnfit) with the statement
    that grants it, and for a server that is too old; UnsupportedDatabase for a vendor or driver
    that cannot be used; DatabaseError if the server does not answer; GuardRefused before anything
    is connected to.
    """
    from dct_celery.adapters.databases.select import server_for
    from dct_celery.bootstrap import guarding

    guarded(alias)
    spec = database_spec(alias)
    if spec.vendor == "sqlite":
        return
    with contextlib.closing(server_for(spec, Path(tempfile.gettempdir()))) as server:
        guarding.refuse_address(spec, server, own_settings())
        server.check()


def validate_environment(databases: Iterable[str] | None = None) -> list[str]:
    """Looks at what the guards of a run look at. Returns warnings, one line each.

    Args:
        databases: Aliases that tests use; default: all. Any other is refused only if it is
            production and on the server of one of these.

    Raises:
        GuardRefused: A variable such as DJANGO_ENV, the settings module or a configured database
            looks like production, or a host is denied.
        ConfigError: Django's settings are not configured, or DJANGO_TEST_WORKERS or
            DJANGO_TEST_TIMEOUT makes no sense.
    """
    from dct_celery.bootstrap import guarding
    from dct_celery.testproc.django import surroundings

    warnings = list(_warnings_of_variables())
    aliases = database_aliases()
    named = [databases] if isinstance(databases, str) else databases
    used = set(aliases if named is None else named)
    if unknown := sorted(used.difference(aliases)):
        raise _unknown(unknown[0], aliases)
    found = [configured(alias, used=alias in used) for alias in aliases]
    facts = {**surroundings.facts(), **guards.variables(os.environ)}
    return warnings + guarding.check(found, facts, own_settings())


def _warnings_of_variables() -> Iterator[str]:
    name = ENV_VARS["WORKER_COUNT"]
    workers = get_env_var(name, None, int)
    if workers is not None and workers < 1:
        raise ConfigError(f"{name}: {workers} is not valid; give 1 or more, or unset it")
    slots = machine.room()
    if workers is not None and workers > slots.count:
        yield f"{name} is {workers}, and this machine has room for {slots.reason}"
    name = ENV_VARS["TIMEOUT"]
    seconds = get_env_var(name, None, float)
    if seconds is not None and seconds <= 0:
        raise ConfigError(f"{name}: {seconds:g} is not valid; give seconds above 0, or unset it")


@contextlib.contextmanager
def security_context() -> Iterator[Resources]:
    """`validate_environment` before the block: its warnings are logged, its errors raised.

    Yields what `check_system_resources` finds.
    """
    for warning in validate_environment():
        log.warning("%s", warning)
    yield check_system_resources()


def guarded(alias: str, name: str = "") -> guards.Configured:
    """The alias as the guards see it, if they let it pass; `name`: of another database there.

    Raises GuardRefused; ConfigError for an alias that DATABASES does not have.
    """
    from dct_celery.bootstrap import guarding

    if alias not in (aliases := database_aliases()):
        raise _unknown(alias, aliases)
    found = {one: configured(one, used=one == alias) for one in aliases}
    settings = own_settings()
    guarding.check([*found.values()], {}, settings)
    if name:
        guarding.check([replace(found[alias], name=name, test_name="")], {}, settings)
    return found[alias]


def database_spec(alias: str) -> DatabaseSpec:
    """What an adapter needs to open the alias's server. Raises ConfigError."""
    from dct_celery.ports import DatabaseSpec

    with _django() as databases:
        return DatabaseSpec.from_dict({**databases.address(alias), "aliases": [alias]})


def configured(alias: str, *, used: bool) -> guards.Configured:
    """The alias as the guards see it.

    While tests run, NAME is that of the test database; that this is the name which Django would
    give it is then no reason to refuse it.
    """
    from dct_celery.testproc.django import surroundings

    with _django() as databases:
        row = databases.configured_alias(alias, used=used)
    if surroundings.saved_environment() is not None:
        row["test_name"] = ""
    return guards.Configured.from_dict(row)


def database_aliases() -> list[str]:
    """All of DATABASES. Raises ConfigError."""
    from django.db import connections

    with _django():
        return list(connections)


def _unknown(alias: str, aliases: list[str]) -> ConfigError:
    return ConfigError(
        f"DATABASES has no alias {alias!r}; it has {first_of([repr(one) for one in aliases])}"
    )


@contextlib.contextmanager
def _django() -> Iterator[ModuleType]:
    """`testproc.django.databases`. Raises ConfigError for settings that Django cannot use."""
    from django.core.exceptions import ImproperlyConfigured

    from dct_celery.testproc.django import databases

    try:
        yield databases
    except (ImproperlyConfigured, ImportError) as error:
        raise ConfigError(
            f"Django's settings cannot be used: {one_line(str(error))}; set DJANGO_SETTINGS_MODULE,"
            " or call settings.configure(), before this"
        ) from error


def own_settings() -> Settings:
    """Those of a run that is started here. Raises ConfigError."""
    from dct_celery.settings import load

    return load({}, env=os.environ, cwd=Path.cwd())[0]


# -- logs ------------------------------------------------------------------------------


def sanitize_log_output(text: str) -> str:
    """The text with every secret in it replaced by `**`: what a run masks in its own output.

    By value: those of variables that are named like a secret, passwords in URLs, and, where
    Django's settings are loaded, those of DATABASES and SECRET_KEY. By their surroundings:
    `password=…`, `"api_key": "…"`, passwords of URLs, and the like.
    """
    return masking.PROCESS.values(_masker(frozenset(_secrets()))(text))


@functools.lru_cache(1)
def _masker(values: frozenset[str]) -> masking.Masker:
    return masking.Masker(values)


def _secrets() -> Iterator[str]:
    yield from masking.secrets_of_environment(os.environ)
    conf = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured:
        return
    # Django's own way to it refuses an empty one.
    yield str(getattr(conf.settings._wrapped, "SECRET_KEY", ""))
    databases = getattr(conf.settings, "DATABASES", {})
    yield from masking.secrets_of_databases(
        {"alias": alias, **{key.lower(): value for key, value in database.items()}}
        for alias, database in databases.items()
    )
