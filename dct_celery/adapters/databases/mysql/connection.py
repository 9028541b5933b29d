"""One MySQL or MariaDB connection: opened when needed, checked, replaced, never used after a fork.

Statements run in a session whose settings are all set by us, whatever the server's defaults are:
they decide what SHOW CREATE prints and how it is read back.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import MySQLdb
import MySQLdb.cursors

from dct_celery.errors import DatabaseError, DatabaseUnfit, ServerFault
from dct_celery.ports import DatabasePolicy, DatabaseSpec, DatabaseStats

#: Keys of Django's OPTIONS that say how to connect; the others configure the project's sessions.
_OPTIONS = (
    "unix_socket",
    "read_default_file",
    "read_default_group",
    "ssl",
    "ssl_mode",
    "auth_plugin",
    "server_public_key_path",
    "compress",
    "local_infile",
)
#: The same for TLS in the words of PyMySQL and MySQL Connector -> in those of mysqlclient.
_TLS = {
    "ssl_ca": "ca",
    "ssl_capath": "capath",
    "ssl_cert": "cert",
    "ssl_key": "key",
    "ssl_cipher": "cipher",
}
#: Zero ids stay zero; times mean the same wherever they are read; waiting long for a lock is an
#: error.
_SESSION = (
    "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 0, unique_checks = 0, "
    "time_zone = '+00:00', sql_quote_show_create = 1, sql_safe_updates = 0, "
    "sql_select_limit = DEFAULT, lock_wait_timeout = {lock_wait}, wait_timeout = {idle}"
)
#: Not every server has these settings, nor every user the right to set them; we can work without.
_WISHES = (
    "sql_log_bin = 0",
    "innodb_strict_mode = 0",
    "sql_require_primary_key = 0",
    "max_statement_time = 0",
)
#: Longest text that goes to the server in one packet; the smallest default limit is 16 MiB.
PACKET = 512 * 1024

UNKNOWN_DATABASE = 1049
UNKNOWN_TABLE = 1146
DATABASE_EXISTS = 1007
_LOST = frozenset({2006, 2013, 2014, 2055, 4031, 1927, 1053})
#: Not 2014 and 2055: those mean that a session was used wrongly, or has ended already.
_FAULTS = {
    **dict.fromkeys((1040, 1203, 1226), ServerFault.CONNECTIONS),
    **dict.fromkeys((1021, 1114), ServerFault.DISK),
    **dict.fromkeys((2002, 2003, 2006, 2013, 4031, 1927, 1053, 1077, 1079), ServerFault.AWAY),
}
#: The server turns a connection down, now and at the next try: user, password, host, TLS, plugin.
_TURNED_DOWN = frozenset({1044, 1045, 1130, 1251, 1524, 1698, 2059, 2061, 3118, 3159, 4151})
_REFUSED = frozenset({1044, 1045, 1142, 1143, 1227, 1370})

#: A server that vanishes silently is noticed within half a minute, however long an answer may take.
#: Seconds, except for the last.
_NETWORK = (
    ("TCP_KEEPIDLE", 10),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 10_000),
)

_open: weakref.WeakSet[Any] = weakref.WeakSet()


def _disown() -> None:
    """Makes inherited connections harmless in a forked child.

    The destructor of one would end the parent's session through the shared socket.
    """
    links = list(_open)
    if links:
        with open(os.devnull, "r+b", buffering=0) as nowhere:
            for link in links:
                link.disown(nowhere.fileno())


os.register_at_fork(after_in_child=_disown)


def identifier(name: str) -> str:
    """`name` quoted for MySQL and MariaDB, whatever it contains.

    Raises DatabaseError for a NUL, which no name can have.
    """
    if "\0" in name:
        raise DatabaseError(f"{name!r} cannot be the name of a database object")
    return "`" + name.replace("`", "``") + "`"


def code(error: BaseException | None) -> int:
    """The server's error number behind one of our errors; 0 for none."""
    while isinstance(error, DatabaseError):
        error = error.__cause__
    first = error.args[0] if isinstance(error, MySQLdb.Error) and error.args else 0
    return first if isinstance(first, int) else 0


def refused(error: BaseException) -> bool:
    """Whether the error means that we lack a privilege."""
    return code(error) in _REFUSED


def text(value: Any) -> str:
    """A text column as `str`; the servers declare some of their own as binary."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def where(spec: DatabaseSpec) -> str:
    """The server's address for messages."""
    socket = spec.host if spec.host.startswith("/") else str(spec.options.get("unix_socket") or "")
    return socket or f"{spec.host or 'localhost'}:{spec.port or 3306}"


