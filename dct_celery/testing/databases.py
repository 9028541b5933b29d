"""Databases under a check: own connections of its threads, and a start that can be had again.

Threads see what is committed, never what the test's own connection holds back; so a test that runs
in a transaction is refused. On SQLite each run has a copy of its own, of the file or of the memory.
On other vendors each table is read before the first statement that writes to it, and its rows are
put back by their differences.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dct_celery.errors import UsageError
from dct_celery.testing.values import leaf

_COMMENTS = re.compile(r"\s*(?:(?:/\*.*?\*/|--[^\n]*\n)\s*)*", re.DOTALL)
_READS = (
    *("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "SHOW", "EXPLAIN", "PRAGMA", "DECLARE"),
    "FETCH",
)
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_WORDS = re.compile(r"[\w$]+")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Contents at one moment. `keys`: places of the primary key's columns; () if there is none."""

    columns: tuple[str, ...]
    keys: tuple[int, ...]
    rows: tuple[Row, ...]

    def by_key(self) -> dict[Row, Row]:
        return {self.key(row): row for row in self.rows}

    def key(self, row: Row) -> Row:
        return tuple(_hashable(row[place]) for place in self.keys)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else leaf(value)


def in_tests() -> bool:
    """Whether this process runs tests: Django's test environment is set up."""
    from django.test import utils

    return hasattr(utils._TestState, "saved_data")


class Databases:
    """All databases of the project, as the threads of one check may use them.

    To be made and asked in the thread of the test; `connect` is for the others. `stays`: what they
    commit is not undone; there is one run, and nothing to compare.
    """

    def __init__(self, caller: str, *, stays: bool = False) -> None:
        self._caller = caller
        self._stays = stays
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._databases: dict[str, Database] = {}
        #: Aliases that tests have for the same database.
        self._mirrors: dict[str, Database] = {}
        #: What a thread was refused, for the test itself; the function may have swallowed it.
        self.refused: list[str] = []

    def __enter__(self) -> Self:
        from django.core.exceptions import ImproperlyConfigured
        from django.db import connections

        with contextlib.suppress(ImproperlyConfigured):  # no settings: nobody can use a database
            for alias in connections:
                connection = connections[alias]
                if not connection.settings_dict["TEST"].get("MIRROR"):
                    self._databases[alias] = self._kind(connection)(alias, connection, self)
            for alias in set(connections) - self._databases.keys():
                mirrored = connections[alias].settings_dict["TEST"]["MIRROR"]
                self._mirrors[alias] = self._databases[mirrored]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _kind(self, connection: Any) -> type[Database]:
        if self._stays:
            memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
            return SqliteMemory if memory else Database
        return Sqlite if connection.vendor == "sqlite" else Server

    def folder(self) -> Path:
        """For copies of SQLite databases; removed at the end."""
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="dct-concurrent-")
        return Path(self._folder.name)

    def start(self, run: int) -> None:
        """Before run number `run`: every database is as it was at first."""
        for database in self._databases.values():
            database.start(run)

    def put_back(self) -> None:
        """After all runs."""
        for database in self._databases.values():
            database.put_back()

    def written(self) -> Iterator[tuple[str, Table, Table]]:
        """(table, before, now) for each table that some run wrote to."""
        for alias, database in self._databases.items():
            for table, before, now in database.written():
                yield (table if alias == "default" else f"{alias}:{table}"), before, now

    @contextlib.contextmanager
    def connect(self, query: Callable[[str], None]) -> Iterator[None]:
        """In a thread of ours: its own connections, closed at the end.

        `query` is called with each statement before it is executed.
        """
        from django.db import connections

        with contextlib.ExitStack() as stack:
            for alias, database in {**self._databases, **self._mirrors}.items():
                # All threads of the process share it, and a function may change it.
                connections[alias].settings_dict = {**connections[alias].settings_dict}
                database.connect(connections[alias], query, stack)
                stack.callback(connections[alias].close)
            yield

    def kill(self) -> None:
        """Ends the sessions of threads that hang, so that their locks do not outlive them."""
        for database in self._databases.values():
            database.kill()

    def refusal(self, alias: str, connection: Any) -> str:
        """Why threads may not use `connection`, of the test's own thread; or ""."""
        if not in_tests():
            return (
                f"{self._caller}() would use database {alias!r} outside tests: "
                "call it in a test, run by manage.py test or pytest"
            )
        if connection.in_atomic_block:
            return (
                f"{self._caller}() needs threads with own connections, and this test runs in a "
                f"transaction on {alias!r} that they cannot see: use TransactionTestCase "
                "(DRF: APITransactionTestCase; pytest: django_db(transaction=True))"
            )
        return ""


