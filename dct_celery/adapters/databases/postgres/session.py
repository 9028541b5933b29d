"""Sessions with a PostgreSQL server: one for short statements, others on request.

The one is opened when needed and replaced when worn. Errors become one line.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from dct_celery.core.databases.names import REGISTRY
from dct_celery.core.databases.server_fault import fault_in
from dct_celery.errors import DatabaseError, DatabaseUnfit, ServerFault
from dct_celery.ports import DatabasePolicy, DatabaseSpec, DatabaseStats

#: Parameters of libpq that are ours to say, whatever Django's OPTIONS have.
_OURS = frozenset(
    {"dbname", "application_name", "fallback_application_name", "connect_timeout", "replication"}
)
#: Parameters that this libpq knows -> the variable that stands for each, or "".
_LIBPQ = {
    option.keyword.decode(): (option.envvar or b"").decode()
    for option in psycopg.pq.Conninfo.get_defaults()
}
#: The database for statements that need none of their own. Never the configured one: that is
#: production.
_MAINTENANCE = "postgres"
#: The database from which one of our own is created where the maintenance database is closed to us.
_LOBBY = "template1"
#: SQLSTATEs for a database that does not exist, is closed to us by its grants or by pg_hba.conf, or
#: allows no connections.
_CLOSED = frozenset({"3D000", "42501", "28000", "55000"})
_EXISTS = frozenset({"42P04", "23505"})
#: A server that vanishes silently is noticed within half a minute. Times in seconds;
#: tcp_user_timeout in milliseconds.
_NETWORK = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
#: Time-outs that the role or server has for the application must not end a clone or a lock of ours.
_NO_TIMEOUTS = (
    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0"
)
_FIXES = {
    "53100": "its disk is full: free space there; `dct gc` drops databases of runs that are over",
    "53200": "it is out of memory: lower the number of slots, or its shared_buffers and work_mem",
    "53300": "it has no connection left: raise max_connections there, or lower the number of slots",
    "25006": "it is read-only: set HOST and PORT to the primary server",
}
#: Reasons for which the server turns a connection down, now and at the next try. libpq has no
#: SQLSTATE for them, so a server that speaks another language is asked again.
_REFUSED = re.compile(
    r"password authentication failed|no password supplied|authentication failed for user"
    r"|no pg_hba\.conf entry|role .* does not exist|is not permitted to log in"
    r"|does not support SSL|certificate|invalid \S+ value"
)
#: By SQLSTATE, or by its class (the first two characters).
_FAULTS = {
    "53300": ServerFault.CONNECTIONS,
    "53100": ServerFault.DISK,
    "08": ServerFault.AWAY,
    "57P01": ServerFault.AWAY,
    "57P02": ServerFault.AWAY,
    "57P03": ServerFault.AWAY,
    "57P05": ServerFault.AWAY,
}


class PostgresSession:
    """One connection to the server's maintenance database, and others on request.

    Every method raises DatabaseError with one line; its `__cause__` is the driver's error.
    """

    def __init__(
        self,
        spec: DatabaseSpec,
        policy: DatabasePolicy,
        stats: DatabaseStats,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.alias = spec.alias
        self.where = f"{spec.host or 'the local socket'}:{spec.port or 5432}"
        self._spec, self._policy, self._stats, self._clock = spec, policy, stats, clock
        self._maintenance = ""
        self._connection: psycopg.Connection[Any] | None = None
        self._operations = 0
        self._opened_at = self._used_at = 0.0
        self._pins = 0

    # -- statements --------------------------------------------------------------

    def run(self, *statements: sql.Composable) -> None:
        """Runs the statements, in one transaction."""
        with self.translated():
            self._use().execute(sql.SQL("; ").join(statements))

    def rows(self, query: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query.

        It is sent again when the connection turns out to be lost, so it must not change anything.
        """
        try:
            return self._rows(query, params)
        except DatabaseError:
            if self._pins or (self._connection is not None and not self._connection.closed):
                raise
        return self._rows(query, params)

    def row(self, query: str, params: Sequence[Any] | None = None) -> tuple[Any, ...]:
        return self.rows(query, params)[0]

    def version(self) -> int:
        """As server_version_num: 150018 for 15.18."""
        with self.translated():
            return self._use().info.server_version

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Keeps the same connection inside the block, for the locks that it holds.

        When it is lost, statements fail.
        """
        self._use()
        self._pins += 1
        try:
            yield
        finally:
            self._pins -= 1

    def passes_through_a_pooler(self) -> bool:
        """Whether the server process that we talk to is not the one that we logged in to."""
        with self.translated():
            connection = self._use()
            return connection.execute("SELECT pg_backend_pid()").fetchall() != [
                (connection.info.backend_pid,)
            ]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- connections -------------------------------------------------------------

    def open(self, database: str = "", *, name: str = "dct") -> psycopg.Connection[Any]:
        """A new autocommitting connection that belongs to the caller.

        It leads to the maintenance database unless another is named.
        """
        with self.translated():
            connection = (
                self._connect_to(database, name) if database else self._connect_to_maintenance(name)
            )
            connection.execute(_no_timeouts(connection.info.server_version))
        self._stats.opened += 1
        return connection

    def addresses(self) -> Iterator[str]:
        """Addresses of the server, on a connection of its own.

        Nothing is sent on it before the second address is asked for.
        """
        with contextlib.closing(self._connect_anywhere()) as connection:
            yield connection.info.hostaddr or connection.info.host
            with self.translated():
                row = connection.execute("SELECT host(inet_server_addr())").fetchone()
            if row and row[0]:
                yield str(row[0])

    def _connect_anywhere(self) -> psycopg.Connection[Any]:
        """A connection to any database that lets us in."""
        for database in (_MAINTENANCE, REGISTRY):
            try:
                return self._connect_to(database, "dct")
            except DatabaseError as error:
                if not _is_closed(error, database):
                    raise
        return self._connect_to(_LOBBY, "dct")

    def wait_until_closed(self, pid: int) -> None:
        """Waits until the server process of a closed connection is gone.

        Otherwise a statement about its database waits for a tenth of a second.
        """
        until = self._clock() + 2.0
        while (
            self.rows("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
            and self._clock() < until
        ):
            time.sleep(0.001)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raises the driver's errors as one line that names alias and server.

        Where we know how to fix it, the line says so.
        """
        try:
            yield
        except psycopg.Error as error:
            raise DatabaseError(self.sentence(error), fault=_fault(error)) from error

    def sentence(self, error: psycopg.Error) -> str:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        fix = _FIXES.get(error.sqlstate or "")
        return f"database {self.alias!r} on {self.where}: {line}" + (f"; {fix}" if fix else "")

    def _rows(self, query: str, params: Sequence[Any] | None) -> list[tuple[Any, ...]]:
        with self.translated():
            return self._use().execute(query.encode(), params).fetchall()

    def _use(self) -> psycopg.Connection[Any]:
        self._retire()
        if self._connection is None:
            if self._pins:
                line = (
                    f"database {self.alias!r} on {self.where}: "
                    "the connection was lost in the middle of a step"
                )
                raise DatabaseError(line, fault=ServerFault.AWAY)
            self._connection = self.open()
            self._operations, self._opened_at = 0, self._clock()
        else:
            self._stats.reused += 1
        self._operations += 1
        self._stats.statements += 1
        self._used_at = self._clock()
        return self._connection

    def _retire(self) -> None:
        """Closes a connection that is lost, worn or old."""
        connection = self._connection
        if connection is None or (self._pins and not connection.closed):
            return
        if connection.closed or not self._answers(connection):
            self._stats.failed += 1
        elif self._is_worn():
            self._stats.recycled += 1
        else:
            return
        self.close()

    def _is_worn(self) -> bool:
        operations, age = self._policy.max_operations, self._policy.max_age
        return bool(
            (operations and self._operations >= operations)
            or (age and self._clock() - self._opened_at >= age)
        )

    def _answers(self, connection: psycopg.Connection[Any]) -> bool:
        if self._clock() - self._used_at < self._policy.health_check_seconds:
            return True
        try:
            connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def _connect_to_maintenance(self, name: str) -> psycopg.Connection[Any]:
        """Connects to `postgres`, or to a database of our own where that is closed to us.

        Locks are per database, so every worker must use the same one. No connection may stay in
        template1, which any CREATE DATABASE copies: that fails while a session is connected there.
        """
        if self._maintenance:
            return self._connect_to(self._maintenance, name)
        closed: DatabaseError | None = None
        for database in (_MAINTENANCE, REGISTRY):
            try:
                connection = self._connect_to(database, name)
            except DatabaseError as error:
                if not _is_closed(error, database):
                    raise
                closed = closed or error
            else:
                self._maintenance = database
                return connection
        assert closed is not None
        self._make_registry(closed)
        connection = self._connect_to(REGISTRY, name)
        self._maintenance = REGISTRY
        return connection

    def _make_registry(self, closed: DatabaseError) -> None:
        """Creates the database of our own, over a short connection to template1.

        It is copied from template0, so several workers may do so at once. `closed` says why the
        maintenance database cannot be used.
        """
        try:
            with contextlib.closing(self._connect_to(_LOBBY, "dct")) as lobby:
                lobby.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(
                        sql.Identifier(REGISTRY)
                    )
                )
        except DatabaseError as error:
            raise (closed if _is_closed(error, _LOBBY) else error) from error
        except psycopg.Error as error:
            if error.sqlstate in _EXISTS:
                return
            raise DatabaseError(
                f"{closed}; without it, this role would need a database of its own for locks, "
                f"which it may not create: {self.sentence(error)}; as a superuser: "
                f"GRANT CONNECT ON DATABASE {_MAINTENANCE} TO the role, and give it CREATEDB",
                fault=_fault(error),
            ) from error

    def _connect_to(self, database: str, name: str) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(
                autocommit=True,
                prepare_threshold=None,
                application_name=name,
                **self._parameters(database),
            )
        except psycopg.OperationalError as error:
            self._stats.failed += 1
            fault = _fault(error)
            fix = (
                "check HOST, PORT, USER, PASSWORD and OPTIONS of its settings as this worker "
                "sees them"
            )
            if fault is ServerFault.CONNECTIONS:
                fix = _FIXES["53300"]
            reason = _reason(error)
            refused = fault is None and _REFUSED.search(reason)
            raise (DatabaseUnfit if refused else DatabaseError)(
                f"database {self.alias!r} on {self.where} cannot be reached from this worker: "
                f"{reason}; {fix}",
                fault=fault,
            ) from error

    def _parameters(self, database: str) -> Mapping[str, Any]:
        return {**_NETWORK, **parameters(self._spec), "dbname": database}


