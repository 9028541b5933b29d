"""SQLite databases in memory: no connection of a thread that has ended is closed in the middle of a
query of another.

A thread that used such a database leaves its connection open, in a cycle that only the garbage
collector undoes. Should a collection come while SQLite calls Python (REGEXP in the flush of a
transactional test, a date function in a query), it closes the connection there, waits for the lock
of the memory that both share, and so for itself, for ever. The sequential run has that hang, too,
at random. So connections are held here, and closed between two classes, when no query runs.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import weakref
from typing import Any

#: (the wrapper that made it, weakly; the raw connection).
_held: list[tuple[weakref.ref[Any], Any]] = []


def install() -> None:
    """Every connection to memory that is made from now on is held."""
    from django.db.backends.sqlite3.base import DatabaseWrapper

    original: Any = DatabaseWrapper.get_new_connection
    if hasattr(original, "_dct_holds"):
        return

    @functools.wraps(original)
    def get_new_connection(self: Any, conn_params: Any) -> Any:
        connection = original(self, conn_params)
        if self.is_in_memory_db():
            _held.append((weakref.ref(self), connection))
        return connection

    get_new_connection._dct_holds = True  # type: ignore[attr-defined]
    DatabaseWrapper.get_new_connection = get_new_connection  # type: ignore[method-assign]


def let_go() -> None:
    """Closes those whose wrapper is gone. Only to be called while no query runs in this thread."""
    for entry in list(_held):  # one by one: threads may add to it meanwhile
        wrapper, connection = entry
        if wrapper() is None:
            _held.remove(entry)
            # Not left to its end: with its cache of statements it is a cycle, too, for the next
            # collection to close.
            with contextlib.suppress(sqlite3.Error):
                connection.close()
