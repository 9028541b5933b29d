"""PostgreSQL: templates and clones by CREATE DATABASE … TEMPLATE.

A template with open connections cannot be copied (the server waits five seconds and refuses), so a
sealed template allows none. The mark is the comment on the database. As that comes one statement
after CREATE DATABASE, the database is created with a connection limit that only we would choose.
Only databases with a name of ours that carry one of the two are dropped.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from psycopg import sql

from dct_celery.adapters.databases.postgres import dump as dump
from dct_celery.adapters.databases.postgres import facts as about
from dct_celery.adapters.databases.postgres.copy import Copier, sessions_on, who_is_connected
from dct_celery.adapters.databases.postgres.heal import Healer
from dct_celery.adapters.databases.postgres.liveness import (
    PostgresLiveness,
    held,
    key,
    locked_by_us,
    one_of,
)
from dct_celery.adapters.databases.postgres.session import PostgresSession, sqlstate
from dct_celery.adapters.databases.postgres.state import read_shape, read_state
from dct_celery.core.databases.marks import Found, Mark, why_void
from dct_celery.core.databases.names import OURS, ownership_limit
from dct_celery.core.databases.server_identity import IDENTITY
from dct_celery.errors import CloneFailed, DatabaseError
from dct_celery.ports import DatabasePolicy, DatabaseSpec, DatabaseStats

_DEFAULT_POLICY = DatabasePolicy()
#: Kinds of databases that can be cloned.
SEALED = ("template", "flushed")
#: Connection limit of a database whose DROP was interrupted: it cannot be used, only dropped.
_HALF_DROPPED = -2
#: Seconds that sessions get to disappear which are ending.
_PATIENCE = 2.0
#: SQLSTATE: this role may not.
_FORBIDDEN = "42501"
#: Characters of a template's name with which the name of its temporary clones begins.
_SCRATCH = 46
#: Seconds after which a temporary clone may be collected.
_SCRATCH_SECONDS = 3600
_DATABASES = (
    "SELECT datname, datconnlimit, shobj_description(oid, 'pg_database'), {size} FROM pg_database "
    "WHERE {which}"
)
#: The server does not report the size of a database that we may not connect to.
_SIZE = "CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END"


class PostgresServer:
    """One server, over one connection to its maintenance database, opened when first needed."""

    local = False
    vendor = "postgresql"

    def __init__(self, spec: DatabaseSpec, policy: DatabasePolicy = _DEFAULT_POLICY) -> None:
        self.stats = DatabaseStats()
        self._session = PostgresSession(spec, policy, self.stats)
        self._copier = Copier(self._session, policy.clones_at_once)
        self._healer = Healer(self._session)
        self._spec = spec
        self.where = self._session.where

    # -- the server --------------------------------------------------------------

    def addresses(self) -> Iterator[str]:
        return self._session.addresses()

    def identity(self) -> str:
        return str(self._session.row(IDENTITY[self.vendor])[0])

    def check(self) -> None:
        about.check(self._session)

    def warnings(self) -> list[str]:
        return about.warnings(self._session, self._copier.not_carried)

    def facts(self) -> dict[str, str]:
        return about.facts(self._session)

    def capacity(self) -> int:
        return about.capacity(self._session)

    def now(self) -> int:
        return int(
            self._session.row("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint")[0]
        )

    def incarnation(self) -> str:
        # When one backend crashes, the server ends all sessions, ours included, without a new start
        # time.
        started = self._session.row("SELECT pg_postmaster_start_time()::text")[0]
        return f"{started} {self.stats.failed}"

    def place(self, name: str) -> str:
        return name

    def close(self) -> None:
        self._session.close()

    # -- marks and liveness ----------------------------------------------------------

    def find(self, name: str) -> Mark | None:
        found, limit = self._read(name)
        if (
            found is None
            or found.mark is None
            or limit == _HALF_DROPPED
            or found.mark.kind == "building"
        ):
            return None
        return found.mark

    def found(self, *, sizes: bool = False) -> list[Found]:
        query = _DATABASES.format(
            size=_SIZE if sizes else "0", which="datname LIKE 'test\\_%' ORDER BY datname"
        )
        return [_found(*row) for row in self._session.rows(query) if OURS.match(row[0])]

    def announce(self, name: str, mark: Mark) -> None:
        _ours(name)

    def remark(self, name: str, mark: Mark) -> None:
        self._proven(name)
        self._session.run(_comment(name, mark))

    def liveness_lock(self, owner: str) -> PostgresLiveness:
        return PostgresLiveness(self._session, owner)

    def alive(self, owners: Iterable[str]) -> set[str]:
        keys = held(self._session)
        return {owner for owner in owners if key("owner", owner) in keys}

    def in_use(self, template: str) -> bool:
        return key("hold", template) in held(self._session)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        with locked_by_us(self._session, name):
            yield

    def locked(self, name: str) -> bool:
        return key("lock", name) in held(self._session)

    # -- templates -----------------------------------------------------------------

    def seal(self, template: str, mark: Mark) -> None:
        if not self._proven(template):
            raise DatabaseError(
                f"the template {template} on {self.where} was not built, so it cannot be sealed"
            )
        state = mark.state or self.state(template)  # no session can connect afterwards
        self._session.run(_set_connectable(template, closed=True))
        try:
            self._wait_for_quiet(template)
        except DatabaseError:
            self._session.run(_set_connectable(template, closed=False))
            raise
        self._session.run(_comment(template, mark.but(state=state)))

    def state(self, name: str) -> str:
        with contextlib.closing(self._session.open(name)) as connection, self._session.translated():
            return read_state(connection).hash

    def export(self, name: str, file: Path) -> bool:
        _ours(name)
        program = dump.find_pg_dump(self._session.version() // 10000)
        if program is None:
            return False
        with self._connectable(name) as database:
            dump.export(self._session, self._spec, program, database, file)
        return True

    def restore(self, file: Path, name: str, mark: Mark) -> None:
        _ours(name)
        header, script = dump.read(file)
        self._session.run(header.create(name))
        try:
            self._session.run(*header.surroundings.statements(name), _comment(name, mark))
            with contextlib.closing(self._session.open(name)) as connection:
                dump.replay(self._session, connection, script)
            if self.state(name) != header.state:
                raise DatabaseError(
                    f"restoring {file} does not reproduce the template; delete it to rebuild it"
                )
        except DatabaseError:
            self._force_drop(name)
            raise

    # -- clones --------------------------------------------------------------------

    def clone(self, template: str, name: str, mark: Mark) -> None:
        _ours(name, template)
        started = time.monotonic()
        self._sealed(template)
        # The server guarantees a complete copy: the name becomes visible when every file is there,
        # else all files are removed.
        self._copier.copy(template, name)
        try:
            # The comment comes last: it marks the clone as complete.
            self._session.run(*self._copier.surround(template, name), _comment(name, mark))
        except DatabaseError as error:
            with contextlib.suppress(DatabaseError):
                self._force_drop(name)
            raise CloneFailed(f"{template} could not be cloned: {error}") from error
        seconds = time.monotonic() - started
        self.stats.cloned += 1
        self.stats.clone_seconds += seconds
        self._healer.costs.cloned(template, seconds)

    def heal(self, name: str, template: str, fresh: str, mark: Mark) -> str:
        _ours(name, template, fresh)
        started = time.monotonic()
        made = [name]
        try:
            self._proven(name)
            self._make_equal(name, template, fresh, mark, made)
        except DatabaseError as error:
            for one in made:
                with contextlib.suppress(DatabaseError):
                    self.drop(one)
            raise CloneFailed(
                f"{name} could not be made equal to {template} again: {error}"
            ) from error
        self.stats.healed += 1
        self.stats.heal_seconds += time.monotonic() - started
        return fresh

    def heals_cheaper(self, template: str) -> bool:
        measured = self._healer.costs.heals_cheaper(template)
        return self._copier.fsync_is_on() if measured is None else measured

    def adopt(self, template: str, fresh: str, mark: Mark) -> str | None:
        _ours(template, fresh)
        sealed = self.find(template)
        while sealed and sealed.state and self._claim(template, fresh, mark):
            with contextlib.suppress(DatabaseError):
                if self._healer.is_equal(fresh, template, sealed.state):
                    self.remark(fresh, mark)
                    self.stats.adopted += 1
                    return fresh
            self.drop(fresh)
        return None

    def healthy(self, name: str) -> bool:
        with contextlib.suppress(DatabaseError):
            query = (
                "SELECT 1 FROM pg_database WHERE datname = %s AND datallowconn "
                "AND datconnlimit <> %s"
            )
            return bool(self._session.rows(query, [name, _HALF_DROPPED]))
        return False

    def shape(self, name: str) -> str:
        _ours(name)
        with contextlib.closing(self._session.open(name)) as connection, self._session.translated():
            return read_shape(connection)

    def discard(self, template: str) -> None:
        self.drop(template)

    def drop(self, name: str) -> None:
        if self._proven(name):
            self._force_drop(name)
            self.stats.dropped += 1

    # -- steps -----------------------------------------------------------------------

    @contextlib.contextmanager
    def _connectable(self, name: str) -> Iterator[str]:
        """The database itself or, for a sealed template, a temporary clone of it.

        A sealed template allows no connections.
        """
        if not self._session.rows(
            "SELECT 1 FROM pg_database WHERE datname = %s AND NOT datallowconn", [name]
        ):
            yield name
            return
        scratch = f"{name[:_SCRATCH]}_x{secrets.token_hex(4)}"
        self.clone(
            name, scratch, Mark("building", template=name, expires=self.now() + _SCRATCH_SECONDS)
        )
        try:
            yield scratch
        finally:
            self.drop(scratch)

    def _read(self, name: str) -> tuple[Found | None, int]:
        """The database and its connection limit."""
        rows = self._session.rows(_DATABASES.format(size="0", which="datname = %s"), [name])
        return (_found(*rows[0]), rows[0][1]) if rows else (None, 0)

    def _proven(self, name: str) -> bool:
        """Whether a database of this name exists and is ours.

        Raises DatabaseError when it exists and is not.
        """
        _ours(name)
        found, _ = self._read(name)
        if found is not None and not found.ours:
            raise DatabaseError(
                f"{name!r} on {self.where} does not carry our mark; it was left alone"
            )
        return found is not None

    def _force_drop(self, name: str) -> None:
        if self._session.rows(
            "SELECT 1 FROM pg_database WHERE datname = %s AND datistemplate", [name]
        ):
            self._session.run(
                sql.SQL("ALTER DATABASE {} WITH IS_TEMPLATE false").format(sql.Identifier(name))
            )
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        try:
            self._session.run(drop)
        except DatabaseError as error:
            if sqlstate(error) != _FORBIDDEN:
                raise
            # A session of a stronger role: it may be about to close.
            with contextlib.suppress(DatabaseError):
                self._wait_for_quiet(name)
            self._session.run(drop)

    def _wait_for_quiet(self, name: str) -> None:
        until = time.monotonic() + _PATIENCE
        while sessions_on(self._session, name):
            if time.monotonic() > until:
                raise DatabaseError(
                    f"{name} on {self.where} is still in use; "
                    f"{who_is_connected(self._session, name)}"
                )
            time.sleep(0.005)

    def _end_sessions(self, name: str) -> None:
        """Ends every session on the database, but those of a stronger role: they are waited for, as
        they may be about to close. Raises DatabaseError if one stays.
        """
        for pid, _ in sessions_on(self._session, name):
            try:
                self._session.rows("SELECT pg_terminate_backend(%s)", [pid])
            except DatabaseError as error:
                if sqlstate(error) != _FORBIDDEN:
                    raise
                self._wait_for_quiet(name)
            self._session.wait_until_closed(pid)

    def _rename(self, name: str, fresh: str, mark: Mark, made: list[str]) -> None:
        """Renames the database so that it is recognised as ours at every moment.

        First by the old comment, then by the connection limit, which is the new name's.
        """
        limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
            sql.Identifier(name), sql.Literal(ownership_limit(fresh))
        )
        self._session.run(limit)
        self._session.run(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(name), sql.Identifier(fresh)
            )
        )
        made.append(fresh)
        self._session.run(_comment(fresh, mark))

    def _make_equal(
        self, name: str, template: str, fresh: str, mark: Mark, made: list[str]
    ) -> None:
        """Heals the clone; `made` collects what must be dropped when this fails."""
        wanted = self._sealed(template).state
        if self._healer.knows(template):
            started = time.monotonic()
            self._end_sessions(name)
            self._healer.clean(name, template, wanted)
            self._rename(name, fresh, mark, made)
            self._healer.costs.healed(template, time.monotonic() - started)
            return
        # The template allows no connections, so its contents are read from a new clone, which is
        # then the result.
        self.clone(template, fresh, mark.but(kind="building"))
        made.append(fresh)
        self._healer.learn(fresh, template, wanted)
        self.remark(fresh, mark)
        self.drop(name)

    def _sealed(self, template: str) -> Mark:
        mark = self.find(template)
        if mark is None or mark.kind not in SEALED:
            raise CloneFailed(
                f"{template} on {self.where} is no sealed template; "
                "it is rebuilt by the next run that needs it"
            )
        return mark

    def _claim(self, template: str, fresh: str, mark: Mark) -> bool:
        """Takes over an idle clone under the fresh name, as one that is being made.

        False when there is none. Needs a lock: two adopters would end each other's sessions.
        """
        with one_of(self._session, "adopt", [template]):
            idle = (
                f.name
                for f in self.found()
                if f.mark and f.mark.kind == "idle" and f.mark.template == template
            )
            for name in idle:
                with contextlib.suppress(
                    DatabaseError
                ):  # just dropped, or a session does not leave it
                    self._end_sessions(name)
                    self._rename(name, fresh, mark.but(kind="building"), [])
                    return True
        return False


def _ours(*names: str) -> None:
    for name in names:
        if not OURS.match(name):
            raise DatabaseError(f"{name!r} is not one of our databases; it was not touched")


def _found(name: str, limit: int, comment: str | None, size: int) -> Found:
    mark = Mark.parse(comment, name)
    void = "" if mark is not None else why_void(comment, name)
    return Found(name, mark, born=limit == ownership_limit(name), bytes=int(size), void=void)


def _comment(name: str, mark: Mark) -> sql.Composed:
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(
        sql.Identifier(name), sql.Literal(mark.line(name))
    )


def _set_connectable(name: str, *, closed: bool) -> sql.Composed:
    options = (
        "ALLOW_CONNECTIONS false IS_TEMPLATE true"
        if closed
        else "ALLOW_CONNECTIONS true IS_TEMPLATE false"
    )
    return sql.SQL("ALTER DATABASE {} WITH {}").format(sql.Identifier(name), sql.SQL(options))
