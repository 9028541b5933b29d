"""A private PostgreSQL for throw-away data, in memory if there is room."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dct_celery.adapters.embedded import child
from dct_celery.adapters.embedded.binaries import find_postgres, reachable
from dct_celery.errors import InfrastructureError
from dct_celery.security.files import try_lock

SHM = Path("/dev/shm")
_SHM_NEEDED = 512 * 1024 * 1024
_PREFIX = "dct-pg-"
_USER = "dct"
_PORT_TRIES = 5
#: Nothing here survives the server, so nothing needs to reach a disk; autovacuum would only slow
#: down copies of templates.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "autovacuum": "off",
    "jit": "off",
    "timezone": "UTC",
}


class EmbeddedPostgres:
    """A running server; a context manager that stops it and removes its data."""

    def __init__(
        self, process: subprocess.Popen[bytes], home: _Home, host: str, port: int, password: str
    ) -> None:
        self._process = process
        self._home = home
        self.host = host
        self.port = port
        self.user = _USER
        self.password = password
        self._stopped = False

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Where the data is; gone after `stop`."""
        return self._home.path

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        bind: str = "127.0.0.1",
        password: str | None = None,
        timeout: float = 60.0,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Makes a cluster and starts it on a free port of `bind` (an IPv4 address).

        The superuser is `dct`, the database `postgres`. `folder` gets the log, and the data when
        /dev/shm has too little room. Without `password` a random one is made; it is required on
        loopback, too. As root the server runs as postgres or nobody. It dies with the calling
        thread. Raises InfrastructureError: no programs, initdb fails, or no start within `timeout`
        seconds.
        """
        account, secret = child.server_account(), password or secrets.token_urlsafe(24)
        programs = reachable(find_postgres(environ), account)
        folder.mkdir(parents=True, exist_ok=True)
        home = _Home(folder, account)
        try:
            server = _Starter(
                programs, home, account, folder / "postgres.log", child.quiet_environment(environ)
            )
            server.initdb(secret, timeout)
            process, port = server.start(bind, timeout)
        except BaseException:
            home.remove()
            raise
        return cls(process, home, "127.0.0.1" if bind == "0.0.0.0" else bind, port, secret)

    def stop(self) -> None:
        """Shuts the server down, kills it after 10 s, and removes the data. May be called twice."""
        if not self._stopped:
            self._stopped = True
            child.stop(self._process, signal.SIGINT, 10)
            self._home.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Home:
    """The server's folder.

    A lock that we hold as long as we live marks it as used; folders without one are removed.
    """

    def __init__(self, fallback: Path, account: pwd.struct_passwd | None) -> None:
        place = _data_folder(fallback, account)
        _remove_leftovers(place)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        self._lock: IO[bytes] = (self.path / "lock").open("wb")
        try_lock(self._lock)  # a new file: no other process has it

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


class _Starter:
    """The two steps from an empty folder to a running server."""

    def __init__(
        self,
        programs: Path,
        home: _Home,
        account: pwd.struct_passwd | None,
        log: Path,
        env: Mapping[str, str],
    ) -> None:
        self._programs, self._home, self._account, self._log, self._env = (
            programs,
            home.path,
            account,
            log,
            env,
        )
        self._data = home.path / "data"

    def initdb(self, password: str, timeout: float) -> None:
        secret = self._home / "password"
        secret.touch(mode=0o600)
        secret.write_text(password + "\n")
        if self._account:
            for path in (self._home, secret):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        options = [
            "-N",
            "-U",
            _USER,
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        process = self._launch(["initdb", *options, "-D", str(self._data)])
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            child.stop(process, signal.SIGTERM, 1)
            secret.unlink()
        if code != 0:
            raise self._failure("initdb failed")

    def start(self, bind: str, timeout: float) -> tuple[subprocess.Popen[bytes], int]:
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        for _ in range(_PORT_TRIES):
            port = child.free_port(bind)
            process = self._launch(["postgres", "-D", str(self._data), *self._options(bind, port)])
            try:
                if child.wait_ready(process, self._is_ready, timeout):
                    return process, port
            except BaseException:
                child.stop(process, signal.SIGQUIT, 1)
                raise
            child.stop(process, signal.SIGQUIT, 1)
            # Another process may have taken the port since it was found.
            if "in use" not in child.tail(self._log):
                break
        raise self._failure("PostgreSQL does not start")

    def _options(self, bind: str, port: int) -> list[str]:
        # The path of a socket may have 107 bytes at most; without one the server is reached over
        # TCP.
        sockets = str(self._home) if len(os.fsencode(self._home)) < 90 else ""
        own = {"listen_addresses": bind, "port": str(port), "unix_socket_directories": sockets}
        return [
            text for name, value in (_SETTINGS | own).items() for text in ("-c", f"{name}={value}")
        ]

    def _is_ready(self) -> bool:
        """As pg_ctl does: the eighth line of the pid file is the server's state."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _launch(self, argv: list[str]) -> subprocess.Popen[bytes]:
        command = [str(self._programs / argv[0]), *argv[1:]]
        with self._log.open("ab") as log:
            return child.launch(
                command,
                log=log,
                env=self._env,
                cwd=Path("/"),
                account=self._account,
                death=signal.SIGINT,
            )

    def _failure(self, what: str) -> InfrastructureError:
        text = child.tail(self._log)
        reason = text.rpartition("\n")[2]
        return InfrastructureError(
            f"{what} ({self._programs}): {reason}; see {self._log}", detail=text
        )


def _data_folder(fallback: Path, account: pwd.struct_passwd | None) -> Path:
    """A folder in memory if there is room, else the caller's, else the machine's temporary one."""
    with suppress(OSError):
        if os.access(SHM, os.W_OK) and shutil.disk_usage(SHM).free >= _SHM_NEEDED:
            return SHM
    for folder in (fallback.resolve(), Path(tempfile.gettempdir())):
        if child.can_enter(folder, account):
            return folder
    raise InfrastructureError(
        f"PostgreSQL's user cannot enter {fallback}: set TMPDIR to a folder that all may enter"
    )


def _remove_leftovers(place: Path) -> None:
    """Removes what a killed process left: ours by name and owner, a minute old, not locked."""
    for lock in place.glob(f"{_PREFIX}*/lock"):
        with suppress(OSError):
            state = lock.lstat()
            old = time.time() - state.st_mtime > 60
            if (
                old
                and stat.S_ISREG(state.st_mode)
                and state.st_uid == os.geteuid()
                and _is_free(lock)
            ):
                shutil.rmtree(lock.parent, ignore_errors=True)


def _is_free(lock: Path) -> bool:
    with lock.open("rb") as held:
        return try_lock(held)
