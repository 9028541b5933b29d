"""Facts about a PostgreSQL server: whether we can use it, what slows it, its free connections."""

from __future__ import annotations

from collections.abc import Iterable

from dct_celery.adapters.databases.postgres.session import PostgresSession
from dct_celery.errors import DatabaseUnfit

#: The first server_version_num that knows every statement of ours.
OLDEST = 140000
_FEW_CONNECTIONS = 50
_SLOW = {
    "fsync": "on: every clone waits for the disk; on a server for test data alone: fsync = off",
    "full_page_writes": (
        "on: clones are written twice; on a server for test data alone: full_page_writes = off"
    ),
    "autovacuum": (
        "on: it works on clones that are soon dropped; on a server for test data alone: "
        "autovacuum = off"
    ),
}


def check(session: PostgresSession) -> None:
    """Raises DatabaseUnfit, which says how to fix it."""
    version, where = session.version(), f"database {session.alias!r} on {session.where}"
    if version < OLDEST:
        raise DatabaseUnfit(
            f"{where}: PostgreSQL {dotted(version)} is too old to be cloned from; "
            f"use version {OLDEST // 10000} or later"
        )
    if session.passes_through_a_pooler():
        raise DatabaseUnfit(
            f"{where}: a connection pooler (PgBouncer or the like) is in between, "
            "which keeps neither CREATE DATABASE nor advisory locks on one session; "
            "set HOST and PORT of the test settings to the server itself"
        )
    if session.row("SELECT pg_is_in_recovery()")[0]:
        raise DatabaseUnfit(
            f"{where} is a read-only replica; set HOST and PORT of the test settings to the "
            "primary server"
        )
    role, allowed = session.row(
        "SELECT current_user, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    )
    if not allowed:
        raise DatabaseUnfit(
            f'{where}: role {role!r} may not create databases; as a superuser: ALTER ROLE "{role}"'
            " CREATEDB"
        )


def warnings(session: PostgresSession, not_carried: Iterable[str] = ()) -> list[str]:
    """One line for each setting that is slow or unlikely on a server for tests.

    `not_carried`: roles whose settings clones lack.
    """
    settings = dict(
        session.rows(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)",
            [[*_SLOW, "max_connections"]],
        )
    )
    role, powerful = session.row(
        "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
    )
    (slots,) = session.row("SELECT count(*) FROM pg_replication_slots")
    lines = [f"{name} is {text}" for name, text in _SLOW.items() if settings.get(name) == "on"]
    if int(settings["max_connections"]) < _FEW_CONNECTIONS:
        lines.append(
            f"max_connections is {settings['max_connections']}: few slots can work at once; "
            "raise it to 200"
        )
    if powerful:
        lines.append(
            f"role {role!r} is a superuser; one with CREATEDB alone is enough and safer: "
            "CREATE ROLE … LOGIN CREATEDB"
        )
    if slots:
        lines.append(
            f"the server has {slots} replication slots, as a production server has; "
            "use one for tests alone"
        )
    lines += [
        f"settings of role {one!r} for the template are not carried to clones: {role!r} may not"
        for one in sorted(not_carried)
    ]
    return [f"{session.where}: {line}" for line in lines]


def facts(session: PostgresSession) -> dict[str, str]:
    """What the server contributes to a template's contents; "" for what is unknown."""
    version = session.version()
    later = (
        "datlocprovider::text, coalesce(datcollversion, ''), "
        "coalesce(pg_database_collation_actual_version(oid), '')"
    )
    query = (
        "SELECT pg_encoding_to_char(encoding), datcollate::text, datctype::text, "
        "current_user::text, "
        f"{later if version >= 150000 else repr('') + ', ' + repr('') + ', ' + repr('')} "
        "FROM pg_database WHERE datname = 'template1'"
    )
    names = (
        "encoding",
        "collate",
        "ctype",
        "role",
        "locale_provider",
        "collation_version",
        "collation_actual_version",
    )
    return {
        "vendor": "postgresql",
        "version": dotted(version),
        **dict(zip(names, map(str, session.row(query)), strict=True)),
    }


def capacity(session: PostgresSession) -> int:
    """Free connections for this role, never below 0."""
    limits = (
        "SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END) "
        "FROM pg_settings WHERE name IN ('max_connections', 'superuser_reserved_connections', "
        "'reserved_connections')"
    )
    used = (
        "SELECT count(*), count(*) FILTER (WHERE usename = current_user) FROM pg_stat_activity "
        "WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'"
    )
    (most,), (all_used, own_used) = session.row(limits), session.row(used)
    (own,) = session.row("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user")
    free = int(most) - int(all_used)
    return max(0, free if own < 0 else min(free, int(own) - int(own_used)))


def dotted(version: int) -> str:
    """150018 -> "15.18"."""
    return f"{version // 10000}.{version % 10000}"
