"""A private RabbitMQ for tests: own ports, own port mapper, own folder.

Nothing of the machine's own server is touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from kombu import Connection

from dct_celery.adapters.embedded import child
from dct_celery.errors import InfrastructureError

_MEND = "no RabbitMQ server is installed: apt-get install rabbitmq-server"
#: Debian's wrapper changes to a user of its own and writes to /var; the program behind it does
#: neither.
_BESIDE_THE_WRAPPER = "/usr/lib/rabbitmq/bin"
#: Busy waiting of Erlang's schedulers takes what the tests need of a small machine.
_ERLANG = "+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2 +A 4"


class EmbeddedRabbitMQ:
    """A running broker; a context manager that kills it and removes its data.

    `url` is `amqp://user:password@host:port//`.
    """

    def __init__(
        self,
        folder: Path,
        bind: str,
        environ: Mapping[str, str],
        settings: Mapping[str, str],
        advanced: str,
    ) -> None:
        path = os.pathsep.join(
            [_BESIDE_THE_WRAPPER, environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
        )
        server, mapper = (shutil.which(name, path=path) for name in ("rabbitmq-server", "epmd"))
        if not server or not mapper:
            raise InfrastructureError(_MEND)
        self.host = bind
        self.password = secrets.token_hex(12)
        self.port, self._mapper_port, distribution = (
            child.free_port("127.0.0.1") for _ in range(3)
        )
        self._server, self._folder, self._log = server, folder, folder / "rabbitmq.log"
        self._write(settings, advanced)
        self._env = {
            **child.quiet_environment({"PATH": path}),
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"dct-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }
        self._mapper = self._launch(
            [mapper, "-port", str(self._mapper_port), "-address", "127.0.0.1"]
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://dct:{self.password}@{self.host}:{self.port}//"

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        bind: str = "127.0.0.1",
        environ: Mapping[str, str] = os.environ,
        settings: Mapping[str, str] | None = None,
        advanced: str = "[].",
    ) -> Self:
        """`settings` are lines of rabbitmq.conf, `advanced` is advanced.config.

        It dies with the calling thread. Raises InfrastructureError: no server program, or it does
        not start within a minute.
        """
        folder.mkdir(parents=True, exist_ok=True)
        server = cls(folder, bind, environ, settings or {}, advanced)
        try:
            server.go_on()
        except BaseException:
            server.stop()
            raise
        return server

    def crash(self) -> None:
        """Kills the broker at once. Its folder stays, for `go_on`."""
        if self._process is not None:
            child.stop(self._process, signal.SIGKILL, 5)
            self._process = None

    def go_on(self, timeout: float = 60.0) -> None:
        """Starts the broker on its folder."""
        process = self._process = self._launch([self._server])
        if not child.wait_ready(process, self._answers, timeout):
            text = child.tail(self._log)
            raise InfrastructureError(
                f"RabbitMQ does not start: {text.rpartition(chr(10))[2]}; see {self._log}",
                detail=text,
            )

    def freeze(self) -> None:
        """The broker stands still, its connections open, until `thaw`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def queues(self) -> set[str]:
        """Names of the queues that exist, as far as they were `watched`."""
        return {
            row.split("\t")[0]
            for row in self.ctl("list_queues", "name", "--silent").splitlines()
            if row
        }

    def ctl(self, *words: str) -> str:
        """What `rabbitmqctl` says; takes a second or two."""
        program = shutil.which("rabbitmqctl", path=self._env["PATH"])
        assert program is not None
        done = subprocess.run(
            [program, *words],
            env=self._env,
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    def stop(self) -> None:
        self.crash()
        child.stop(self._mapper, signal.SIGKILL, 5)
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _write(self, settings: Mapping[str, str], advanced: str) -> None:
        lines = {
            "listeners.tcp.1": f"{self.host}:{self.port}",
            "loopback_users": "none",
            "default_user": "dct",
            "default_pass": self.password,
            "log.console": "true",
            "log.file": "false",
        }
        text = "".join(f"{name} = {value}\n" for name, value in {**lines, **settings}.items())
        (self._folder / "rabbitmq.conf").write_text(text)
        (self._folder / "advanced.config").write_text(advanced)
        (self._folder / "plugins").write_text("[].")

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((self.host, self.port), timeout=1):
            pass
        with suppress(Exception), Connection(self.url, connect_timeout=2) as connection:
            connection.connect()
            return True
        return False

    def _launch(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return child.launch(argv, log=log, env=self._env, cwd=Path("/"), death=signal.SIGKILL)
