"""Restarts a worker's consumer when messages wait and none arrives.

A consumer may stop consuming silently: a connection that lost its place in the event loop, a
reconnect that forgot a queue. From outside one can see that messages wait, slots are idle, and
nothing arrives. The watchdog uses a connection of its own, so that it shares nothing with what it
watches.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dct_celery.adapters.celeryqueue.app import App
from dct_celery.adapters.celeryqueue.brokerid import identify
from dct_celery.adapters.celeryqueue.consumer import Runs
from dct_celery.core.databases.names import queue_name

log = logging.getLogger(__name__)
#: Seconds between two checks.
POLL = 1.0
#: Seconds that messages may wait for an idle slot. Reconnecting takes up to 3 s, a poll 0.1 s.
PATIENCE = 5.0
#: Restarts in a row, without a message in between, after which it gives up.
MOST_RESTARTS = 3
#: Restart n+1 waits this many times as long as restart n.
_SLOWER = 3.0


@dataclass(slots=True)
class Suspicion:
    """The decision alone, without a connection. `now`: monotonic seconds."""

    _since: float | None = None
    _restarts: int = 0

    def heard(self) -> None:
        """A message came."""
        self._since = None
        self._restarts = 0

    def check(self, now: float, *, waiting: int, idle: bool) -> bool:
        """Whether the consumer must restart.

        `waiting`: messages in the queues that it should read; `idle`: whether a slot is idle.
        """
        if not waiting or not idle:
            self._since = None
            return False
        self._since = now if self._since is None else self._since
        if now - self._since < PATIENCE * _SLOWER**self._restarts or self._restarts > MOST_RESTARTS:
            return False
        self._since = now
        self._restarts += 1
        if self._restarts > MOST_RESTARTS:
            log.error(
                "messages wait, and %d restarts have not helped: restart this worker",
                MOST_RESTARTS,
            )
            return False
        return True


class StalledConsumer:
    """A thread of the worker's main process. `idle`: whether a slot has no work."""

    def __init__(self, app: App, runs: Runs, idle: Callable[[], bool]) -> None:
        self._app = app
        self._runs = runs
        self._idle = idle
        self._suspicion = Suspicion()
        self._end = threading.Event()
        self._connection: Any = None
        self._thread = threading.Thread(target=self._watch, name="dct-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stops watching, as the worker takes no more messages. Returns at once."""
        self._end.set()

    def heard(self) -> None:
        self._suspicion.heard()

    def _watch(self) -> None:
        while not self._end.wait(POLL):
            try:
                self._check()
            except Exception as error:
                # The broker cannot be reached, which the consumer notices by itself.
                log.debug("watchdog: %s", error)
                self._runs.broker = ""
                self._suspicion.check(time.monotonic(), waiting=0, idle=False)
                self._close()
        self._close()

    def _check(self) -> None:
        self._runs.broker = f"{identify(self._open().default_channel)}|{self._app.broker_shown}"
        ready, idle = self._runs.ready(), self._idle()
        waiting = self._waiting(ready) if ready and idle else 0
        if (
            self._suspicion.check(time.monotonic(), waiting=waiting, idle=idle)
            and not self._end.is_set()
        ):
            self._runs.restart = (
                f"{waiting} messages wait for idle slots, and none arrives: the consumer restarts"
            )
            log.warning("%s", self._runs.restart)

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._app.connection_for_read()
            self._connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
        return self._connection

    def _waiting(self, runs: Iterable[str]) -> int:
        connection, amqp = self._open(), self._app.broker.kind == "amqp"
        return sum(_depth(connection, queue_name(run), amqp=amqp) for run in runs)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=0.2)


def _depth(connection: Any, queue: str, *, amqp: bool) -> int:
    """Messages that no consumer has taken yet; 0 for a queue that does not exist."""
    channel = connection.default_channel
    if not amqp:
        return int(channel._size(queue))
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0  # the error closes the channel; the connection opens another
