"""Guards every connection of a test process, in whichever thread, copy or pool it is opened.

An alias that the selection does not set up leads nowhere. Its settings are replaced in place, so
that a wrapper that is made of them in another thread or event loop, by copy() or
create_connection(), has no address to connect to; the guard then says why. An alias that is set up
leads to its clone only. Which database a connection is really on is asked of the connection, as
OPTIONS, service files, pools that were opened earlier and settings that a runner changes late can
all change it.

Installed in forks, never in the loader.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dct_celery.core.databases.server_identity import CURRENT, IDENTITY

#: A path below a file: neither a socket nor a database file can ever be created there.
_NOWHERE = "/dev/null/not-set-up"
#: Key of the alias in poisoned settings, present in every copy of them.
_POISON = "DCT_NOT_SET_UP"
#: OPTIONS that say where to connect to; for other vendors all of them are removed.
_LEADING = {
    "postgresql": ("dbname", "host", "hostaddr", "port", "service", "passfile", "pool"),
    "mysql": (
        "db",
        "database",
        "host",
        "port",
        "unix_socket",
        "read_default_file",
        "read_default_group",
    ),
}


class WrongDatabase(Exception):
    """A connection of the project is not on its assigned database.

    One line: alias, where it is, why, the fix.
    """


@dataclass(slots=True)
class _Guarded:
    """The assignments of this process; empty until `install`."""

    poisoned: set[str] = field(default_factory=set)
    #: Alias -> name of the assigned database; for a file, its path.
    given: dict[str, str] = field(default_factory=dict)
    #: Names of configured databases that tests must not reach.
    configured: frozenset[str] = frozenset()
    installed: bool = False


_guarded = _Guarded()


def install(given: Mapping[str, str], *, strict: bool) -> None:
    """From now on the aliases lead to these databases only.

    Not `strict` while databases are created: where the database `postgres` is closed, Django
    creates them over a connection to a configured one.
    """
    from django.db import connections
    from django.db.backends.base.base import BaseDatabaseWrapper

    _guarded.given = dict(given)
    if _guarded.installed:
        return
    _guarded.installed = True
    wrappers = [connections[alias] for alias in connections]
    if strict:
        _guarded.configured = frozenset(
            str(wrapper.settings_dict.get("NAME") or "") for wrapper in wrappers
        ) - {""}
    _guard(BaseDatabaseWrapper, "connect", before=_refuse_poisoned)
    makers = {
        cls
        for wrapper in wrappers
        for cls in type(wrapper).__mro__
        if "get_new_connection" in vars(cls)
    }
    for cls in makers - {BaseDatabaseWrapper}:
        _guard(cls, "get_new_connection", before=_refuse_poisoned, after=_refuse_elsewhere)


def poison(aliases: Iterable[str]) -> None:
    """Makes these aliases lead nowhere."""
    from django.conf import settings
    from django.db import connections

    for alias in set(aliases):
        wrapper: Any = connections[alias]
        end_sessions(wrapper)
        _guarded.poisoned.add(alias)
        for data in (
            wrapper.settings_dict,
            connections.settings[alias],
            settings.DATABASES.get(alias, {}),
        ):
            _lead_nowhere(data, alias, wrapper)


def end_sessions(wrapper: Any) -> None:
    """Ends the wrapper's session, and those in its pool.

    They are on the database that was configured when they were opened.
    """
    wrapper.close()
    if wrapper.alias in getattr(wrapper, "_connection_pools", ()):
        wrapper.close_pool()


def prove(wrapper: Any, name: str, identity: str = "") -> None:
    """Proves that the connection is on this database and on this server (empty: any).

    Raises WrongDatabase.
    """
    wrapper.ensure_connection()
    raw, query = wrapper.connection, CURRENT.get(wrapper.vendor)
    here = _query(wrapper, raw, query) if query else _database_of(wrapper, raw)
    if here is not None and not _same(wrapper, here, name):
        raise WrongDatabase(_elsewhere(wrapper.alias, here, name))
    if (
        identity
        and wrapper.vendor in IDENTITY
        and (other := _query(wrapper, raw, IDENTITY[wrapper.vendor])) != identity
    ):
        raise WrongDatabase(_other_server(wrapper, identity, other))


def prove_in_memory(wrapper: Any) -> None:
    """Proves that a test database in memory is not still the configured file. Raises
    WrongDatabase.
    """
    if not wrapper.is_in_memory_db():
        raise WrongDatabase(
            f"database {wrapper.alias!r}: it is still {wrapper.settings_dict['NAME']!r} once the"
            " project has set up its databases, and no test runs there: leave them to Django's"
            " setup_databases"
        )


def prove_server(wrapper: Any, identity: str) -> None:
    """Proves the server alone, before there is a database. Raises WrongDatabase."""
    if not identity or wrapper.vendor not in IDENTITY:
        return
    with wrapper._nodb_cursor() as cursor:
        cursor.execute(IDENTITY[wrapper.vendor])
        other = _text(cursor.fetchone()[0])
    if other != identity:
        raise WrongDatabase(_other_server(wrapper, identity, other))


def prove_settings(runner: Any) -> None:
    """Proves that new connections will lead to the assigned databases. Raises WrongDatabase."""
    from django.conf import settings
    from django.db import connections

    for alias, name in _guarded.given.items():
        for data in (
            connections[alias].settings_dict,
            connections.settings[alias],
            settings.DATABASES[alias],
        ):
            if str(data["NAME"]) != name:
                raise WrongDatabase(
                    f"database {alias!r}: its NAME is {data['NAME']!r} after "
                    f"{type(runner).__qualname__}.setup_databases, and not {name!r}, "
                    "which it was assigned; no test runs there: "
                    "leave NAME as Django's setup_databases sets it"
                )


# -- the guard -----------------------------------------------------------------------------


def _guard(
    cls: Any,
    method: str,
    *,
    before: Callable[[Any], None],
    after: Callable[[Any, Any], None] = lambda wrapper, made: None,
) -> None:
    original = vars(cls)[method]

    @functools.wraps(original)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        before(self)
        made = original(self, *args, **kwargs)
        after(self, made)
        return made

    setattr(cls, method, guarded)


def _refuse_poisoned(wrapper: Any) -> None:
    alias = wrapper.settings_dict.get(_POISON) or (
        wrapper.alias if wrapper.alias in _guarded.poisoned else ""
    )
    if alias:
        from django.utils.connection import ConnectionDoesNotExist

        raise ConnectionDoesNotExist(
            f"database {alias!r} was not set up: no selected test declares it (or what it mirrors) "
            "in `databases`. In a sequential run this connection would have reached the database "
            "configured for production."
        )


def _refuse_elsewhere(wrapper: Any, made: Any) -> None:
    """Refuses a connection of the alias that is not on its clone.

    Also one on a configured database, whatever it was meant for. Tests may use other databases that
    they have created.
    """
    name = _guarded.given.get(wrapper.alias)
    if name is None or (here := _database_of(wrapper, made)) is None or _same(wrapper, here, name):
        return
    if str(wrapper.settings_dict.get("NAME")) == name or any(
        _same(wrapper, here, one) for one in _guarded.configured
    ):
        # Closed, and not returned to a pool.
        made.close()
        raise WrongDatabase(_elsewhere(wrapper.alias, here, name))


def _database_of(wrapper: Any, raw: Any) -> str | None:
    """The database that a driver's new connection is on.

    None where it has no name, or none that we can find out. For PostgreSQL the client library knows
    it; the server is not asked, as every connection of every thread passes here.
    """
    if wrapper.vendor == "postgresql":
        return str(raw.info.dbname)
    if wrapper.vendor == "sqlite":
        rows = raw.execute("PRAGMA database_list").fetchall()
        return next((row[2] for row in rows if row[1] == "main"), "") or None
    return _query(wrapper, raw, CURRENT[wrapper.vendor]) if wrapper.vendor in CURRENT else None


def _query(wrapper: Any, raw: Any, query: str) -> str:
    """Runs a query on the driver's own cursor, which the project neither logs nor counts.

    A transaction that this begins is ended.
    """
    was_idle = wrapper.vendor == "postgresql" and raw.info.transaction_status == 0
    with raw.cursor() as cursor:
        cursor.execute(query)
        answer = cursor.fetchone()[0]
    if was_idle and raw.info.transaction_status != 0:
        raw.rollback()
    return _text(answer)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _same(wrapper: Any, one: str, other: str) -> bool:
    if wrapper.vendor == "sqlite":
        return os.path.realpath(one) == os.path.realpath(other)
    return one.lower() == other.lower() if wrapper.vendor == "mysql" else one == other


def _lead_nowhere(data: dict[str, Any], alias: str, wrapper: Any) -> None:
    data[_POISON] = alias
    # A database in memory has no address, and Django asks by NAME whether it is one.
    if not (
        wrapper.vendor == "sqlite" and wrapper.creation.is_in_memory_db(data.get("NAME") or "")
    ):
        data["NAME"] = _NOWHERE
    data.update(HOST=_NOWHERE, PORT="1", PASSWORD="")
    options, leading = data.get("OPTIONS") or {}, _LEADING.get(wrapper.vendor)
    data["OPTIONS"] = {
        key: value for key, value in options.items() if leading is not None and key not in leading
    }


def _elsewhere(alias: str, here: str, name: str) -> str:
    return (
        f"database {alias!r}: its connection is on {here!r}, and not on {name!r}, "
        "which it was assigned; no test runs there: "
        "check OPTIONS, connections and pools that were opened before, poolers, and what sets NAME"
    )


def _other_server(wrapper: Any, identity: str, other: str) -> str:
    host = wrapper.settings_dict.get("HOST") or "(none)"
    return (
        f"database {wrapper.alias!r}: tests and worker reach different servers (HOST {host}; "
        f"{other} and {identity}); no test runs there: "
        "check PGHOST and the like, service and options files, "
        "and what the host's name resolves to"
    )