class Database:
    """One alias; nothing is done with it until a thread opens a connection.

    This one lets things happen.
    """

    def __init__(self, alias: str, connection: Any, owner: Databases) -> None:
        self.alias = alias
        self.main = connection
        self.owner = owner
        self.used = False
        self._refusal = owner.refusal(alias, connection)
        #: Of SimpleTestCase, and for aliases that a test does not name in `databases`.
        self._failures = {
            name: value
            for name, value in vars(connection).items()
            if type(value).__name__ == "_DatabaseFailure"
        }
        self._live: set[Any] = set()
        self._lock = threading.Lock()

    def start(self, run: int) -> None:
        """In the test's thread, before a run."""

    def put_back(self) -> None:
        """In the test's thread, after the last run."""

    def written(self) -> Iterator[tuple[str, Table, Table]]:
        """In the test's thread, after a run."""
        yield from ()

    def kill(self) -> None:
        """In the test's thread, while others hang."""
        for connection in list(self._live):
            with contextlib.suppress(Exception):
                if connection.vendor == "sqlite":
                    connection.connection.interrupt()
                    continue
                with self.main.cursor() as cursor:
                    if connection.vendor == "postgresql":
                        pid = connection.connection.info.backend_pid
                        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
                    elif connection.vendor == "mysql":
                        cursor.execute(f"KILL {connection.connection.thread_id()}")

    def before_opening(self, connection: Any) -> None:
        """In a thread, with the lock held."""

    def after_opening(self, connection: Any) -> None:
        """In a thread."""

    def before_query(self, connection: Any, sql: str) -> None:
        """In a thread."""

    def connect(
        self, connection: Any, query: Callable[[str], None], stack: contextlib.ExitStack
    ) -> None:
        for name, value in self._failures.items():
            setattr(connection, name, value)
        if self._failures:
            return
        original = connection.connect

        def connect() -> None:
            if self._refusal:
                self.owner.refused.append(self._refusal)
                raise UsageError(self._refusal)
            with self._lock:
                self.before_opening(connection)
                self.used = True
            original()
            self.after_opening(connection)
            self._live.add(connection)

        def wrapper(
            execute: Callable[..., Any],
            sql: str,
            params: Any,
            many: bool,
            context: Mapping[str, Any],
        ) -> Any:
            query(str(sql))
            self.before_query(connection, str(sql))
            return execute(sql, params, many, context)

        connection.connect = connect
        stack.callback(self._live.discard, connection)
        stack.enter_context(connection.execute_wrapper(wrapper))
        if self.used:
            connection.ensure_connection()


def _reads(sql: str) -> bool:
    """Whether a statement writes to no table."""
    start = _COMMENTS.match(sql)
    return sql[start.end() if start else 0 :].lstrip("( ").upper().startswith(_READS)


def _tables(sql: str, known: set[str]) -> set[str]:
    """Those that a statement names."""
    return known & set(_WORDS.findall(sql))


