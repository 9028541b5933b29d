"""Marks, holds, locks and liveness on MySQL and MariaDB.

A database cannot carry a comment here, so marks are rows of a registry database. The row is written
before the database is created and deleted after it is gone: nothing of ours is ever without a mark,
but a row may be without its database. Locks are taken with GET_LOCK: they are server-wide and end
with the session that holds them.
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

#: Seconds after which a mark whose database was never created is deleted, if its owner is dead.
_FORGOTTEN = 3600
#: Idle seconds after which the server ends an owner's session.
_SILENT = 60
#: Liveness locks that one owner may have on a server, lost ones included that the server has not
#: yet noticed.
_LOCKS_PER_OWNER = 8
#: Seconds that one call of GET_LOCK waits; the call is repeated, so that a dead server is noticed.
_WAIT = 10
_TABLES = (
    f"CREATE DATABASE IF NOT EXISTS {REGISTRY} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    (
        f"CREATE TABLE IF NOT EXISTS {REGISTRY}.marks (name VARCHAR(64) NOT NULL PRIMARY KEY, mark "
        "VARCHAR(1000) NOT NULL, written BIGINT NOT NULL) ENGINE=InnoDB"
    ),
    (
        f"CREATE TABLE IF NOT EXISTS {REGISTRY}.holds (template VARCHAR(64) NOT NULL, owner "
        "VARCHAR(64) NOT NULL, PRIMARY KEY (template, owner)) ENGINE=InnoDB"
    ),
)


def ours(name: str) -> str:
    """`name`, if we may create and drop a database of that name; else raises DatabaseError."""
    if not OURS.match(name) or name == REGISTRY:
        raise DatabaseError(f"{name!r} is not one of our databases")
    return name


def lock_name(kind: str, name: str) -> str:
    """A name that MySQL accepts for a lock: at most 64 characters, all in lower case."""
    return f"dct_{kind}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def owner_lock(owner: str, place: int = 0) -> str:
    """One of the locks that this owner's liveness may hold.

    Two databases on one server need two of them.
    """
    return f"{lock_name('o', owner)}_{place}"


class Marks:
    """The registry of one server, over its adapter's link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def prepare(self) -> None:
        """Creates the registry if it is missing; several workers may do so at once."""
        for statement in _TABLES:
            self._link.run(statement)

    def get(self, name: str) -> Mark | None:
        """The mark of a name, whether or not its database exists."""
        rows = self._rows(f"SELECT mark FROM {REGISTRY}.marks WHERE name = %s", [name])
        return Mark.parse(my.text(rows[0][0]), name) if rows else None

    def has(self, name: str) -> bool:
        """Whether the name is marked as ours, whether or not its database exists."""
        return self.get(name) is not None

    def put(self, name: str, mark: Mark) -> None:
        statement = (
            f"REPLACE INTO {REGISTRY}.marks (name, mark, written) VALUES (%s, %s, UNIX_TIMESTAMP())"
        )
        self._run(statement, [ours(name), mark.line(name)])

    def add(self, name: str, mark: Mark) -> bool:
        """False when the name has a mark already."""
        statement = (
            f"INSERT IGNORE INTO {REGISTRY}.marks (name, mark, written) "
            "VALUES (%s, %s, UNIX_TIMESTAMP())"
        )
        return bool(self._run(statement, [ours(name), mark.line(name)]))

    def change(self, name: str, mark: Mark) -> bool:
        """False when there is no mark to change."""
        if not self.has(name):
            return False
        statement = (
            f"UPDATE {REGISTRY}.marks SET mark = %s, written = UNIX_TIMESTAMP() WHERE name = %s"
        )
        return bool(self._run(statement, [mark.line(name), ours(name)])) or self.has(name)

    def swap(self, name: str, old: Mark, new: Mark) -> bool:
        """False when another process was first."""
        statement = (
            f"UPDATE {REGISTRY}.marks SET mark = %s, written = UNIX_TIMESTAMP() WHERE name = %s "
            "AND mark = %s"
        )
        return bool(self._run(statement, [new.line(name), ours(name), old.line(name)]))

    def remove(self, name: str) -> None:
        self._run(f"DELETE FROM {REGISTRY}.marks WHERE name = %s", [ours(name)])

    def exists(self, name: str) -> bool:
        """Whether the database exists, marked or not."""
        return bool(
            self._link.rows(
                "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", [name]
            )
        )

    def there(self, name: str) -> Mark | None:
        """The mark, if the database exists as well."""
        mark = self.get(name)
        return mark if mark is not None and self.exists(name) else None

    def all(self) -> dict[str, Mark | None]:
        """Every row; None for one that cannot be read."""
        rows = self._rows(f"SELECT name, mark FROM {REGISTRY}.marks")
        return {my.text(name): Mark.parse(my.text(mark), my.text(name)) for name, mark in rows}

    def found(self, *, sizes: bool) -> list[Found]:
        """Databases that match our pattern, except the registry.

        Marks whose databases were never created are deleted.
        """
        # Marks first: a database that is created meanwhile is then listed without a mark, but never
        # loses its own.
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
        # A row may have been added since the others were read.
        mark = Mark.parse(line, name) or self.get(name)
        return Found(name, mark, bytes=size, void="" if mark is not None else why_void(line, name))

    def _sizes(self) -> dict[str, int]:
        rows = self._link.rows(
            "SELECT table_schema, SUM(data_length + index_length) FROM information_schema.tables "
            "WHERE table_schema LIKE 'test\\_%' GROUP BY table_schema"
        )
        return {my.text(name): int(size or 0) for name, size in rows}

    def _forget(self, stale: list[tuple[Any, ...]]) -> None:
        """Deletes rows without a database, and the holds of dead owners.

        A row is deleted when it is an hour old or its owner is dead.
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
            one = "COALESCE(" + ", ".join(["IS_USED_LOCK(%s)"] * _LOCKS_PER_OWNER) + ")"
            names = [
                owner_lock(owner, place) for owner in part for place in range(_LOCKS_PER_OWNER)
            ]
            row = self._link.one("SELECT " + ", ".join([one] * len(part)), names)
            standing |= {
                owner for owner, session in zip(part, row, strict=True) if session is not None
            }
        return standing

    def in_use(self, template: str) -> bool:
        query = (
            f"SELECT 1 FROM {REGISTRY}.holds WHERE template = %s "
            "AND IS_USED_LOCK(owner) IS NOT NULL LIMIT 1"
        )
        return bool(self._rows(query, [template]))

    def _run(self, statement: str, params: list[Any] | None = None) -> int:
        return self._with_registry(lambda: self._link.run(statement, params))

    def _rows(self, statement: str, params: list[Any] | None = None) -> list[tuple[Any, ...]]:
        return self._with_registry(lambda: self._link.rows(statement, params))

    def _with_registry(self, ask: Callable[[], T]) -> T:
        """Creates the registry where it is missing: a server that was wiped has lost it, too."""
        try:
            return ask()
        except DatabaseError as error:
            if my.code(error) not in {my.UNKNOWN_DATABASE, my.UNKNOWN_TABLE}:
                raise
        self.prepare()
        return ask()


@contextlib.contextmanager
def held(spec: DatabaseSpec, stats: DatabaseStats, name: str) -> Iterator[None]:
    """A lock on a session of its own, which ends with its holder. Waits without limit."""
    link = Link(spec, stats, idle=4 * 3600, answer=60)
    try:
        while not link.one(f"SELECT GET_LOCK(%s, {_WAIT})", [name])[0]:
            pass
        yield
    finally:
        link.close()


@contextlib.contextmanager
def turn(link: Link, name: str, places: int) -> Iterator[None]:
    """Holds one of `places` locks, on the caller's session."""
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
            # All are taken. With a single lock we wait for that one; with more, each is tried in
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
    """Liveness: a lock named after the owner, held by a session that ends when its process does.

    The server also ends the session when it is silent for a minute.
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
        if not self._is_held():
            self._link.close()
            self._take()

    def close(self) -> None:
        if self._link.connected():
            with contextlib.suppress(DatabaseError):
                self._link.run(f"DELETE FROM {REGISTRY}.holds WHERE owner = %s", [self._name])
        self._link.close()

    def _is_held(self) -> bool:
        """Whether this session holds the lock; a session that was opened again has none."""
        if not self._link.connected():
            return False
        with contextlib.suppress(DatabaseError):
            return bool(
                self._link.one("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", [self._name])[0]
            )
        return False

    def _take(self) -> None:
        """Takes the first free lock: a session that we have lost may hold its own for a while."""
        for place in range(_LOCKS_PER_OWNER):
            self._name = owner_lock(self._owner, place)
            if self._link.one("SELECT GET_LOCK(%s, 0)", [self._name])[0]:
                break
        else:
            self._link.close()
            raise DatabaseError(
                f"{my.where(self._spec)}: one owner holds {_LOCKS_PER_OWNER} liveness locks, "
                "and cannot take another"
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
    """Ends every session that has the database as its current one.

    A session that we may not end is left; the next statement then reports it.
    """
    own = link.id()
    for row in link.rows("SHOW PROCESSLIST"):
        if row[3] is not None and my.text(row[3]) == name and int(row[0]) != own:
            with contextlib.suppress(DatabaseError):
                link.run(f"KILL {int(row[0])}")


def drop_database(link: Link, name: str) -> None:
    """Drops the database, after its sessions, since DROP waits for their locks.

    Raises DatabaseError when a session cannot be ended.
    """
    for attempt in range(4):
        end_sessions(link, name)
        try:
            link.run(f"DROP DATABASE IF EXISTS {identifier(ours(name))}")
            return
        except DatabaseError as error:
            if my.code(error) not in {1205, 1317} or attempt == 3:
                raise
