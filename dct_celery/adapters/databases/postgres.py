"""PostgreSQL: templates and clones by CREATE DATABASE … TEMPLATE.

A template that somebody is connected to cannot be copied (the server waits five seconds and refuses), so a sealed template
takes no connections. The copy lacks database-level settings and comments: both are set again on the clone. Only names that
match our pattern and carry our mark (the comment) are dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from dct_celery.core.names import OURS
from dct_celery.errors import CloneFailed, DatabaseError
from dct_celery.ports import DatabaseSpec

#: Beginning of the comment on every database of ours.
MARK = "dct"
#: libpq options that may come from Django's OPTIONS.
_LIBPQ = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "service", "passfile", "options", "target_session_attrs",
     "keepalives", "keepalives_idle", "channel_binding", "gssencmode", "krbsrvname", "client_encoding"}
)  # fmt: skip
#: Databases tried for statements that need none of their own, first one first. Never the configured one: that is production.
_MAINTENANCE = ("postgres", "template1")


#: Settings that hold lists of quoted names; every other one goes back as one text, commas or not (as in pg_dump).
_LISTS = frozenset(
    {"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces"}
)
_LIST_ITEM = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


class PostgresServer:
    """One server, over one connection to its maintenance database, made when first needed."""

    local = False

    def __init__(self, spec: DatabaseSpec) -> None:
        self._spec = spec
        self._connection: psycopg.Connection[Any] | None = None

    def check(self) -> None:
        role, allowed = self._one("SELECT current_user, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
        if not allowed:
            raise DatabaseError(
                f"role {role!r} may not create databases on {self._where()} (alias {self._spec.alias!r}); "
                f'as a superuser: ALTER ROLE "{role}" CREATEDB'
            )

    def place(self, name: str) -> str:
        return name

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        # Advisory locks are per database: all workers take theirs on the same maintenance database. A dead holder's
        # session ends, and the lock with it.
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        with self._open() as connection:
            with self._translated():
                connection.execute("SELECT pg_advisory_lock(%s)", [key])
            yield

    def is_ready(self, template: str) -> bool:
        comment = self._comment(template)
        return comment is not None and comment.startswith(f"{MARK} template ")

    def seal(self, template: str, mark: str) -> None:
        name = sql.Identifier(template)
        self._run(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true").format(name))
        self._comment_on(template, f"{MARK} template {mark}")

    def clone(self, template: str, name: str, mark: str) -> None:
        strategy = sql.SQL(" STRATEGY = {}").format(sql.SQL(self._strategy())) if self._version() >= 150000 else sql.SQL("")
        try:
            self._run(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}{}").format(sql.Identifier(name), sql.Identifier(template), strategy)
            )
            self._comment_on(name, f"{MARK} clone {mark}")
            self._copy_settings(template, name)
        except DatabaseError as error:
            if not isinstance(error.__cause__, psycopg.errors.DuplicateDatabase):  # that one is somebody else's
                with contextlib.suppress(DatabaseError):
                    self._force_drop(name)
            raise CloneFailed(f"{template} could not be cloned: {error}") from error

    def drop(self, name: str) -> None:
        if not OURS.match(name):
            raise DatabaseError(f"{name!r} is not one of our databases; it was not dropped")
        comment = self._comment(name)
        if comment is None:
            return
        if not comment.startswith(f"{MARK} "):
            raise DatabaseError(f"{name!r} does not carry our mark; it was not dropped")
        self._force_drop(name)

    def discard(self, name: str) -> None:
        if not OURS.match(name):
            raise DatabaseError(f"{name!r} is not one of our databases; it was not dropped")
        self._force_drop(name)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- statements --------------------------------------------------------------

    def _force_drop(self, name: str) -> None:
        identifier = sql.Identifier(name)
        if self._one("SELECT count(*) FROM pg_database WHERE datname = %s AND datistemplate", [name])[0]:
            self._run(sql.SQL("ALTER DATABASE {} WITH IS_TEMPLATE false").format(identifier))
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))

    def _copy_settings(self, template: str, name: str) -> None:
        rows = self._all(
            "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase "
            "WHERE d.datname = %s AND s.setrole = 0",
            [template],
        )
        for (setting,) in rows:
            key, _, value = str(setting).partition("=")
            words = [sql.Identifier(name), sql.Identifier(key), _setting(key, value)]
            self._run(sql.SQL("ALTER DATABASE {} SET {} TO {}").format(*words))

    def _strategy(self) -> str:
        """FILE_COPY fsyncs every file, WAL_LOG writes everything twice: what is dear depends on fsync alone."""
        return "FILE_COPY" if self._one("SHOW fsync")[0] == "off" else "WAL_LOG"

    def _comment(self, name: str) -> str | None:
        """The comment on the database ("" for none), or None where there is no such database."""
        rows = self._all("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name])
        return (rows[0][0] or "") if rows else None

    def _comment_on(self, name: str, text: str) -> None:
        self._run(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text)))

    def _version(self) -> int:
        return self._connect().info.server_version

    def _run(self, statement: sql.Composed) -> None:
        with self._translated():
            self._connect().execute(statement)

    def _one(self, query: str, params: list[Any] | None = None) -> tuple[Any, ...]:
        return self._all(query, params)[0]

    def _all(self, query: str, params: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._connect().execute(query.encode(), params).fetchall()

    # -- connection --------------------------------------------------------------

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._open()
        return self._connection

    def _open(self) -> psycopg.Connection[Any]:
        trouble: Exception | None = None
        for database in _MAINTENANCE:
            try:
                return psycopg.connect(autocommit=True, connect_timeout=10, application_name="dct", **self._parameters(database))
            except psycopg.OperationalError as error:
                trouble = error
        line = str(trouble).strip().splitlines()[-1] if str(trouble).strip() else type(trouble).__name__
        raise DatabaseError(
            f"database {self._spec.alias!r} on {self._where()} cannot be reached from this worker: {line}; "
            "check HOST, PORT, USER and PASSWORD of its settings as this worker sees them"
        ) from trouble

    def _parameters(self, database: str) -> Mapping[str, Any]:
        spec = self._spec
        given = {"host": spec.host, "port": spec.port, "user": spec.user, "password": spec.password}
        options = {name: value for name, value in spec.options.items() if name in _LIBPQ}
        return {**options, **{name: value for name, value in given.items() if value}, "dbname": database}

    def _where(self) -> str:
        spec = self._spec
        return f"{spec.host or 'the local socket'}:{spec.port or 5432}"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DatabaseError(f"{self._where()}: {line}") from error


def _setting(key: str, value: str) -> sql.Composable:
    """What the server keeps of a setting, as SET takes it."""
    if key not in _LISTS:
        return sql.Literal(value)
    items = [plain or quoted.replace('""', '"') for quoted, plain in _LIST_ITEM.findall(value)]
    return sql.SQL(", ").join(map(sql.Literal, items))
