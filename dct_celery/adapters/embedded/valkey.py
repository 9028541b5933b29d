"""A private Valkey (or Redis) without persistence: broker and store for `--local`."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from dct_celery.adapters.embedded import child
from dct_celery.adapters.embedded.binaries import find_valkey
from dct_celery.errors import InfrastructureError

_ANY = "0.0.0.0"
_PORT_TRIES = 5


class EmbeddedValkey:
    """A running server; a context manager that stops it. `url` is `redis://:password@host:port/0`."""

    def __init__(
        self, process: subprocess.Popen[bytes], host: str, port: int, password: str
    ) -> None:
        self._process = process
        self.host = host
        self.port = port
        self.password = password
        self._stopped = False

    @property
    def url(self) -> str:
        """Store and broker URL, password included."""
        return f"redis://:{quote(self.password, safe='')}@{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        bind: str = "127.0.0.1",
        password: str | None = None,
        timeout: float = 20.0,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Starts a server on a free port of `bind` (an IPv4 address) and waits until it answers.

        `folder` gets its log. Without `password` a random one is made. The server dies with the
        calling thread. Raises InfrastructureError: no server program, or no start within `timeout`
        seconds.
        """
        program, secret = find_valkey(environ), password or secrets.token_urlsafe(24)
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "valkey.log"
        host = "127.0.0.1" if bind == _ANY else bind
        for _ in range(_PORT_TRIES):
            port = child.free_port(bind)
            process = _launch(program, _config(bind, port, secret), log, environ)
            try:
                if child.wait_ready(process, partial(_answers, host, port, secret), timeout):
                    return cls(process, host, port, secret)
            except BaseException:
                child.stop(process, signal.SIGTERM, 1)
                raise
            child.stop(process, signal.SIGTERM, 1)
            # Another process may have taken the port since it was found.
            if "in use" not in child.tail(log):
                break
        text = child.tail(log)
        reason = text.rpartition("\n")[2]
        raise InfrastructureError(f"{program} does not start: {reason}; see {log}", detail=text)

    def stop(self) -> None:
        """Ends the server. May be called twice."""
        if not self._stopped:
            self._stopped = True
            child.stop(self._process, signal.SIGTERM, 5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _config(bind: str, port: int, password: str) -> str:
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        f"bind {bind}",
        f"port {port}",
        'save ""',
        "appendonly no",
        "maxmemory-policy noeviction",
        "daemonize no",
        f'requirepass "{quoted}"',
    ]
    return "\n".join(lines) + "\n"


def _launch(
    program: Path, config: str, log: Path, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Starts the server with its configuration on stdin.

    So the password is neither in the process list nor on disk.
    """
    with log.open("wb") as output:
        process = child.launch(
            [str(program), "-"],
            log=output,
            env=child.quiet_environment(environ),
            cwd=log.parent,
            stdin=subprocess.PIPE,
        )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(config.encode())
    return process


def _answers(host: str, port: int, password: str) -> bool:
    secret = password.encode()
    auth = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(secret), secret)
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(auth + b"*1\r\n$4\r\nPING\r\n")
            return connection.makefile("rb").read(12) == b"+OK\r\n+PONG\r\n"
    except OSError:
        return False
