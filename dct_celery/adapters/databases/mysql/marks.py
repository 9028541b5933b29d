"""Marks, holds, locks and signs of life on MySQL and MariaDB.

A database cannot carry a comment here, so marks are rows of a registry database. The row is written
before the database is made and deleted after it is gone: nothing of ours is ever without a mark,
but a row may be without its database. Locks are GET_LOCK's: server-wide, and ended with the session
that holds them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dct_celery.adapters.databases.mysql import connection as my
from dct_celery.adapters.databases.mysql.connection import Link, identifier
from dct_celery.core.databases.marks import Found, Mark, why_void
from dct_celery.core.databases.names import OURS, REGISTRY
from dct_celery.errors import DatabaseError
from dct_celery.ports import DatabaseSpec, DatabaseStats

T = TypeVar("T")

#: Seconds after which a mark whose database never came is forgotten, if its owner does not live.
_FORGOTTEN = 3600
#: Seconds after which a silent owner's session is ended by the server.
_SILENT = 60
#: Signs of life that one owner may have on a server, those counted whose loss the server has not
#: yet noticed.
_SIGNS = 8
#: Seconds that one call of GET_LOCK waits; it is called again, so that a dead server is noticed.
_WAIT = 10
_TABLES = (
    f"CREATE DATABASE IF NOT EXISTS {REGISTRY} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    (
        f"CREATE TABLE IF NOT EXISTS {REGISTRY}.marks (name VARCHAR(64) NOT NULL PRIMARY KEY, mark"
        " VARCHAR(1000) NOT NULL, written BIGINT NOT NULL) ENGINE=InnoDB"
    ),
    (
        f"CREATE TABLE IF NOT EXISTS {REGISTRY}.holds (template VARCHAR(64) NOT NULL, owner"
        " VARCHAR(64) NOT NULL, PRIMARY KEY (template, owner)) ENGINE=InnoDB"
    ),
)


def ours(name: str) -> str:
    """`name` if we may make and drop a database of that name. Raises DatabaseError."""
    if not OURS.match(name) or name == REGISTRY:
        raise DatabaseError(f"{name!r} is not one of our databases")
    return name


def lock_name(kind: str, name: str) -> str:
    """At most 64 characters, the same in upper and lower case: what MySQL takes."""
    return f"dct_{kind}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def owner_lock(owner: str, place: int = 0) -> str:
    """One of the locks that a sign of life of this owner may hold: two databases on one server mean
    two signs.
    """
    return f"{lock_name('o', owner)}_{place}"


class Marks:
    """The registry of one server, over the link of its adapter."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def prepare(self) -> None:
        """Makes the registry if it is missing; several may do so at once."""
        for statement in _TABLES:
            self._link.run(statement)

    def get(self, name: str) -> Mark | None:
        """The mark of a name, whether its database is there or not."""
        rows = self._rows(f"SELECT mark FROM {REGISTRY}.marks WHERE name = %s", [name])
        return Mark.parse(my.text(rows[0][0]), name) if rows else None

    def has(self, name: str) -> bool:
        """The database is marked as ours, be it there or not."""
        return self.get(name) is not None

    def put(self, name: str, mark: Mark) -> None:
        statement = (
            f"REPLACE INTO {REGISTRY}.marks (name, mark, written) VALUES (%s, %s, UNIX_TIMESTAMP())"
        )
        self._run(statement, [ours(name), mark.line(name)])

    def add(self, name: str, mark: Mark) -> bool:
        """False when there is a mark of that name."""
        statement = (
            f"INSERT IGNORE INTO {REGISTRY}.marks (name, mark, written) VALUES (%s, %s,"
            " UNIX_TIMESTAMP())"
        )
        return bool(self._run(statement, [ours(name), mark.line(name)]))

    def change(self, name: str, mark: Mark) -> bool:
        """False when there is none to change."""
        if not self.has(name):
            return False
        statement = (
            f"UPDATE {REGISTRY}.marks SET mark = %s, written = UNIX_TIMESTAMP() WHERE name = %s"
        )
        return bool(self._run(statement, [mark.line(name), ours(name)])) or self.has(name)

    def swap(self, name: str, old: Mark, new: Mark) -> bool:
        """False when somebody else was first."""
        statement = (
            f"UPDATE {REGISTRY}.marks SET mark = %s, written = UNIX_TIMESTAMP() WHERE name = %s AND"
            " mark = %s"
        )
        return bool(self._run(statement, [new.line(name), ours(name), old.line(name)]))

    def remove(self, name: str) -> None:
        self._run(f"DELETE FROM {REGISTRY}.marks WHERE name = %s", [ours(name)])

    def exists(self, name: str) -> bool:
        """The database is there, marked or not."""
        return bool(
            self._link.rows(
                "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", [name]
            )
        )

    def there(self, name: str) -> Mark | None:
        """The mark, if the database is there as well."""
        mark = self.get(name)
        return mark if mark is not None and self.exists(name) else None

    def all(self) -> dict[str, Mark | None]:
        """Every row; None for one that cannot be read."""
        rows = self._rows(f"SELECT name, mark FROM {REGISTRY}.marks")
        return {my.text(name): Mark.parse(my.text(mark), my.text(name)) for name, mark in rows}

    def found(self, *, sizes: bool) -> list[Found]:
        """Databases that match our pattern, the registry excepted. Marks whose databases never came
        are forgotten.
        """
        # Marks first: a database that is made meanwhile is listed without one then, but never loses
        # its own.
        marks = self._rows(
            f"SELECT name, mark, UNIX_TIMESTAMP() - written > {_FORGOTTEN} FROM {REGISTRY}.marks"
        )
        rows = self._link.rows(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'test\\_%'"
        )
        names = sorted(
            name
            for name in map(my.text, (row[0] for row in rows))
            if OURS.match(name) and name != REGISTRY
        )
        self._forget([row for row in marks if my.text(row[0]) not in names])
        lines = {my.text(row[0]): my.text(row[1]) for row in marks}
        bytes_of = self._sizes() if sizes else {}
        return [self._found(name, lines.get(name), bytes_of.get(name, 0)) for name in names]

    def _found(self, name: str, line: str | None, size: int) -> Found:
        # A row may have come since the others were read.
        mark = Mark.parse(line, name) or self.get(name)
        return Found(name, mark, bytes=size, void="" if mark is not None else why_void(line, name))

    def _sizes(self) -> dict[str, int]:
        rows = self._link.rows(
            "SELECT table_schema, SUM(data_length + index_length) FROM information_schema.tables "
            "WHERE table_schema LIKE 'test\\_%' GROUP BY table_schema"
        )
        return {my.text(name): int(size or 0) for name, size in rows}

    def _forget(self, stale: list[tuple[Any, ...]]) -> None:
        """Deletes rows without a database: an hour old, or an owner's who is dead; and what the
        dead held.
        """
        marks = [
            (name, mark, old, Mark.parse(my.text(mark), my.text(name))) for name, mark, old in stale
        ]
        living = self.alive(parsed.owner for _, _, _, parsed in marks if parsed and parsed.owner)
        for name, mark, old, parsed in marks:
            if old or (parsed and parsed.owner and parsed.owner not in living):
                self._run(
                    f"DELETE FROM {REGISTRY}.marks WHERE name = %s AND mark = %s", [name, mark]
                )
        self._run(f"DELETE FROM {REGISTRY}.holds WHERE IS_USED_LOCK(owner) IS NULL")

    def alive(self, owners: Iterable[str]) -> set[str]:
        wanted = sorted(set(owners))
        standing: set[str] = set()
        for start in range(0, len(wanted), 50):
            part = wanted[start : start + 50]
            one = "COALESCE(" + ", ".join(["IS_USED_LOCK(%s)"] * _SIGNS) + ")"
            names = [owner_lock(owner, place) for owner in part for place in range(_SIGNS)]
            row = self._link.one("SELECT " + ", ".join([one] * len(part)), names)
            standing |= {
                owner for owner, session in zip(part, row, strict=True) if session is not None
            }
        return standing

    def in_use(self, template: str) -> bool:
        query = (
            f"SELECT 1 FROM {REGISTRY}.holds WHERE template = %s AND IS_USED_LOCK(owner) IS NOT"
            " NULL LIMIT 1"
        )
        return bool(self._rows(query, [template]))

    def _run(self, statement: str, params: list[Any] | None = None) -> int:
        return self._with_registry(lambda: self._link.run(statement, params))

    def _rows(self, statement: str, params: list[Any] | None = None) -> list[tuple[Any, ...]]:
        return self._with_registry(lambda: self._link.rows(statement, params))

    def _with_registry(self, ask: Callable[[], T]) -> T:
        """The registry is made by whoever misses it first: a server that was wiped lost it, too."""
        try:
            return ask()
        except DatabaseError as error:
            if my.code(error) not in {my.UNKNOWN_DATABASE, my.UNKNOWN_TABLE}:
                raise
        self.prepare()
        return ask()


