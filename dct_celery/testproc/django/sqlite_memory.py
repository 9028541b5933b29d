"""SQLite databases in memory: no connection of an ended thread is closed during a query.

A thread that used such a database leaves its connection open, in a cycle that only the garbage
collector frees. If that happens while SQLite calls Python (REGEXP in the flush of a transactional
test, a date function in a query), the connection is closed there and waits for the lock of the
shared memory, which its own thread holds: a deadlock. The sequential run has this hang, too, at
random. So connections are kept referenced here, and closed between two classes, when no query runs.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import weakref
from typing import Any

#: (the wrapper that opened it, weakly; the raw connection).
_held: list[tuple[weakref.ref[Any], Any]] = []


def install() -> None:
    """Keeps a reference to every connection to memory that is opened from now on."""
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


def close_abandoned() -> None:
    """Closes those whose wrapper is gone. Call it only while no query runs in this thread."""
    for entry in list(_held):  # one by one: threads may add to it meanwhile
        wrapper, connection = entry
        if wrapper() is None:
            _held.remove(entry)
            # Closed explicitly: with its cache of statements it is a cycle, too, which the next
            # collection would close.
            with contextlib.suppress(sqlite3.Error):
                connection.close()