class Server(Database):
    """PostgreSQL, MySQL and others: one database for all runs."""

    def __init__(self, alias: str, connection: Any, owner: Databases) -> None:
        super().__init__(alias, connection, owner)
        self._before: dict[str, Table] = {}
        self._reading = threading.local()
        self._known: set[str] = set()

    def start(self, run: int) -> None:
        self.put_back()

    def before_query(self, connection: Any, sql: str) -> None:
        if getattr(self._reading, "now", False) or _reads(sql):
            return
        self._reading.now = True
        try:
            with self._lock, _quiet(connection):
                self._known = self._known or set(connection.introspection.table_names())
                for table in sorted(_tables(sql, self._known) - self._before.keys()):
                    self._before[table] = _read(connection, table)
        finally:
            self._reading.now = False

    def written(self) -> Iterator[tuple[str, Table, Table]]:
        for table, before in self._before.items():
            with _quiet(self.main):
                now = _read(self.main, table, before.keys)
            yield table, before, now

    def put_back(self) -> None:
        from django.db import transaction

        if not self._before:
            return
        try:
            with (
                _quiet(self.main),
                self.main.constraint_checks_disabled(),
                transaction.atomic(using=self.alias),
                self.main.cursor() as cursor,
            ):
                for table, before in self._before.items():
                    now = _read(self.main, table, before.keys)
                    for statement, values in _repairs(table, before, now, self.main):
                        cursor.execute(statement, values)
        except self.main.Database.Error as error:
            raise UsageError(
                f"the rows of database {self.alias!r} cannot be put back: {error}"
            ) from error


@contextlib.contextmanager
def _quiet(connection: Any) -> Iterator[None]:
    """Our own queries are none of the test: `assertNumQueries` does not count them."""
    was, connection.force_debug_cursor = connection.force_debug_cursor, False
    try:
        yield
    finally:
        connection.force_debug_cursor = was


def _read(connection: Any, table: str, keys: tuple[int, ...] | None = None) -> Table:
    with connection.cursor() as cursor:
        primary = (
            connection.introspection.get_primary_key_columns(cursor, table) if keys is None else ()
        )
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
        columns = tuple(column[0] for column in cursor.description)
        rows = tuple(tuple(row) for row in cursor.fetchall())
    if keys is None:
        keys = tuple(columns.index(name) for name in primary or ())
    return Table(columns, keys, rows)


def _repairs(
    table: str, before: Table, now: Table, connection: Any
) -> Iterator[tuple[str, list[Any]]]:
    """Statements that make `before` of `now`."""
    quote = connection.ops.quote_name
    stored = _stored_columns(table, before)
    insert = (
        f"INSERT INTO {quote(table)} ({', '.join(quote(before.columns[n]) for n in stored)}) "
        f"VALUES ({', '.join(['%s'] * len(stored))})"
    )
    if not before.keys:
        if sorted(map(repr, before.rows)) != sorted(map(repr, now.rows)):
            yield f"DELETE FROM {quote(table)}", []
            for row in before.rows:
                yield insert, [row[n] for n in stored]
        return
    where = " AND ".join(f"{quote(before.columns[n])} = %s" for n in before.keys)
    old, new = before.by_key(), now.by_key()
    for key in new.keys() - old.keys():
        yield f"DELETE FROM {quote(table)} WHERE {where}", [new[key][n] for n in before.keys]
    for key in new.keys() & old.keys():
        changed = [n for n in stored if old[key][n] != new[key][n]]
        if changed:
            assigned = ", ".join(f"{quote(before.columns[n])} = %s" for n in changed)
            values = [old[key][n] for n in (*changed, *before.keys)]
            yield f"UPDATE {quote(table)} SET {assigned} WHERE {where}", values
    for key in old.keys() - new.keys():
        yield insert, [old[key][n] for n in stored]


def _stored_columns(table: str, contents: Table) -> list[int]:
    """Those that can be written: the database computes the others."""
    from django.apps import apps

    generated = {
        field.column
        for model in apps.get_models(include_auto_created=True)
        if model._meta.db_table == table
        for field in model._meta.local_concrete_fields
        if getattr(field, "generated", False)
    }
    return [n for n, column in enumerate(contents.columns) if column not in generated]


