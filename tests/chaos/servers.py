"""Servers that can be broken and come back where they were: Redis, PostgreSQL, MariaDB.

All are started by the thread that runs the rounds: they die with it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dct_celery.adapters.embedded import EmbeddedPostgres, child
from dct_celery.adapters.embedded.binaries import find_valkey
from dct_celery.ports import DatabaseSpec
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.postgres import connect

#: Seconds for a server to come up, on a busy machine.
PATIENCE = 30.0
#: Connections that a database server takes: few, so that the last one can be taken.
CONNECTIONS = 60


class RedisServer:
    """A Redis that keeps nothing on disk, always on the same port."""

    def __init__(self, folder: Path, bind: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._bind = folder, bind
        self.port = child.free_port(bind)
        self.password = secrets.token_hex(8)
        self._process = self._launch(self.port)
        self.wait()

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self._bind}:{self.port}/0"

    @property
    def host(self) -> str:
        return self._bind

    def client(self, port: int = 0) -> Any:
        """A client that gives up quickly, so that a broken server does not hold up the faults."""
        return redis.Redis(
            host=self._bind,
            port=port or self.port,
            password=self.password,
            socket_timeout=2,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),
        )

    def answers(self, port: int = 0) -> bool:
        with contextlib.suppress(redis.RedisError), self.client(port) as client:
            return bool(client.ping())
        return False

    def wait(self, port: int = 0) -> None:
        if not child.wait_ready(self._process, lambda: self.answers(port), PATIENCE):
            raise RuntimeError(
                f"redis-server does not start: {child.tail(self._folder / 'redis.log')}"
            )

    def kill(self) -> None:
        child.stop(self._process, signal.SIGKILL, 5)

    def restart(self) -> None:
        """The same server without its data."""
        self._process = self._launch(self.port)
        self.wait()

    def replica(self) -> tuple[int, subprocess.Popen[bytes]]:
        """A replica that has everything, and its port."""
        port = child.free_port(self._bind)
        process = self._launch(port)
        if not child.wait_ready(process, lambda: self.answers(port), PATIENCE):
            raise RuntimeError("the replica does not start")
        with self.client(port) as client:
            client.config_set("masterauth", self.password)
            client.replicaof(self._bind, self.port)
            child.wait_ready(
                process, lambda: client.info("replication")["master_link_status"] == "up", PATIENCE
            )
        return port, process

    def fail_over(self, port: int, process: subprocess.Popen[bytes]) -> None:
        """The replica, which must be a primary by now, replaces this server, which dies."""
        self.kill()
        self._process = process
        with self.client(port) as client:
            client.config_set("port", self.port)
        self.wait()

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        lines = [
            f"bind {self._bind}",
            f"port {port}",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
            "daemonize no",
            f"requirepass {self.password}",
            "enable-debug-command yes",
            "repl-diskless-sync-delay 0",
        ]
        with (self._folder / "redis.log").open("ab") as log:
            process = child.launch(
                [str(find_valkey()), "-"],
                log=log,
                env=child.quiet_environment(os.environ),
                cwd=self._folder,
                stdin=subprocess.PIPE,
                death=signal.SIGKILL,
            )
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write("\n".join(lines).encode() + b"\n")
        return process


class Database:
    """A database server that can crash and come back, and a hand on its sessions."""

    def __init__(self, folder: Path, bind: str, vendor: str) -> None:
        self.vendor = vendor
        if vendor == "postgresql":
            self._server: EmbeddedPostgres | EmbeddedMariaDB = EmbeddedPostgres.start(
                folder, bind=bind
            )
            self._log = folder / "postgres.log"
        else:
            settings = {"max-connections": str(CONNECTIONS)}
            self._server = EmbeddedMariaDB.start(folder, bind=bind, settings=settings)
            self._log = folder / "mariadb.log"
        self._account = _owner(self._server.pid)
        self._argv = [_limited(word) for word in _argv(self._server.pid)]
        if vendor == "postgresql":
            self.crash()
            self.start()
            self.wait()

    @property
    def port(self) -> int:
        return int(self._server.port)

    @property
    def environment(self) -> dict[str, str]:
        """What the project's settings read."""
        server = self._server
        values = {
            "HOST": server.host,
            "PORT": str(server.port),
            "USER": server.user,
            "PASSWORD": server.password,
        }
        return {
            "CHAOS_DB_ENGINE": self.vendor,
            **{f"CHAOS_DB_{name}": value for name, value in values.items()},
        }

    @property
    def spec(self) -> DatabaseSpec:
        server = self._server
        return DatabaseSpec(
            "default", self.vendor, "chaos",
            host=server.host, port=str(server.port), user=server.user, password=server.password,
        )  # fmt: skip

    def crash(self) -> None:
        """Ends it at once: immediate shutdown of PostgreSQL, kill -9 of MariaDB."""
        process = self._server._process
        process.send_signal(signal.SIGQUIT if self.vendor == "postgresql" else signal.SIGKILL)
        process.wait(PATIENCE)

    def start(self) -> None:
        """Starts it again on its old data; returns before it answers."""
        death = signal.SIGINT if self.vendor == "postgresql" else signal.SIGKILL
        with self._log.open("ab") as log:
            self._server._process = child.launch(
                self._argv,
                log=log,
                env=child.quiet_environment(os.environ),
                cwd=Path("/"),
                account=self._account,
                death=death,
            )

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(Exception):
                self.connect().close()
                return
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the database server does not come back: {child.tail(self._log)}"
                )
            time.sleep(0.05)

    def connect(self) -> Any:
        """A session with all rights. Raises the driver's errors."""
        server = self._server
        if isinstance(server, EmbeddedPostgres):
            return connect(server, connect_timeout=2)
        import MySQLdb

        return MySQLdb.connect(
            host=server.host,
            port=server.port,
            user=server.admin,
            password=server.password,
            connect_timeout=2,
            autocommit=True,
        )

    def terminate_sessions(self) -> None:
        """Ends every session but our own."""
        with contextlib.closing(self.connect()) as connection:
            cursor = connection.cursor()
            if self.vendor == "postgresql":
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                return
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE id <> connection_id() "
                "AND command <> 'Daemon'"
            )
            for (one,) in cursor.fetchall():
                with contextlib.suppress(Exception):  # it may have ended
                    cursor.execute(f"KILL {int(one)}")

    def stop(self) -> None:
        self._server.stop()


def hold_all(connect: Callable[[], Any], limit: int = CONNECTIONS + 10) -> list[Any]:
    """Sessions until the server takes no more."""
    held: list[Any] = []
    with contextlib.suppress(Exception):
        while len(held) < limit:
            held.append(connect())
    return held


def _argv(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def _limited(word: str) -> str:
    return f"max_connections={CONNECTIONS}" if word.startswith("max_connections=") else word


def _owner(pid: int) -> pwd.struct_passwd | None:
    """Whom the server runs as; None for ourselves."""
    uid = Path(f"/proc/{pid}").stat().st_uid
    return pwd.getpwuid(uid) if uid != os.geteuid() else None
