"""Counts the statements of every connection, in whichever thread, copy or pool, and keeps none.

One method of Django's `CursorWrapper` is wrapped, once in a process: it is where `execute` and
`executemany` of all vendors come together, with a debug cursor and without, outside of the
project's execute wrappers. So the count is that of CaptureQueriesContext; `execute_wrappers`,
`queries`, `force_debug_cursor` and the classes of cursors are what they are without it, and a
connection that a test makes or replaces is counted like any other. BEGIN, COMMIT and ROLLBACK,
which are no statements of a cursor, are counted where Django logs them.

Not counted, as with assertNumQueries: what a test does with the driver's own connection, and
`callproc`. Nor is COPY of psycopg.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from dct_celery.core.databases.server_fault import fault_in
from dct_celery.errors import ServerFault
from dct_celery.testproc.meter import (
    CONNECTION_ERRORS,
    CONNECTIONS,
    ERRORS,
    QUERIES,
    READS,
    SECONDS,
    WRITES,
    Meter,
)

#: First letters of a statement that comes from Django -> what it counts as, beside a query.
_KINDS = {
    "SELECT": READS,
    "INSERT": WRITES,
    "UPDATE": WRITES,
    "DELETE": WRITES,
    "SAVEPO": 0,
    "RELEAS": 0,
    "ROLLBA": 0,
}
#: In a tuple, where tests that freeze time do not find it.
_CLOCK = (time.perf_counter,)
_WORD = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*([a-zA-Z]+)", re.DOTALL)
_READ = frozenset({"select", "values", "table", "show", "explain", "describe"})
_CHANGE = {"insert", "update", "delete", "replace", "merge", "truncate", "copy", "load"}
_WRITE = _CHANGE | {"create", "alter", "drop", "rename", "comment", "grant", "revoke"}
#: A WITH that changes something.
_CHANGES = re.compile(
    r"\b(?:insert\s+into|delete\s+from|merge\s+into|update\s+\S+\s+set)\b", re.IGNORECASE
)


#: The meter of this process, once it counts.
_installed: list[Meter] = []


def install(meter: Meter | None) -> None:
    """From now on this process counts into `meter`; None: it counts nothing. For processes with
    tests: a second call changes nothing.
    """
    if meter is None or _installed:
        return
    _installed.append(meter)
    from django.db.backends import utils
    from django.db.backends.base import base

    cls: Any = utils.CursorWrapper
    cls._execute_with_wrappers = _counting(cls._execute_with_wrappers, meter)
    wrapper: Any = base.BaseDatabaseWrapper
    wrapper.connect = _connecting(wrapper.connect, meter)
    for name in ("django.db.backends.base.base", "django.db.backends.oracle.base"):
        module: Any = sys.modules.get(name)
        if module is not None:
            module.debug_transaction = _committing(module.debug_transaction, meter)


def _counting(original: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    # Locals, and numbers for the places of `Used`: this runs for every statement.
    kind_of, clock = _KINDS.get, _CLOCK[0]

    @functools.wraps(original)
    def _execute_with_wrappers(self: Any, sql: Any, params: Any, many: Any, executor: Any) -> Any:
        began = clock()
        try:
            result = original(self, sql, params, many, executor)
        except BaseException as error:
            spent = clock() - began
            counts = meter.counts
            counts[0] += 1
            counts[3] += spent
            _failed(meter, error)
            raise
        kind = kind_of(sql[:6]) if type(sql) is str else None
        if kind is None:
            kind = _kind(sql)
        rows = _rows(self.cursor) if kind else 0
        spent = clock() - began
        counts = meter.counts
        counts[0] += 1
        counts[3] += spent
        if kind:
            counts[kind] += 1
            counts[4] += rows
        return result

    return _execute_with_wrappers


def _rows(cursor: Any) -> int:
    """Of the last statement; 0 where the driver does not say, or the cursor is a test's own."""
    try:
        rows = cursor.rowcount
    except Exception:
        return 0
    return rows if type(rows) is int and rows > 0 else 0


def _kind(sql: Any) -> int:
    """Of a statement that Django has not made: also bytes, or an object of psycopg's `sql`."""
    try:
        text = _text(sql)
        found = _WORD.match(text)
    except Exception:
        return 0
    word = found[1].lower() if found else ""
    if word == "with":
        return WRITES if _CHANGES.search(text) else READS
    return READS if word in _READ else WRITES if word in _WRITE else 0


def _text(sql: Any) -> str:
    """The statement, or its beginning where it is composed of several parts."""
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes):
        return sql.decode()
    inner = getattr(sql, "_obj", getattr(sql, "_wrapped", ""))
    return _text(inner[0]) if isinstance(inner, list) else str(inner)


def _failed(meter: Meter, error: BaseException) -> None:
    from django.db import InterfaceError, OperationalError

    if not isinstance(error, Exception):
        return
    meter.counts[ERRORS] += 1
    lost = isinstance(error, OperationalError) and fault_in(str(error)) is ServerFault.AWAY
    if lost or isinstance(error, InterfaceError):
        meter.counts[CONNECTION_ERRORS] += 1


def _connecting(original: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            made = original(self, *args, **kwargs)
        except Exception as error:
            driver: Any = getattr(self, "Database", None)
            if isinstance(error, getattr(driver, "Error", ())):
                meter.counts[CONNECTION_ERRORS] += 1
            raise
        meter.counts[CONNECTIONS] += 1
        return made

    return connect


def _committing(original: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    @functools.wraps(original)
    @contextlib.contextmanager
    def debug_transaction(connection: Any, sql: str) -> Iterator[None]:
        began = _CLOCK[0]()
        try:
            with original(connection, sql):
                yield
        except BaseException as error:
            _failed(meter, error)
            raise
        finally:
            spent = _CLOCK[0]() - began
            meter.counts[QUERIES] += 1
            meter.counts[SECONDS] += spent

    return debug_transaction
