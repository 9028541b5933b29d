"""Liveness and locks on PostgreSQL: advisory locks, which end with the session that holds them.

Advisory locks are per database, so all are taken on the maintenance database. Liveness locks and
holds are shared locks: taking one never waits, and whether one is held is read from pg_locks.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from dct_celery.adapters.databases.postgres.session import PostgresSession
from dct_celery.errors import DatabaseError

#: The server ends a silent session by its idle time-out, or by TCP keep-alive when the host is
#: gone.
_SIGN_SETTINGS = (
    b"SET idle_session_timeout = '60s'; SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval ="
    b" 10; SET tcp_keepalives_count = 3"
)
_HELD = (
    "SELECT DISTINCT (classid::bigint << 32) | objid::bigint FROM pg_locks "
    "WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND database = (SELECT oid "
    "FROM pg_database WHERE datname = current_database())"
)


def key(kind: str, name: str) -> int:
    """The key of the advisory lock for a thing: a signed number of 64 bits."""
    return int.from_bytes(
        hashlib.sha256(f"{kind}:{name}".encode()).digest()[:8], "big", signed=True
    )


def held(session: PostgresSession) -> set[int]:
    """The keys of all locks that any session holds."""
    return {row[0] for row in session.rows(_HELD)}


class PostgresLiveness:
    """A session that holds the owner's lock, and one lock for each template in use."""

    def __init__(self, session: PostgresSession, owner: str) -> None:
        self._session = session
        self._owner = owner
        self._keys = [key("owner", owner)]
        self._connection: psycopg.Connection[Any] | None = None
        self.renew()

    def hold(self, template: str) -> None:
        wanted = key("hold", template)
        if wanted not in self._keys:
            self._keys.append(wanted)
            if self._connection is not None:
                with contextlib.suppress(psycopg.Error):
                    self._take(self._connection, [wanted])
                    return
            self._begin()

    def renew(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.execute("SELECT 1")
                return
        self._begin()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _begin(self) -> None:
        self.close()
        connection = self._session.open(name=f"dct {self._owner}"[:63])
        with self._session.translated():
            connection.execute(_SIGN_SETTINGS)
            self._take(connection, self._keys)
        self._connection = connection

    def _take(self, connection: psycopg.Connection[Any], keys: list[int]) -> None:
        connection.execute("SELECT pg_advisory_lock_shared(k) FROM unnest(%s::bigint[]) k", [keys])


@contextlib.contextmanager
def locked_by_us(session: PostgresSession, name: str) -> Iterator[None]:
    """Holds the lock of that name, on a connection of its own. Waits for it."""
    with contextlib.closing(session.open(name="dct lock")) as connection:
        with session.translated():
            connection.execute("SELECT pg_advisory_lock(%s)", [key("lock", name)])
        yield


@contextlib.contextmanager
def one_of(session: PostgresSession, kind: str, names: Iterable[object]) -> Iterator[None]:
    """Holds one of these locks, on the session's own connection.

    Takes a free one, else waits for the first.
    """
    keys = [key(kind, str(name)) for name in names]
    with session.pinned():
        free = (
            wanted for wanted in keys if session.row("SELECT pg_try_advisory_lock(%s)", [wanted])[0]
        )
        taken = next(free, None)
        if taken is None:
            taken = keys[0]
            session.rows("SELECT pg_advisory_lock(%s)", [taken])
        try:
            yield
        finally:
            with contextlib.suppress(DatabaseError):  # the session is lost, and its lock with it
                session.rows("SELECT pg_advisory_unlock(%s)", [taken])