class Sqlite(Database):
    """A copy of the database for each run, in a file."""

    def __init__(self, alias: str, connection: Any, owner: Databases) -> None:
        super().__init__(alias, connection, owner)
        self._touched: set[str] = set()
        self._known: set[str] = set()
        self._first: Path | None = None
        self._file: Path | None = None
        self._run = 0

    def start(self, run: int) -> None:
        self._run = run
        if self._first is not None:
            self._copy(self._first)

    def before_opening(self, connection: Any) -> None:
        if self._first is None:
            self._first = self.owner.folder() / f"{self.alias}.sqlite3"
            copy(self.main, self._first)
            with contextlib.closing(sqlite3.connect(self._first)) as raw:
                self._known = {name for (name,) in raw.execute(_TABLES)}
            self._copy(self._first)
        point_at(connection, self._file)

    def after_opening(self, connection: Any) -> None:
        connection.connection.execute("PRAGMA synchronous = OFF").close()

    def _copy(self, first: Path) -> None:
        """Makes the file of this run."""
        if self._file is not None:
            self._file.unlink()
        self._file = self.owner.folder() / f"{self.alias}-{self._run}.sqlite3"
        shutil.copyfile(first, self._file)
        with contextlib.closing(sqlite3.connect(self._file)) as raw, raw:
            _shift_keys(raw, self._run)

    def before_query(self, connection: Any, sql: str) -> None:
        if not _reads(sql):
            with self._lock:
                self._touched |= _tables(sql, self._known)

    def written(self) -> Iterator[tuple[str, Table, Table]]:
        if self._first is None or self._file is None:
            return
        for table in sorted(self._touched):
            yield table, _read_file(self._first, table), _read_file(self._file, table)


class SqliteMemory(Database):
    """Memory, which connections cannot share without locking each other out: they use a file
    instead, and the memory gets its contents at the end.
    """

    _file: Path | None = None

    def before_opening(self, connection: Any) -> None:
        if self._file is None:
            self._file = self.owner.folder() / f"{self.alias}.sqlite3"
            copy(self.main, self._file)
        point_at(connection, self._file)

    def put_back(self) -> None:
        if self._file is not None:
            with contextlib.closing(sqlite3.connect(self._file)) as raw:
                raw.backup(self.main.connection)


def copy(connection: Any, target: Path) -> None:
    """All of a SQLite database, in memory or in a file, into a new file; in any thread.

    `connection`: the wrapper of the test's own thread, which does nothing meanwhile.
    """
    with contextlib.ExitStack() as stack:
        source = connection.connection
        if source is None:
            name = str(connection.settings_dict["NAME"])
            source = stack.enter_context(contextlib.closing(sqlite3.connect(name, uri=True)))
        raw = stack.enter_context(contextlib.closing(sqlite3.connect(target)))
        source.backup(raw)


def point_at(connection: Any, file: Path | None) -> None:
    """Has a thread's wrapper, which is not open yet, use `file`."""
    connection.settings_dict = {**connection.settings_dict, "NAME": str(file)}


def _shift_keys(raw: sqlite3.Connection, run: int) -> None:
    """New rows get other keys in each run, as they do where sequences go on: no key is a result."""
    if not raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
        return
    raw.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_master "
        "WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%' "
        "AND name NOT IN (SELECT name FROM sqlite_sequence)"
    )
    raw.execute("UPDATE sqlite_sequence SET seq = seq + ?", [1000 * run])


def _read_file(file: Path, table: str) -> Table:
    with contextlib.closing(sqlite3.connect(file)) as raw:
        described = raw.execute("SELECT name, pk FROM pragma_table_xinfo(?)", [table]).fetchall()
        keys = {name: place for name, place in described if place}
        cursor = raw.execute(f'SELECT * FROM "{table}"')
        columns = tuple(column[0] for column in cursor.description)
        places = tuple(columns.index(name) for name in sorted(keys, key=keys.__getitem__))
        return Table(columns, places, tuple(cursor.fetchall()))
