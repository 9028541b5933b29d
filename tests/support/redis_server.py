"""A Redis whose faults can be played.

It can be killed, started again at its port, emptied, followed by a replica.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Self

import redis

from dct_celery.adapters.embedded.binaries import find_valkey
from tests.support.fleet import until, unused_port


class RedisServer:
    """One server without persistence, on one port for good. A context manager."""

    def __init__(self, folder: Path, *, port: int = 0, primary: int = 0) -> None:
        """`primary`: port of the server that this one is a replica of."""
        self.port = port or unused_port()
        self._folder = folder
        self._primary = primary
        folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = self._start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def kill(self) -> None:
        """Power off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def restart(self) -> None:
        """Killed, and started again with nothing in it."""
        self.kill()
        self._process = self._start()

    def move_to(self, port: int) -> None:
        """Started again at another port, with what it holds.

        The part of a failover that clients see.
        """
        self.client().save()
        self.kill()
        self.port, self._primary = port, 0
        self._process = self._start()

    def adopt(self, other: RedisServer) -> None:
        """The other one's server is this one's from now on."""
        self._process, self._folder = other._process, other._folder
        other._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        follow = ["--replicaof", "127.0.0.1", str(self._primary)] if self._primary else []
        arguments = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        # A replica is there at once, not after five seconds.
        arguments += ["--repl-diskless-sync-delay", "0"]
        with (self._folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [find_valkey(os.environ), *arguments, *follow],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, 20, what="an answer of the store")
        return process

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1) as client:
                return bool(client.ping()) and not (
                    self._primary and client.info("replication")["master_link_status"] != "up"
                )
        except redis.RedisError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