def parameters(spec: DatabaseSpec) -> dict[str, Any]:
    """The parameters for MySQLdb, as Django would pass them, but without a database.

    The configured one is production.
    """
    given: dict[str, Any] = {name: spec.options[name] for name in _OPTIONS if name in spec.options}
    tls = {ours: spec.options[name] for name, ours in _TLS.items() if spec.options.get(name)}
    if tls and "ssl" not in given:
        given["ssl"] = tls
    place = "unix_socket" if spec.host.startswith("/") else "host"
    named = {
        "user": spec.user,
        "passwd": spec.password,
        place: spec.host,
        "port": int(spec.port) if spec.port else None,
    }
    return given | {name: value for name, value in named.items() if value}


def addresses(spec: DatabaseSpec) -> Iterator[str]:
    """Addresses of the server, on a connection of its own.

    Nothing is sent on it before the second address is asked for.
    """
    connection = _connected(spec, connect_timeout=10, read_timeout=10, write_timeout=10)
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as link:
            peer = link.getpeername()
        yield str(peer[0]) if isinstance(peer, tuple) else "localhost"
        connection.query("SELECT @@hostname")
        yield text(connection.store_result().fetch_row()[0][0])
    except MySQLdb.Error as error:
        raise DatabaseError(f"{where(spec)}: {_line(error)}", fault=_fault(error)) from error
    finally:
        connection.close()


def _connected(spec: DatabaseSpec, **more: Any) -> Any:
    """A new connection. Raises DatabaseError."""
    try:
        return MySQLdb.connect(charset="utf8mb4", **more, **parameters(spec))
    except (MySQLdb.Error, TypeError, ValueError) as error:
        raise (DatabaseUnfit if _is_turned_down(error) else DatabaseError)(
            f"database {spec.alias!r} on {where(spec)} cannot be reached from this worker: "
            f"{_line(error)}; check HOST, PORT, USER, PASSWORD and OPTIONS (TLS) of its settings "
            "as this worker sees them",
            fault=_fault(error),
        ) from error


def _is_turned_down(error: Exception) -> bool:
    """Whether no retry helps. A TLS error may as well be a connection that broke."""
    if not isinstance(error, MySQLdb.Error):
        return True
    number = code(error)
    return number in _TURNED_DOWN or (number == 2026 and "certificate" in str(error).lower())


