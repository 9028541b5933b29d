"""CREATE DATABASE … TEMPLATE, and what it does not copy: the database's own settings and grants."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from dct_celery.adapters.databases.postgres.liveness import one_of
from dct_celery.adapters.databases.postgres.session import PostgresSession, sqlstate
from dct_celery.core import retry
from dct_celery.core.databases.names import ownership_limit
from dct_celery.core.retry import Retry
from dct_celery.errors import CloneFailed, DatabaseError

#: Clones that one server makes at a time, unless the policy says otherwise.
CLONES_AT_ONCE = 4
_TRIES = 3
_PAUSE_SECONDS = 0.2
#: Size in bytes from which sharing blocks of the file system is worth its set-up.
_LARGE = 100_000_000
_EXISTS = ("42P04", "23505")
_BUSY = "55006"
#: Settings that hold lists of quoted names. All others go back as one text, commas included, as in
#: pg_dump.
_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
    }
)
_LIST_ITEM = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')
_SETTINGS = (
    "SELECT coalesce(r.rolname, ''), unnest(s.setconfig) FROM pg_db_role_setting s "
    "JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole "
    "WHERE d.datname = %s"
)
_GRANTS = (
    "SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable FROM pg_database d "
    "CROSS JOIN aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee "
    "WHERE d.datname = %s AND a.grantee <> d.datdba"
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What belongs to a database but is not copied with it. Role "" stands for all roles."""

    #: (role, "name=value"), as the server stores it.
    settings: tuple[tuple[str, str], ...] = ()
    #: Some grants differ from those of a new database.
    granted: bool = False
    #: (role, privilege, with grant option)
    grants: tuple[tuple[str, str, bool], ...] = ()

    @classmethod
    def of(cls, session: PostgresSession, name: str) -> Surroundings:
        (granted,) = session.row(
            "SELECT coalesce(bool_or(datacl IS NOT NULL), false) FROM pg_database "
            "WHERE datname = %s",
            [name],
        )
        settings = session.rows(_SETTINGS, [name])
        return cls(
            tuple(settings), granted, tuple(session.rows(_GRANTS, [name])) if granted else ()
        )

    def statements(self, name: str) -> list[sql.Composable]:
        """The statements for all roles; these must succeed."""
        database = sql.Identifier(name)
        found: list[sql.Composable] = [
            _set(database, text) for role, text in self.settings if not role
        ]
        if self.granted:
            found.append(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            found += [_grant(database, *grant) for grant in self.grants]
        return found

    def statements_for_roles(self, name: str) -> list[tuple[str, sql.Composable]]:
        """(role, statement) for single roles; who may not alter a role may not run these."""
        return [
            (role, _set(sql.Identifier(name), text, role)) for role, text in self.settings if role
        ]


class Copier:
    """Makes databases from sealed templates."""

    def __init__(self, session: PostgresSession, at_once: int) -> None:
        self._session = session
        self._at_once = at_once or CLONES_AT_ONCE
        self._shares_blocks = True
        self._sizes: dict[str, int] = {}
        #: Roles whose settings we may not copy to a clone.
        self.not_carried: set[str] = set()

    def copy(self, template: str, name: str) -> None:
        """Clones the template. Raises CloneFailed.

        Then nothing is left of what was made here, and a database that existed before is untouched.
        """
        numbers = list(range(self._at_once))
        random.shuffle(numbers)  # nosec: spreads the waiting, decides nothing
        with one_of(self._session, "clone", numbers):
            self._create(template, name)

    def surround(self, template: str, name: str) -> list[sql.Composable]:
        """The statements that give the clone the template's surroundings.

        Those that may be refused run at once.
        """
        surroundings = Surroundings.of(self._session, template)
        for role, statement in surroundings.statements_for_roles(name):
            try:
                self._session.run(statement)
            except DatabaseError as error:
                if sqlstate(error) != "42501":
                    raise
                self.not_carried.add(role)
        return [*surroundings.statements(name), *self._without_waits(surroundings, name)]

    def _without_waits(self, surroundings: Surroundings, name: str) -> Iterator[sql.Composable]:
        """A commit in a clone need not wait for the disk: after a crash of the server nobody wants
        the clone. What the project has set for the template counts.
        """
        chosen = any(text.startswith("synchronous_commit=") for _, text in surroundings.settings)
        if not chosen and self.fsync_is_on():
            yield _set(sql.Identifier(name), "synchronous_commit=off")

    def fsync_is_on(self) -> bool:
        return bool(self._session.row("SHOW fsync")[0] == "on")

    # -- CREATE DATABASE -----------------------------------------------------------

    def _create(self, template: str, name: str) -> None:
        def rule(error: DatabaseError) -> Retry | None:
            if sqlstate(error) != _BUSY:
                return None
            # Nosec: spreads the tries.
            return Retry(lambda failures: _PAUSE_SECONDS * failures * random.random(), _TRIES)

        try:
            retry.call(
                lambda: self._create_once(template, name),
                DatabaseError,
                rule,
                monotonic=time.monotonic,
                sleep=time.sleep,
            )
        except DatabaseError as error:
            raise CloneFailed(
                f"{template} could not be cloned: {self._why(template, name, error)}"
            ) from error

    def _create_once(self, template: str, name: str) -> None:
        if (
            self._shares_blocks
            and self._session.version() >= 180000
            and self._size(template) >= _LARGE
        ):
            if self._create_sharing_blocks(template, name):
                return
            self._shares_blocks = False
        strategy = ""
        if self._session.version() >= 150000:
            # FILE_COPY fsyncs every file, WAL_LOG writes everything twice: which is slower depends
            # on fsync.
            strategy = "WAL_LOG" if self.fsync_is_on() else "FILE_COPY"
        self._session.run(_create(template, name, strategy))

    def _create_sharing_blocks(self, template: str, name: str) -> bool:
        """False where file system or server build refuse; then nothing is left behind."""
        try:
            self._session.run(sql.SQL("SET file_copy_method = clone"))
            self._session.run(_create(template, name, "FILE_COPY"))
        except DatabaseError as error:
            if sqlstate(error) in (*_EXISTS, _BUSY):
                raise
            return False
        finally:
            self._session.run(sql.SQL("RESET file_copy_method"))
        return True

    def _size(self, template: str) -> int:
        if template not in self._sizes:
            query = (
                "SELECT coalesce(max(pg_database_size(oid)), 0) FROM pg_database WHERE datname = %s"
            )
            self._sizes[template] = int(self._session.row(query, [template])[0])
        return self._sizes[template]

    def _why(self, template: str, name: str, error: DatabaseError) -> str:
        code = sqlstate(error)
        if code == _BUSY:
            return f"{error}; {who_is_connected(self._session, template)}"
        if code in _EXISTS:
            return f"{error}; {name} already exists and is not ours: it was left alone"
        if code == "42501":
            return f"{error}; {self._rights(template)}"
        return str(error)

    def _rights(self, template: str) -> str:
        query = "SELECT current_user, pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
        rows = self._session.rows(query, [template])
        me, owner = rows[0] if rows else ("this role", "another role")
        if me == owner:
            return f'as a superuser: ALTER ROLE "{me}" CREATEDB'
        return (
            f"the template belongs to role {owner!r}: use the same USER on every worker, or GRANT"
            f' "{owner}" TO "{me}"'
        )


def who_is_connected(session: PostgresSession, name: str) -> str:
    """Who is connected, and how to end it."""
    rows = sessions_on(session, name)
    if not rows:
        return "no session is connected to it any more: try again"
    people = ", ".join(f"{pid} ({who})" for pid, who in rows)
    return f"connected: {people}; end them: SELECT pg_terminate_backend({rows[0][0]})"


def sessions_on(session: PostgresSession, name: str) -> list[tuple[int, str]]:
    """(process id, application and role) of each session on the database."""
    query = (
        "SELECT pid, concat_ws(' of ', nullif(application_name, ''), usename) "
        "FROM pg_stat_activity WHERE datname = %s "
        "AND coalesce(backend_type, 'client backend') NOT IN ('autovacuum worker', 'parallel "
        "worker')"
    )
    return [(int(pid), str(who)) for pid, who in session.rows(query, [name])]


def _create(template: str, name: str, strategy: str) -> sql.Composed:
    # The tablespace is the template's. Of our options, only the connection limit can be set by
    # CREATE DATABASE.
    how = sql.SQL(" STRATEGY = {}").format(sql.SQL(strategy)) if strategy else sql.SQL("")
    return sql.SQL("CREATE DATABASE {} TEMPLATE {}{} CONNECTION LIMIT {}").format(
        sql.Identifier(name), sql.Identifier(template), how, sql.Literal(ownership_limit(name))
    )


def _set(database: sql.Identifier, text: str, role: str = "") -> sql.Composed:
    name, _, value = text.partition("=")
    whom = (
        sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
        if role
        else sql.SQL("DATABASE {}").format(database)
    )
    return sql.SQL("ALTER {} SET {} TO {}").format(whom, sql.Identifier(name), _value(name, value))


def _value(name: str, value: str) -> sql.Composable:
    """A stored setting in the form that SET takes."""
    if name not in _LISTS:
        return sql.Literal(value)
    items = [plain or quoted.replace('""', '"') for quoted, plain in _LIST_ITEM.findall(value)]
    return sql.SQL(", ").join(map(sql.Literal, items))


def _grant(database: sql.Identifier, role: str, privilege: str, grantable: bool) -> sql.Composed:
    whom = sql.Identifier(role) if role else sql.SQL("PUBLIC")
    option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
    return sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
        sql.SQL(privilege), database, whom, option
    )