@contextlib.contextmanager
def held(spec: DatabaseSpec, stats: DatabaseStats, name: str) -> Iterator[None]:
    """A lock on a session of its own, which ends with its holder. Waits as long as it takes."""
    link = Link(spec, stats, idle=4 * 3600, answer=60)
    try:
        while not link.one(f"SELECT GET_LOCK(%s, {_WAIT})", [name])[0]:
            pass
        yield
    finally:
        link.close()


@contextlib.contextmanager
def turn(link: Link, name: str, places: int) -> Iterator[None]:
    """One of `places` places, on the caller's session."""
    if places < 1:
        yield
        return
    first = link.id()
    wait = 0
    while True:
        for place in range(places):
            taken = f"{name}_{(first + place) % places}"
            if link.one("SELECT GET_LOCK(%s, %s)", [taken, wait])[0]:
                break
        else:
            # All are taken. With one place the wait is for that one; with more, they are asked in
            # turn.
            wait = _WAIT if places == 1 else 1
            continue
        break
    try:
        yield
    finally:
        if link.connected():
            with contextlib.suppress(DatabaseError):
                link.rows("SELECT RELEASE_LOCK(%s)", [taken])


class MysqlLiveness:
    """A sign of life: a lock named after the owner, held by a session that the server ends when it
    is silent for a minute.
    """

    def __init__(self, spec: DatabaseSpec, stats: DatabaseStats, owner: str) -> None:
        self._link = Link(spec, stats, idle=_SILENT, answer=30)
        self._marks = Marks(self._link)
        self._spec = spec
        self._owner = owner
        self._name = ""
        self._held: set[str] = set()
        self._take()

    def hold(self, template: str) -> None:
        self._held.add(template)
        self._write(template)

    def renew(self) -> None:
        if not self._stands():
            self._link.close()
            self._take()

    def close(self) -> None:
        if self._link.connected():
            with contextlib.suppress(DatabaseError):
                self._link.run(f"DELETE FROM {REGISTRY}.holds WHERE owner = %s", [self._name])
        self._link.close()

    def _stands(self) -> bool:
        """The lock is this session's; a session that was made anew has none."""
        if not self._link.connected():
            return False
        with contextlib.suppress(DatabaseError):
            return bool(
                self._link.one("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", [self._name])[0]
            )
        return False

    def _take(self) -> None:
        """The first lock that is free: a session that we have lost may hold its own for a while
        yet.
        """
        for place in range(_SIGNS):
            self._name = owner_lock(self._owner, place)
            if self._link.one("SELECT GET_LOCK(%s, 0)", [self._name])[0]:
                break
        else:
            self._link.close()
            raise DatabaseError(
                f"{my.where(self._spec)}: {_SIGNS} signs of life of one owner stand there, and no"
                " more can"
            )
        for template in self._held:
            self._write(template)

    def _write(self, template: str) -> None:
        statement = f"REPLACE INTO {REGISTRY}.holds (template, owner) VALUES (%s, %s)"
        try:
            self._link.run(statement, [template, self._name])
        except DatabaseError as error:
            if my.code(error) not in {my.UNKNOWN_DATABASE, my.UNKNOWN_TABLE}:
                raise
            self._marks.prepare()
            self._link.run(statement, [template, self._name])


def end_sessions(link: Link, name: str) -> None:
    """Throws everybody out who has the database as current; one that may not be ended is left, and
    the next statement says so.
    """
    own = link.id()
    for row in link.rows("SHOW PROCESSLIST"):
        if row[3] is not None and my.text(row[3]) == name and int(row[0]) != own:
            with contextlib.suppress(DatabaseError):
                link.run(f"KILL {int(row[0])}")


def drop_database(link: Link, name: str) -> None:
    """Drops it, sessions first, since DROP waits for their locks. Raises DatabaseError when
    somebody does not let go.
    """
    for attempt in range(4):
        end_sessions(link, name)
        try:
            link.run(f"DROP DATABASE IF EXISTS {identifier(ours(name))}")
            return
        except DatabaseError as error:
            if my.code(error) not in {1205, 1317} or attempt == 3:
                raise