class Link:
    """A session, opened when first needed.

    `policy` says when it is replaced; None for never, because it holds locks.
    """

    def __init__(
        self,
        spec: DatabaseSpec,
        stats: DatabaseStats,
        policy: DatabasePolicy | None = None,
        *,
        idle: int = 28_800,
        answer: int = 1800,
    ) -> None:
        """`idle`: idle seconds until the server ends the session; `answer`: longest wait, too."""
        self._spec = spec
        self._stats = stats
        self._policy = policy
        self._idle = idle
        self._answer = answer
        self._connection: Any = None
        self._depth = 0
        self._inside = False
        self._used = 0
        self._opened_at = self._spoke_at = 0.0
        _open.add(self)

    # -- statements --------------------------------------------------------------

    def run(self, statement: str, params: Sequence[Any] | None = None) -> int:
        """Executes one statement; the number of affected rows."""
        with self._translated(), self.operation(), contextlib.closing(self._cursor()) as cursor:
            return int(cursor.execute(statement, params))

    def rows(self, statement: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        with self._translated(), self.operation(), contextlib.closing(self._cursor()) as cursor:
            cursor.execute(statement, params)
            return list(cursor.fetchall())

    def one(self, statement: str, params: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """The only row. Raises DatabaseError when there is none."""
        rows = self.rows(statement, params)
        if not rows:
            raise DatabaseError(f"{where(self._spec)}: no answer to {statement.split(' ', 1)[0]}")
        return rows[0]

    def batch(self, statements: Sequence[str]) -> list[list[tuple[Any, ...]]]:
        """Executes statements in as few packets as possible; returns the rows of each.

        Stops at the first error.
        """
        answers: list[list[tuple[Any, ...]]] = []
        with self._translated(), self.operation():
            for packet in _packets(statements):
                answers += self._packet(packet)
        return answers

    def batch_of(self, statements: Iterable[str]) -> None:
        """Executes any number of statements and ignores their rows."""
        with self._translated(), self.operation():
            for packet in _packets(statements):
                for _ in self._packet(packet):
                    pass

    def stream(self, statement: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yields rows in lists of `size`, never all in memory; the session is busy meanwhile."""
        with (
            self._translated(),
            self.operation(),
            contextlib.closing(self._cursor(MySQLdb.cursors.SSCursor)) as cursor,
        ):
            cursor.execute(statement)
            while rows := cursor.fetchmany(size):
                yield list(rows)

    def _packet(self, packet: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
        with contextlib.closing(self._cursor()) as cursor:
            self._stats.statements += len(packet) - 1
            cursor.execute(";\n".join(packet))
            for _ in packet:
                # Errors of later statements are raised here and nowhere else.
                yield list(cursor.fetchall()) if cursor.description else []
                cursor.nextset()

    def _cursor(self, kind: type[Any] = MySQLdb.cursors.Cursor) -> Any:
        self._stats.statements += 1
        self._used += 1
        return self._connection.cursor(kind)

    # -- connection --------------------------------------------------------------

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """One session for everything inside, checked and replaced only at the outermost entry."""
        if self._depth == 0 or self._connection is None:
            self._ready()
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self._leave()
        finally:
            self._depth = max(self._depth - 1, 0)
            self._spoke_at = time.monotonic()

    def use(self, name: str) -> None:
        """Makes the database current until the operation ends."""
        with self.operation():
            self.run(f"USE {identifier(name)}")
            self._inside = True

    def _leave(self) -> None:
        """Leaves the current database: healing or dropping it ends all sessions that are in it."""
        if self._inside and self._connection is not None:
            self.run("USE information_schema")
        self._inside = False

    def connected(self) -> bool:
        return self._connection is not None

    def id(self) -> int:
        """The server's id of this session."""
        with self.operation():
            return int(self._connection.thread_id())

    def server(self) -> str:
        """The server's version, and its make if that is MariaDB."""
        with self.operation():
            return str(self._connection.get_server_info())

    def is_mariadb(self) -> bool:
        return "mariadb" in self.server().lower()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(MySQLdb.Error):
                connection.close()

    def disown(self, nowhere: int) -> None:
        """Forgets a session that belongs to another process.

        Its socket is replaced by the descriptor `nowhere`.
        """
        if self._connection is not None:
            with contextlib.suppress(MySQLdb.Error, OSError):
                os.dup2(nowhere, self._connection.fileno(), inheritable=False)
            self._connection = None
        self._depth = 0

    def _ready(self) -> None:
        if self._connection is not None and self._worn():
            self.close()
            self._stats.recycled += 1
        if self._connection is not None and self._silent() and not self._answers():
            self.close()
        if self._connection is None:
            self._connect()
        else:
            self._stats.reused += 1

    def _worn(self) -> bool:
        policy = self._policy
        if policy is None:
            return False
        old = policy.max_age and time.monotonic() - self._opened_at > policy.max_age
        return bool(old or (policy.max_operations and self._used >= policy.max_operations))

    def _silent(self) -> bool:
        return (
            self._policy is not None
            and time.monotonic() - self._spoke_at > self._policy.health_check_seconds
        )

    def _answers(self) -> bool:
        try:
            self._connection.ping()
        except MySQLdb.Error:
            self._stats.failed += 1
            return False
        return True

    def _connect(self) -> None:
        timeouts = {
            "connect_timeout": 10,
            "read_timeout": self._answer,
            "write_timeout": self._answer,
        }
        try:
            connection = _connected(self._spec, autocommit=True, **timeouts)
        except DatabaseError:
            self._stats.failed += 1
            raise
        _set_keepalive(connection.fileno())
        self._connection = connection
        self._used = 0
        self._opened_at = self._spoke_at = time.monotonic()
        self._stats.opened += 1
        try:
            with self._translated():
                self._set_up(connection)
        except DatabaseError:
            self.close()
            raise

    def _set_up(self, connection: Any) -> None:
        connection.query(_SESSION.format(lock_wait=5, idle=self._idle))
        for wish in _WISHES:
            with contextlib.suppress(MySQLdb.Error):
                connection.query(f"SET SESSION {wish}")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except MySQLdb.Error as error:
            if code(error) in _LOST or isinstance(error, MySQLdb.InterfaceError):
                self._stats.failed += 1
                self.close()
            raise DatabaseError(
                f"{where(self._spec)}: {_line(error)}", fault=_fault(error)
            ) from error


def _set_keepalive(fd: int) -> None:
    """Sets keep-alive on the socket itself, as the client library has no option for it."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as link:
        if link.family in (socket.AF_INET, socket.AF_INET6):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _NETWORK:
                if option := getattr(socket, name, None):
                    link.setsockopt(socket.IPPROTO_TCP, option, value)


def _packets(statements: Iterable[str]) -> Iterator[list[str]]:
    packet: list[str] = []
    size = 0
    for statement in statements:
        if packet and (size + len(statement) > PACKET or len(packet) >= 200):
            yield packet
            packet, size = [], 0
        packet.append(statement)
        size += len(statement) + 2
    if packet:
        yield packet


def _fault(error: BaseException) -> ServerFault | None:
    if isinstance(error, MySQLdb.InterfaceError) and code(error) == 0:
        return ServerFault.AWAY  # the session is closed
    return _FAULTS.get(code(error))


def _line(error: BaseException) -> str:
    args = error.args
    number, message = args[:2] if len(args) > 1 else (0, str(error) or type(error).__name__)
    line = " ".join(str(message).split())
    return f"{line} (error {number})" if number else line
