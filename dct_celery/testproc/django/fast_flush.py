"""A faster flush after a TransactionTestCase on PostgreSQL: only tables with rows are truncated.

Django truncates every table, and PostgreSQL creates new files for each of them and for each of its
indexes, rows or not: some 350 ms for 200 tables, after every transactional test. Truncating an
empty table changes nothing that SQL can see, so those are left out.

Wherever that is not certain, Django's own statement is used: another session at work on the tables,
TRUNCATE triggers, row security, inheritance or partitions, foreign keys from tables that Django
does not know, tables that cannot be resolved. Rows, sequences, other sessions' locks, errors and
the post_migrate signal are those of Django's flush.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

#: For each table: its oid, whether it allows the fast flush, and whether it has pages.
_TABLES = """
SELECT c.oid::bigint,
       c.relkind = 'r' AND NOT c.relrowsecurity AND NOT c.relhassubclass AND NOT c.relispartition
       AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid)
       AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgtype & 32 <> 0),
       pg_relation_size(c.oid) > 0
FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
LEFT JOIN pg_class c ON c.oid = to_regclass(wanted.name) ORDER BY wanted.place
"""
_KEYS = (
    "SELECT conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f' "
    "AND conrelid <> confrelid"
)
#: Whether another session holds or awaits a lock in this database: perhaps it has rows that we
#: cannot see yet.
_OTHERS = """
SELECT EXISTS (
  SELECT 1 FROM pg_locks
  WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND locktype = 'relation' AND pid <> pg_backend_pid()
)
"""


def install() -> None:
    """Replaces what TransactionTestCase calls to flush.

    A test that patches the same name patches this.
    """
    import django.test.testcases as testcases

    original: Any = testcases.call_command  # type: ignore[attr-defined]
    if getattr(original, "__wrapped__", None) is None:
        testcases.call_command = _wrapped(original)  # type: ignore[attr-defined]


def _wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call_command(name: Any, *args: Any, **options: Any) -> Any:
        if name != "flush" or options.get("reset_sequences", True) or options.get("allow_cascade"):
            return original(name, *args, **options)
        with _short(options.get("database")):
            return original(name, *args, **options)

    return call_command


@contextlib.contextmanager
def _short(alias: str | None) -> Iterator[None]:
    """Makes the connection's operations pass fewer tables to Django's own sql_flush."""
    from django.db import connections

    connection: Any = connections[alias or "default"]
    if connection.vendor != "postgresql" or "sql_flush" in vars(connection.ops):
        yield
        return
    full = connection.ops.sql_flush

    def sql_flush(style: Any, tables: list[str], **options: Any) -> list[str]:
        short = rows_only(connection, tables)
        return list(full(style, tables if short is None else short, **options))

    connection.ops.sql_flush = sql_flush
    try:
        yield
    finally:
        del connection.ops.sql_flush


def rows_only(connection: Any, tables: list[str]) -> list[str] | None:
    """The tables, of those given, that have to be truncated; None when this is not safe.

    These are the ones with rows, and those with a foreign key to one of them, and so on. Runs
    outside Django's cursor, so that no query count or log of the project sees it.
    """
    if connection.in_atomic_block or not tables:
        return None
    try:
        connection.ensure_connection()
        if not connection.get_autocommit():
            return None
        with connection.connection.cursor() as cursor:
            return _rows_only(connection, cursor, tables)
    except Exception:
        return None  # Django's own flush comes next and reports the same error


def _rows_only(connection: Any, cursor: Any, tables: list[str]) -> list[str] | None:
    cursor.execute(_TABLES, [[connection.ops.quote_name(table) for table in tables]])
    found = cursor.fetchall()
    if not all(plain for _, plain, _ in found):
        return None
    names = {oid: table for (oid, _, _), table in zip(found, tables, strict=True)}
    filled = _filled(connection, cursor, {names[oid]: oid for oid, _, used in found if used})
    cursor.execute(_KEYS)
    keys = cursor.fetchall()
    # Never an empty list: Django would take that for a database without tables, and skip
    # post_migrate.
    filled = filled or {min(names, key={referred for _, referred in keys}.__contains__)}
    closed = _with_referrers(filled, keys, set(names))
    cursor.execute(_OTHERS)
    return (
        None
        if closed is None or cursor.fetchone()[0]
        else [names[oid] for oid in names if oid in closed]
    )


def _filled(connection: Any, cursor: Any, candidates: dict[str, int]) -> set[int]:
    """Those with rows: a table that was filled and emptied keeps its pages."""
    if not candidates:
        return set()
    queries = (
        f"SELECT {oid} WHERE EXISTS (SELECT 1 FROM {connection.ops.quote_name(table)})"
        for table, oid in candidates.items()
    )
    cursor.execute(" UNION ALL ".join(queries))
    return {row[0] for row in cursor.fetchall()}


def _with_referrers(
    filled: set[int], keys: list[tuple[int, int]], known: set[int]
) -> set[int] | None:
    """Adds the tables that refer to one of these, as TRUNCATE requires.

    None if a table that Django does not know refers to one that it does: there Django's statement
    fails, and so it must here.
    """
    referrers: dict[int, set[int]] = {}
    for referrer, referred in keys:
        if referred in known:
            if referrer not in known:
                return None
            referrers.setdefault(referred, set()).add(referrer)
    closed: set[int] = set()
    open_ = set(filled)
    while open_:
        table = open_.pop()
        closed.add(table)
        open_ |= referrers.get(table, set()) - closed
    return closed
