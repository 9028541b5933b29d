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
from collections.abc import Callable, Iterator
from typing import Any

from dct_celery.core.databases.server_fault import fault_in
from dct_celery.errors import ServerFault
from dct_celery.testproc.clock import now
from dct_celery.testproc.meter import Meter

#: First letters of a statement -> whether it reads, writes, or neither; these come from Django.
_KINDS = {
    "SELECT": "r",
    "INSERT": "w",
    "UPDATE": "w",
    "DELETE": "w",
    "SAVEPO": "",
    "RELEAS": "",
    "ROLLBA": "",
}
_WORD = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*([a-zA-Z]+)", re.DOTALL)
_READ = frozenset({"select", "values", "table", "show", "explain", "describe"})
_WRITE = frozenset({"insert", "update", "delete", "replace", "merge", "truncate", "copy", "load"})
_DEFINE = frozenset({"create", "alter", "drop", "rename", "comment", "grant", "revoke"})
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
    kind_of = _KINDS.get

    @functools.wraps(original)
    def _execute_with_wrappers(self: Any, sql: Any, params: Any, many: Any, executor: Any) -> Any:
        began = now()
        try:
            result = original(self, sql, params, many, executor)
        except BaseException as error:
            spent = now() - began
            meter.queries += 1
            meter.seconds += spent
            _failed(meter, error)
            raise
        spent = now() - began
        meter.queries += 1
        meter.seconds += spent
        kind = kind_of(sql[:6]) if type(sql) is str else None
        if kind is None:
            kind = _kind(sql)
        if kind:
            if kind == "r":
                meter.reads += 1
            else:
                meter.writes += 1
            try:
                rows = self.cursor.rowcount
                if type(rows) is int and rows > 0:
                    meter.rows += rows
            except Exception:  # a cursor of the test's own
                return result
        return result

    return _execute_with_wrappers


def _kind(sql: Any) -> str:
    """Of a statement that Django has not made: also bytes, or an object of psycopg's `sql`."""
    try:
        text = _text(sql)
        found = _WORD.match(text)
    except Exception:
        return ""
    word = found[1].lower() if found else ""
    if word == "with":
        return "w" if _CHANGES.search(text) else "r"
    return "r" if word in _READ else "w" if word in _WRITE | _DEFINE else ""


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
    meter.errors += 1
    lost = isinstance(error, OperationalError) and fault_in(str(error)) is ServerFault.AWAY
    if lost or isinstance(error, InterfaceError):
        meter.connection_errors += 1


def _connecting(original: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            made = original(self, *args, **kwargs)
        except Exception as error:
            driver: Any = getattr(self, "Database", None)
            if isinstance(error, getattr(driver, "Error", ())):
                meter.connection_errors += 1
            raise
        meter.connections += 1
        return made

    return connect


def _committing(original: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    @functools.wraps(original)
    @contextlib.contextmanager
    def debug_transaction(connection: Any, sql: str) -> Iterator[None]:
        began = now()
        try:
            with original(connection, sql):
                yield
        except BaseException as error:
            _failed(meter, error)
            raise
        finally:
            spent = now() - began
            meter.queries += 1
            meter.seconds += spent

    return debug_transaction
