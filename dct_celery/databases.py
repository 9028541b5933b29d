"""Databases of tests, for tools and tests of projects: end sessions, wait, count connections.

They use the connections of Django's settings. What the guards of a run refuse is not touched
(`validation.guarded`), and sessions are ended on test databases alone.
"""

from __future__ import annotations

import contextlib
import math
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from dct_celery import validation
from dct_celery.core.databases.names import OURS
from dct_celery.core.text import first_of, one_line, plural
from dct_celery.errors import (
    ConfigError,
    DatabaseCloneException,
    DatabaseError,
    GuardRefused,
    PermissionException,
    UnsupportedDatabase,
)
from dct_celery.testproc.django.databases import connection_of
from dct_celery.testproc.django.surroundings import saved_environment

__all__ = [
    "PoolStats",
    "get_connection_pool_stats",
    "terminate_connections",
    "wait_for_database_ready",
]

#: Seconds that ended sessions get to disappear.
_PATIENCE = 5.0
#: Seconds that one attempt to connect may take.
_CONNECT = 60.0
#: Seconds between two looks.
_PAUSE = 0.1
#: What Django puts before NAME.
_TEST = "test_"
#: What follows the name of a test database in that of its copies: those of `--parallel`, and
#: `template_db` of `testing.fixtures`.
_COPY = r"(_\d+|_t[0-9a-f]{6})?"
#: PostgreSQL hides the type of another role's session.
_SESSIONS = {
    "postgresql": (
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        " AND coalesce(backend_type, 'client backend') = 'client backend'"
    ),
    "mysql": (
        "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()"
    ),
}
_END = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
#: MySQL's error for a session that is gone already.
_NO_SUCH_THREAD = 1094


class PoolStats(TypedDict):
    """Numbers of connections: see `get_connection_pool_stats`."""

    total_connections: int
    #: Aliases that have at least one.
    connection_keys: list[str]
    active: int
    pool_size: int
    pooled: int
    hits: int
    misses: int


def terminate_connections(name: str, vendor: str, using: str | None = None) -> int:
    """Ends every session on a test database but this thread's own, and returns how many there were.

    Args:
        name: The database: one with our name and mark, or the test database of an alias, or a copy
            of that ("test_shop_1").
        vendor: "postgresql", "mysql" (MariaDB, too) or "sqlite", whose files have no sessions.
        using: The alias that leads to the server; default: the first one of that vendor.

    Raises:
        GuardRefused: It is none of these, or the guards refuse it.
        UnsupportedDatabase: No alias is of that vendor.
        PermissionException: The role may not end another role's sessions.
        DatabaseError: The server does not answer, or a session does not end.
        ConfigError: `using` is no alias, or one of another vendor.
    """
    wanted = "sqlite" if vendor == "sqlite3" else vendor
    alias = using or _alias_of(wanted)
    one = validation.guarded(alias, name)
    if one.vendor != wanted:
        raise ConfigError(f"database {alias!r} is of vendor {one.vendor!r} and not {vendor!r}")
    if one.vendor == "sqlite":
        return 0
    if one.vendor not in _SESSIONS:
        raise UnsupportedDatabase(
            f"database {alias!r} is of vendor {one.vendor!r}, whose sessions cannot be ended from"
            " here; end them by that server's own means"
        )
    if not _is_test_database(alias, name) and not _is_ours(alias, name):
        raise GuardRefused(
            f"{name!r} is neither the test database of an alias nor one that we have made; end its"
            " sessions by the server's own means"
        )
    with _maintenance(alias, name) as cursor:
        sessions = _sessions(cursor, one.vendor, name)
        for session in sessions:
            _end(cursor, alias, one.vendor, session)
        until = time.monotonic() + _PATIENCE
        while left := sessions & _sessions(cursor, one.vendor, name):
            if time.monotonic() > until:
                raise DatabaseError(
                    f"{plural(len(left), 'session')} on {name!r} did not end within {_PATIENCE:g} s"
                )
            time.sleep(_PAUSE)
    return len(sessions)


def wait_for_database_ready(name: str, timeout: float = 30, using: str = "default") -> bool:
    """True as soon as a connection to this database answers a query.

    Args:
        name: A database on the server of the alias; for SQLite a file, which is not created.
        timeout: Seconds; 0: it is tried once.
        using: The alias that says how to connect.

    Raises:
        DatabaseCloneException: It is not ready by then. The message has the last reason.
        GuardRefused: The guards refuse it; nothing was connected to.
        ConfigError: `name` is empty, `timeout` is below 0, or `using` is no alias.
    """
    if not name:  # drivers take it for any database
        raise ConfigError(f"name is {name!r}; give that of a database")
    if not timeout >= 0:
        raise ConfigError(f"timeout is {timeout}; give seconds, 0 or more")
    one = validation.guarded(using, name)
    until = time.monotonic() + timeout
    while True:
        left = until - time.monotonic()
        why = _why_not_ready(using, name, min(max(left, 1.0), _CONNECT))
        if not why:
            return True
        if left <= 0:
            raise DatabaseCloneException(
                f"the database {name!r} on {one.where} is not ready after {timeout:g} s: {why}"
            )
        time.sleep(min(_PAUSE, left))


