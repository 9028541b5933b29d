"""Sees that a worker gets the messages that wait for it, and has its consumer begin anew when it
does not.

A consumer may stop consuming without a word: a connection that lost its place in the event loop, a
reconnect that forgot a queue. What can be seen from outside is that messages wait, slots are idle,
and nothing comes. It looks through a connection of its own, so that it shares nothing with what it
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

log = logging.getLogger("dct_celery.worker")
#: Seconds between two looks, and that a message may wait for an idle slot. Reconnecting takes up to
#: 3 s, a poll 0.1 s.
LOOK, PATIENCE = 1.0, 5.0
#: Restarts in a row, without a message in between, after which it is no use.
MOST_RESTARTS = 3
#: Restart n+1 waits so many times longer than restart n.
_SLOWER = 3.0


@dataclass(slots=True)
class Suspicion:
    """The decision alone. `now`: monotonic seconds."""

    _since: float | None = None
    _restarts: int = 0

    def heard(self) -> None:
        """A message came."""
        self._since = None
        self._restarts = 0

    def look(self, now: float, *, waiting: int, idle: bool) -> bool:
        """Is the consumer to begin anew? `waiting`: messages in the queues that it should read;
        `idle`: a slot is.
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
                "messages wait, and beginning anew %d times has not helped: restart this worker",
                MOST_RESTARTS,
            )
            return False
        return True


class StalledConsumer:
    """A thread of the worker's main process. `idle`: is there a slot without work?"""

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
        """The worker takes no more messages. Returns at once."""
        self._end.set()

    def heard(self) -> None:
        self._suspicion.heard()

    def _watch(self) -> None:
        while not self._end.wait(LOOK):
            try:
                self._look()
            except Exception as error:
                # The broker is away, which the consumer sees for itself.
                log.debug("watchdog: %s", error)
                self._runs.broker = ""
                self._suspicion.look(time.monotonic(), waiting=0, idle=False)
                self._close()
        self._close()

    def _look(self) -> None:
        self._runs.broker = f"{identify(self._open().default_channel)}|{self._app.broker_shown}"
        ready, idle = self._runs.ready(), self._idle()
        waiting = self._waiting(ready) if ready and idle else 0
        if (
            self._suspicion.look(time.monotonic(), waiting=waiting, idle=idle)
            and not self._end.is_set()
        ):
            self._runs.restart = (
                f"{waiting} messages wait for idle slots, and none comes: consuming begins anew"
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
    """Messages that nobody has taken yet; 0 for a queue that is not there."""
    channel = connection.default_channel
    if not amqp:
        return int(channel._size(queue))
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0  # the channel is closed by it; the connection opens another