def parameters(spec: DatabaseSpec) -> dict[str, str]:
    """libpq's parameters for a session of the project's, without a database."""
    given = {"host": spec.host, "port": spec.port, "user": spec.user, "password": spec.password}
    options = {
        name: str(value)
        for name, value in spec.options.items()
        if name in _LIBPQ and name not in _OURS
    }
    if role := spec.options.get("assume_role"):
        # Django sends SET ROLE on each connection; a server that is asked at the start does the
        # same. A backslash takes the meaning from the sign after it.
        name = re.sub(r"([\\\s])", r"\\\1", str(role))
        options["options"] = f"{options.get('options', '')} -c role={name}".strip()
    return {**options, **{name: value for name, value in given.items() if value}}


def variables(spec: DatabaseSpec) -> dict[str, str]:
    """The same for programs of PostgreSQL, whose arguments everybody could read."""
    said = parameters(spec).items()
    return {_LIBPQ[name]: value for name, value in said if _LIBPQ[name]}


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE behind a DatabaseError; "" where it has none."""
    cause = error.__cause__
    return (cause.sqlstate or "") if isinstance(cause, psycopg.Error) else ""


def _no_timeouts(version: int) -> bytes:
    later = [(140000, "idle_session_timeout"), (170000, "transaction_timeout")]
    return "; ".join(
        [_NO_TIMEOUTS, *(f"SET {name} = 0" for since, name in later if version >= since)]
    ).encode()


def _fault(error: psycopg.Error) -> ServerFault | None:
    """Classifies by SQLSTATE; libpq has none for a connection that failed or broke."""
    code = error.sqlstate or ""
    return (_FAULTS.get(code) or _FAULTS.get(code[:2])) if code else fault_in(str(error))


def _reason(error: psycopg.Error) -> str:
    """The line with the reason.

    A DETAIL or HINT may follow it; failures for another address, or for the same one with TLS, may
    precede it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith(("DETAIL:", "HINT:"))]
    return (plain or lines or [type(error).__name__])[-1]


def _is_closed(error: DatabaseError, database: str) -> bool:
    """Whether the error is about this database: it does not exist or is closed to us.

    A server that is full or starting up names no database, and no other one would help.
    """
    cause = error.__cause__
    assert isinstance(cause, psycopg.Error)
    if cause.sqlstate:
        return cause.sqlstate in _CLOSED
    # The whole text: some reasons have more lines below, or appear once with and once without TLS.
    said = " ".join(str(cause).split("FATAL:")[1:])
    return bool(re.search(rf"[\"'«»„“]\s?{database}\s?[\"'«»“”]", said)) and error.fault is None
