"""The one door of every connection of a test process, whichever thread, copy or pool it is opened
for.

An alias that the selection does not set up leads nowhere: its settings are replaced in place, so
that whoever makes a wrapper of them, in another thread or another event loop, by copy() or
create_connection(), has no address to go to; and the door says why. An alias that is set up leads
to its clone and to nothing else: what a connection is really on is asked of the connection, as
OPTIONS, service files, pools that were opened earlier and settings that a runner changes late all
have their say in it.

Installed in forks, never in the loader.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dct_celery.core.databases.server_identity import CURRENT, IDENTITY

#: Below a file that is no folder: no socket, and no database file, whoever may write where.
_NOWHERE = "/dev/null/not-set-up"
#: Key that poisoned settings carry into every copy of them: the alias.
_POISON = "DCT_NOT_SET_UP"
#: OPTIONS that say where to go; those of other vendors go altogether.
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
    """A connection of the project is not on the database that it was given. One line: alias, where
    it is, why, the mend.
    """


@dataclass(slots=True)
class _Doors:
    """What this process knows; empty until `install`."""

    poisoned: set[str] = field(default_factory=set)
    #: Alias -> name of the database that it was given; of a file, its path.
    given: dict[str, str] = field(default_factory=dict)
    #: Names that the project has configured, where tests are to come near none of them.
    configured: frozenset[str] = frozenset()
    installed: bool = False


_doors = _Doors()


def install(given: Mapping[str, str], *, strict: bool) -> None:
    """From now on the aliases lead to these databases alone. Not `strict` while they are made:
    where the database `postgres` is closed, Django creates them over a connection to a configured
    one.
    """
    from django.db import connections
    from django.db.backends.base.base import BaseDatabaseWrapper

    _doors.given = dict(given)
    if _doors.installed:
        return
    _doors.installed = True
    wrappers = [connections[alias] for alias in connections]
    if strict:
        _doors.configured = frozenset(
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
    """These lead nowhere any more."""
    from django.conf import settings
    from django.db import connections

    for alias in set(aliases):
        wrapper: Any = connections[alias]
        let_go(wrapper)
        _doors.poisoned.add(alias)
        for data in (
            wrapper.settings_dict,
            connections.settings[alias],
            settings.DATABASES.get(alias, {}),
        ):
            _lead_nowhere(data, alias, wrapper)


def let_go(wrapper: Any) -> None:
    """Ends its session, and those that wait in its pool: they are on the database that was
    configured when it was opened.
    """
    wrapper.close()
    if wrapper.alias in getattr(wrapper, "_connection_pools", ()):
        wrapper.close_pool()


def prove(wrapper: Any, name: str, identity: str = "") -> None:
    """Asks the connection which database it is on, and which server (empty: any). Raises
    WrongDatabase.
    """
    wrapper.ensure_connection()
    raw, query = wrapper.connection, CURRENT.get(wrapper.vendor)
    here = _asked(wrapper, raw, query) if query else _told(wrapper, raw)
    if here is not None and not _same(wrapper, here, name):
        raise WrongDatabase(_elsewhere(wrapper.alias, here, name))
    if (
        identity
        and wrapper.vendor in IDENTITY
        and (other := _asked(wrapper, raw, IDENTITY[wrapper.vendor])) != identity
    ):
        raise WrongDatabase(_other_server(wrapper, identity, other))


def prove_server(wrapper: Any, identity: str) -> None:
    """The same of the server alone, before there is a database. Raises WrongDatabase."""
    if not identity or wrapper.vendor not in IDENTITY:
        return
    with wrapper._nodb_cursor() as cursor:
        cursor.execute(IDENTITY[wrapper.vendor])
        other = _text(cursor.fetchone()[0])
    if other != identity:
        raise WrongDatabase(_other_server(wrapper, identity, other))


def prove_settings(runner: Any) -> None:
    """That everybody who connects from now on comes to the given databases, too. Raises
    WrongDatabase.
    """
    from django.conf import settings
    from django.db import connections

    for alias, name in _doors.given.items():
        for data in (
            connections[alias].settings_dict,
            connections.settings[alias],
            settings.DATABASES[alias],
        ):
            if str(data["NAME"]) != name:
                raise WrongDatabase(
                    f"database {alias!r}: its NAME is {data['NAME']!r} after"
                    f" {type(runner).__qualname__}.setup_databases, and not {name!r}, which it was"
                    " given; no test runs there: leave NAME as Django's setup_databases sets it"
                )


# -- at the door ---------------------------------------------------------------------------


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
        wrapper.alias if wrapper.alias in _doors.poisoned else ""
    )
    if alias:
        from django.utils.connection import ConnectionDoesNotExist

        raise ConnectionDoesNotExist(
            f"database {alias!r} was not set up: no selected test declares it (or what it mirrors)"
            " in `databases`. In a sequential run this connection would have reached the database"
            " configured for production."
        )


def _refuse_elsewhere(wrapper: Any, made: Any) -> None:
    """A connection that was meant for the clone and is on another database; or one of this alias on
    a configured database, whatever it was meant for. Tests may go to other databases, which they
    have made.
    """
    name = _doors.given.get(wrapper.alias)
    if name is None or (here := _told(wrapper, made)) is None or _same(wrapper, here, name):
        return
    if str(wrapper.settings_dict.get("NAME")) == name or any(
        _same(wrapper, here, one) for one in _doors.configured
    ):
        # Not back to a pool.
        made.close()
        raise WrongDatabase(_elsewhere(wrapper.alias, here, name))


def _told(wrapper: Any, raw: Any) -> str | None:
    """The database that a driver's new connection is on; None where it has no name, or none that we
    know how to learn.

    PostgreSQL is not asked, as every connection of every thread comes by here: its client library
    knows.
    """
    if wrapper.vendor == "postgresql":
        return str(raw.info.dbname)
    if wrapper.vendor == "sqlite":
        rows = raw.execute("PRAGMA database_list").fetchall()
        return next((row[2] for row in rows if row[1] == "main"), "") or None
    return _asked(wrapper, raw, CURRENT[wrapper.vendor]) if wrapper.vendor in CURRENT else None


def _asked(wrapper: Any, raw: Any, query: str) -> str:
    """On the driver's own cursor: no log and no count of the project's sees it. A transaction that
    this begins is ended.
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
    # There is nothing to reach in memory, and Django asks by NAME whether it lives there.
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
        f"database {alias!r}: its connection is on {here!r}, and not on {name!r}, which it was"
        " given; no test runs there: look at OPTIONS, at connections and pools that were opened"
        " before, at poolers, and at what sets NAME"
    )


def _other_server(wrapper: Any, identity: str, other: str) -> str:
    host = wrapper.settings_dict.get("HOST") or "(none)"
    return (
        f"database {wrapper.alias!r}: tests and worker reach different servers (HOST {host};"
        f" {other} and {identity}); no test runs there: look at PGHOST and the like, service and"
        " options files, and what the host's name resolves to"
    )