def get_connection_pool_stats() -> PoolStats:
    """Connections that Django holds here: those of this thread, and all in the pools it has used.

    `active` are in use, `pooled` idle in a pool (OPTIONS["pool"], PostgreSQL). `pool_size` are all
    of the pools; `hits` their requests that got a connection at once, `misses` those that waited.
    Without a pool these four are 0.
    """
    from django.db import connections

    stats: PoolStats = {
        "total_connections": 0,
        "connection_keys": [],
        "active": 0,
        "pool_size": 0,
        "pooled": 0,
        "hits": 0,
        "misses": 0,
    }
    for wrapper in connections.all(initialized_only=True):
        pool = getattr(type(wrapper), "_connection_pools", {}).get(wrapper.alias)
        if pool is not None:
            of_pool = pool.get_stats()
            size, idle = of_pool.get("pool_size", 0), of_pool.get("pool_available", 0)
            queued = of_pool.get("requests_queued", 0)
            stats["pool_size"] += size
            stats["pooled"] += idle
            stats["hits"] += of_pool.get("requests_num", 0) - queued
            stats["misses"] += queued
        else:
            size, idle = int(wrapper.connection is not None), 0
        stats["active"] += size - idle
        stats["total_connections"] += size
        stats["connection_keys"] += [wrapper.alias] if size else []
    return stats


# -- which databases -------------------------------------------------------------------


def _alias_of(vendor: str) -> str:
    """`default`, if it is of that vendor, else the first one that is."""
    aliases = sorted(validation.database_aliases(), key=lambda alias: alias != "default")
    vendors = {alias: validation.configured(alias, used=False).vendor for alias in aliases}
    for alias in aliases:
        if vendors[alias] == vendor:
            return alias
    raise UnsupportedDatabase(
        f"no database in DATABASES is of vendor {vendor!r}; there is"
        f" {first_of([f'{alias} ({vendors[alias]})' for alias in aliases])}"
    )


def _is_test_database(alias: str, name: str) -> bool:
    """Whether it is the test database of the alias, or a copy that Django made of it."""
    connection = connection_of(alias)
    test = connection.creation._get_test_db_name()
    if saved_environment() is not None:
        # Django has put its name into NAME, if a test uses the alias.
        own, given = connection.settings_dict["NAME"], connection.settings_dict["TEST"]["NAME"]
        test = own if own == given or str(own).startswith(_TEST) else ""
    return bool(test) and re.fullmatch(re.escape(test) + _COPY, name) is not None


def _is_ours(alias: str, name: str) -> bool:
    from dct_celery.adapters.databases.select import server_for

    if not OURS.match(name):
        return False
    spec = validation.database_spec(alias)
    with contextlib.closing(server_for(spec, Path(tempfile.gettempdir()))) as server:
        return server.find(name) is not None


# -- servers ---------------------------------------------------------------------------


@contextlib.contextmanager
def _maintenance(alias: str, name: str) -> Iterator[Any]:
    """A cursor on the server, on none of the project's databases. Raises DatabaseError.

    On PostgreSQL, which has no session without a database, that is `postgres`, or the test database
    where the role may not connect to that.
    """
    import django.db

    postgres = connection_of(alias).vendor == "postgresql"
    with contextlib.ExitStack() as stack:
        for database in ("postgres", name) if postgres else ("",):
            wrapper = stack.enter_context(contextlib.closing(_copy(alias, database, _PATIENCE)))
            try:
                cursor = stack.enter_context(wrapper.cursor())
                break
            except django.db.Error as error:
                why = error
        else:
            raise DatabaseError(f"database {alias!r}: {one_line(str(why))}") from why
        yield cursor


def _copy(alias: str, name: str, seconds: float) -> Any:
    """A wrapper like the alias's for another database of its server.

    `seconds`: how long connecting may take, if OPTIONS does not say.
    """
    wrapper: Any = connection_of(alias).copy()
    # A pool would give out its connections, which are on the alias's own database.
    options = {
        key: value for key, value in wrapper.settings_dict["OPTIONS"].items() if key != "pool"
    }
    wrapper.settings_dict |= {
        "NAME": name,
        "OPTIONS": {"connect_timeout": math.ceil(seconds), **options},
    }
    return wrapper


def _sessions(cursor: Any, vendor: str, name: str) -> set[int]:
    cursor.execute(_SESSIONS[vendor], [name])
    return {int(row[0]) for row in cursor.fetchall()} - _own_sessions(vendor)


def _own_sessions(vendor: str) -> set[int]:
    """Those of this thread, as the driver knows them."""
    from django.db import connections

    raw: list[Any] = [
        wrapper.connection
        for wrapper in connections.all(initialized_only=True)
        if wrapper.vendor == vendor and wrapper.connection is not None
    ]
    return {one.info.backend_pid if vendor == "postgresql" else one.thread_id() for one in raw}


def _end(cursor: Any, alias: str, vendor: str, session: int) -> None:
    import django.db

    try:
        cursor.execute(_END[vendor].format(session))
    except django.db.Error as error:
        if error.args and error.args[0] == _NO_SUCH_THREAD:
            return
        raise PermissionException(
            f"database {alias!r}: session {session} cannot be ended: {one_line(str(error))}; use"
            " the role that opened it"
        ) from error


def _why_not_ready(alias: str, name: str, seconds: float) -> str:
    """Empty if a connection answers."""
    import django.db

    connection = connection_of(alias)
    if connection.vendor == "sqlite":
        return "" if connection.creation.is_in_memory_db(name) else _why_file_is_not_ready(name)
    with contextlib.closing(_copy(alias, name, seconds)) as wrapper:
        try:
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT 1")
        except django.db.Error as error:
            return one_line(str(error))
    return ""


def _why_file_is_not_ready(name: str) -> str:
    try:
        uri = f"{Path(name).absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        return str(error)
    return ""
