"""The queue port: the dispatcher's end of a run's queue."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from dct_celery.adapters.celeryqueue.app import TASK, is_amqp, run_queue
from dct_celery.core import signing
from dct_celery.core.names import queue_name
from dct_celery.core.redact import redact
from dct_celery.errors import BrokerUnavailable

log = logging.getLogger("dct_celery.worker")


class CeleryChunkQueue:
    """Publishes signed hints. Raises BrokerUnavailable with the origin of the URL."""

    def __init__(self, app: Celery, run: str, key: str, origin: str) -> None:
        self._app = app
        self._run = run
        self._key = key
        self._where = f"the broker at {redact(app.conf.broker_url)} ({origin})"
        self._amqp = is_amqp(app.conf.broker_url)
        self._queue = run_queue(run, amqp=self._amqp)
        connection: Any = app.connection_for_write()
        self._driver_errors = (*connection.connection_errors, *connection.channel_errors)

    def check(self) -> None:
        """Proves that the broker answers."""
        with self._translated(), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
            channel: Any = connection.default_channel
            if not self._amqp:
                channel.client.ping()

    def publish(self, message: Mapping[str, Any]) -> None:
        text = signing.sign(message, self._key)
        with self._translated():
            queue: Any = self._queue
            self._app.send_task(TASK, args=(text,), queue=queue, argsrepr="(…)", retry=False, ignore_result=True)

    def purge(self) -> None:
        with contextlib.suppress(BrokerUnavailable), self._translated(), self._app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            if self._amqp:
                channel.queue_delete(queue_name(self._run))
            else:
                channel.queue_purge(queue_name(self._run))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        errors: tuple[type[Exception], ...] = (OperationalError, KombuError, OSError, *self._driver_errors)
        try:
            yield
        except errors as error:
            text = redact(str(error)) or type(error).__name__
            if any(word in text for word in ("WRONGPASS", "NOAUTH", "ACCESS_REFUSED", "invalid username")):
                mend = "check user and password in its URL"
            else:
                mend = "start it or set --broker"
            raise BrokerUnavailable(f"{self._where} cannot be used: {text}; {mend}") from error


def hand_on(app: Celery, run: str, text: str) -> None:
    """Puts a message that a slot has received, and cannot take, back into its run's queue. One that is lost is published again by
    the dispatcher."""
    queue: Any = run_queue(run, amqp=is_amqp(app.conf.broker_url))
    try:
        app.send_task(TASK, args=(text,), queue=queue, argsrepr="(…)", retry=False, ignore_result=True)
    except (OperationalError, KombuError, OSError) as error:
        log.warning("a message of run %s is lost: %s", run, redact(str(error)))
