"""A RabbitMQ that can be broken without the round standing still meanwhile.

Its node takes seconds to start or to be asked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from kombu import Connection

from tests.support.rabbitmq import EmbeddedRabbitMQ

#: Seconds that we wait for one answer.
_ANSWER = 5


class RabbitServer(EmbeddedRabbitMQ):
    """Its queues are durable: what is in them outlives the node."""

    def launch(self) -> None:
        """Starts the node; returns before it answers."""
        self._process = self._launch([self._server])

    @property
    def answers(self) -> bool:
        return self._process is not None and self._answers()

    def leave(self) -> None:
        """Asks the node to end in order; returns at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGTERM)

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def ensure(self) -> None:
        """The node answers when this returns; one that does not is restarted."""
        if self.ended or not self.answers:
            self.crash()
            self.go_on()

    def order(self, *words: str) -> subprocess.Popen[bytes]:
        """A `rabbitmqctl` under way."""
        program = shutil.which("rabbitmqctl", path=self._env["PATH"])
        assert program is not None
        return subprocess.Popen(
            [program, *words],
            env=self._env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection of our own, that gives up soon."""
        times = {"read_timeout": _ANSWER, "write_timeout": _ANSWER}
        with Connection(self.url, connect_timeout=2, transport_options=times) as connection:
            yield connection


def depth(connection: Any, queue: str) -> int:
    """Messages that wait in the queue; 0 when there is no such queue."""
    channel = connection.channel()
    with contextlib.suppress(*connection.channel_errors):
        count = int(channel.queue_declare(queue, passive=True).message_count)
        channel.close()
        return count
    return 0
