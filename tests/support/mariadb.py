"""A private MariaDB for tests, in memory where there is room, without durability."""

from __future__ import annotations

import configparser
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dct_celery.adapters.embedded import child
from dct_celery.errors import InfrastructureError

SHM = Path("/dev/shm")
_SHM_NEEDED = 512 * 1024 * 1024
_PREFIX = "dct-maria-"
_PORT_TRIES = 5
_FIX = "no MariaDB server is installed: apt-get install mariadb-server"
THROW_AWAY = Path(__file__).parents[2] / "deploy" / "databases" / "mariadb.cnf"


def _throw_away() -> dict[str, str]:
    """The settings of docs/databases.md, as arguments of the command line."""
    parser = configparser.ConfigParser(allow_no_value=True, inline_comment_prefixes=None)
    parser.read(THROW_AWAY)
    return {
        name.replace("_", "-"): value
        for name, value in parser["mariadbd"].items()
        if value is not None
    }


SETTINGS = _throw_away() | {
    "innodb-buffer-pool-size": "128M",
    "innodb-log-file-size": "64M",
    "performance-schema": "OFF",
    "character-set-server": "utf8mb4",
}
#: Rights that the adapter asks for, and no more; the first item is the user.
_USERS = (
    "CREATE USER 'dct'@'%' IDENTIFIED BY '{0}'; "
    "GRANT ALL ON `test\\_%`.* TO 'dct'@'%';CREATE USER 'admin'@'%' IDENTIFIED BY '{0}'; "
    "GRANT ALL ON *.* TO 'admin'@'%' WITH GRANT OPTION;"
)


class EmbeddedMariaDB:
    """A running server; a context manager that stops it and removes its data.

    User `dct` may do what `GRANT ALL ON test\\_%` allows, `admin` everything; both have `password`.
    """

    user = "dct"
    admin = "admin"

    def __init__(
        self, process: subprocess.Popen[bytes], home: _Home, host: str, port: int, password: str
    ) -> None:
        self._process = process
        self._home = home
        self.host = host
        self.port = port
        self.password = password

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def socket(self) -> str:
        return str(self._home.path / "sock")

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        bind: str = "127.0.0.1",
        settings: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Makes a data directory and starts a server on a free port of `bind`.

        `settings` are added to `SETTINGS`.
        """
        programs, account = _Programs(environ), _account()
        folder.mkdir(parents=True, exist_ok=True)
        home, password = _Home(folder, account), secrets.token_hex(12)
        try:
            starter = _Starter(
                programs, home, account, folder / "mariadb.log", child.quiet_environment(environ)
            )
            starter.install(password, timeout)
            process, port = starter.start(bind, SETTINGS | dict(settings or {}), timeout)
        except BaseException:
            home.remove()
            raise
        return cls(process, home, bind, port, password)

    def stop(self) -> None:
        """Kills the server and removes its data."""
        child.stop(self._process, signal.SIGKILL, 5)
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


class _Programs:
    """The server and its installer, on PATH or where Debian keeps them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = os.pathsep.join([environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
        server, install = (
            shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")
        )
        if not server or not install:
            raise InfrastructureError(_FIX)
        self.server, self.install = server, install


class _Home:
    """The server's folder.

    A lock held by us as long as we live marks it as used; folders without one are swept.
    """

    def __init__(self, fallback: Path, account: pwd.struct_passwd | None) -> None:
        room = (
            SHM.is_dir() and os.access(SHM, os.W_OK) and shutil.disk_usage(SHM).free >= _SHM_NEEDED
        )
        place = SHM if room else fallback.resolve()
        _sweep(place)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        self._lock: IO[bytes] = (self.path / "lock").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        if account:
            os.chown(self.path, account.pw_uid, account.pw_gid)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


class _Starter:
    def __init__(
        self,
        programs: _Programs,
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

    def install(self, password: str, timeout: float) -> None:
        init = self._home / "init.sql"
        init.write_text(_USERS.format(password).replace(";", ";\n"))
        options = [
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            "--innodb-log-file-size=16M",
        ]
        process = self._launch(
            [self._programs.install, "--no-defaults", f"--datadir={self._home}/data", *options]
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            child.stop(process, signal.SIGTERM, 1)
        if code != 0:
            raise self._failure("mariadb-install-db failed")

    def start(
        self, bind: str, settings: Mapping[str, str], timeout: float
    ) -> tuple[subprocess.Popen[bytes], int]:
        for _ in range(_PORT_TRIES):
            port = child.free_port(bind)
            process = self._launch(
                [
                    self._programs.server,
                    *self._options(bind, port),
                    *(f"--{k}={v}" for k, v in settings.items()),
                ]
            )
            try:
                # The pid file is written when the server is about to listen, after init.sql has
                # run.
                if child.wait_ready(process, (self._home / "pid").exists, timeout):
                    return process, port
            except BaseException:
                child.stop(process, signal.SIGKILL, 1)
                raise
            child.stop(process, signal.SIGKILL, 1)
            if "in use" not in child.tail(self._log):
                break
        raise self._failure("MariaDB does not start")

    def _options(self, bind: str, port: int) -> list[str]:
        home = self._home
        files = [
            f"--datadir={home}/data",
            f"--socket={home}/sock",
            f"--pid-file={home}/pid",
            f"--init-file={home}/init.sql",
        ]
        network = [f"--bind-address={bind}", f"--port={port}", "--skip-name-resolve"]
        return ["--no-defaults", *files, *network, f"--tmpdir={home}", "--skip-log-bin"]

    def _launch(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return child.launch(
                argv,
                log=log,
                env=self._env,
                cwd=Path("/"),
                account=self._account,
                death=signal.SIGKILL,
            )

    def _failure(self, what: str) -> InfrastructureError:
        text = child.tail(self._log)
        return InfrastructureError(
            f"{what}: {text.rpartition(chr(10))[2]}; see {self._log}", detail=text
        )


def _account() -> pwd.struct_passwd | None:
    """None for ourselves; as root, mysql or nobody, since the server refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("mysql", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise InfrastructureError(
        "MariaDB refuses to run as root and there is no user mysql or nobody: add one"
    )


def _sweep(place: Path) -> None:
    """Removes what a killed test session left: a minute old, its lock free."""
    for lock in place.glob(f"{_PREFIX}*/lock"):
        with suppress(OSError):
            if time.time() - lock.stat().st_mtime > 60:
                with lock.open("rb") as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
