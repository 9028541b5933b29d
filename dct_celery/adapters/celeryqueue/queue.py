"""The queue port: the dispatcher's end of a run's queue."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import redis
from amqp.exceptions import (
    AccessRefused,
    AMQPError,
    FrameError,
    InvalidPath,
    NotAllowed,
    NotFound,
    UnexpectedFrame,
)
from kombu.exceptions import KombuError, OperationalError
from kombu.utils.uuid import uuid

from dct_celery.adapters import network
from dct_celery.adapters.celeryqueue.app import App
from dct_celery.adapters.celeryqueue.brokerid import identify
from dct_celery.adapters.celeryqueue.inbound import TASK
from dct_celery.adapters.celeryqueue.names import FORGOTTEN, run_queue
from dct_celery.adapters.redisstore import client, rights
from dct_celery.core.address import Address
from dct_celery.core.databases.names import queue_name
from dct_celery.core.redact import redact
from dct_celery.errors import BrokerRefused, BrokerUnavailable

log = logging.getLogger(__name__)
#: Seconds that the broker may take to answer: the dispatcher must also watch its leases.
_ANSWER = 5
#: Seconds that closing a connection may take; its peer may be gone.
_CLOSE = 0.2


class CeleryChunkQueue:
    """Publishes chunk messages, which are signed already.

    Raises BrokerUnavailable, which names the origin of the URL. Not for use by two threads at once.
    """

    def __init__(self, app: App, run: str, origin: str) -> None:
        self._app = app
        self._run = run
        self._where = f"the broker at {app.broker_shown} ({origin})"
        self._amqp = app.broker.kind == "amqp"
        self._queue: Any = run_queue(run, amqp=self._amqp)
        self._connection: Any = None
        self._producer: Any = None
        #: Set when the check of the broker failed: nothing of ours is there, and asking again would
        #: only take time.
        self._useless = False
        connection: Any = app.connection_for_write()
        self._driver_errors = (*connection.connection_errors, *connection.channel_errors)

    @property
    def warning(self) -> str:
        """Why TLS does not prove the broker's identity; empty where it does."""
        insecure = self._app.broker.insecure
        return f"{self._where}: {insecure}" if insecure else ""

    def check(self, *, declare: bool = True) -> None:
        """Proves that the broker can be reached and lets us do all that we need.

        Raises BrokerRefused where a retry cannot help. `declare`: also whether RabbitMQ lets us
        declare the run's queue.
        """
        address, self._useless = self._app.broker, True
        try:
            network.reach(address)
            try:
                if self._amqp:
                    self._prove_rabbitmq(declare=declare)
                else:
                    self._prove_redis()
            except AMQPError as error:
                raise_for(error, address)
            except redis.RedisError as error:
                client.raise_for(error, address)
            except OSError as error:
                network.explain(address, error)
                raise network.Unreachable(str(error) or type(error).__name__) from error
        except network.Refused as error:
            raise BrokerRefused(f"{self._where} {error}") from error
        except network.Unreachable as error:
            raise BrokerUnavailable(
                f"{self._where} cannot be used: {redact(str(error))}; start it or set --broker"
            ) from error
        self._useless = False

    def _prove_redis(self) -> None:
        with contextlib.closing(
            client.connect_to(self._app.broker, retries=0, answer=network.ANSWER)
        ) as probe:
            rights.prove(probe, rights.BROKER)

    def _prove_rabbitmq(self, *, declare: bool) -> None:
        connection: Any = self._app.connection_for_write(
            transport_options={"read_timeout": network.ANSWER, "write_timeout": network.ANSWER}
        )
        # kombu's own `connect` tries twice.
        once = connection.transport.establish_connection()
        try:
            if declare:  # the run does this first, so that a missing permission is found here
                self._queue(once.channel()).declare()
        finally:
            with contextlib.suppress(Exception):
                once.collect()

    def identity(self) -> str:
        """The broker's identity, as workers report theirs in `WorkerInfo.broker`."""
        with self._channel() as channel:
            return f"{identify(channel)}|{self._app.broker_shown}"

    def publish(self, *texts: str) -> None:
        used = self._connection is not None
        try:
            self._send(texts)
        except BrokerUnavailable as error:
            # The broker may have closed an idle connection and still be up, so try once more. One
            # that did not answer has had its time.
            if not used or isinstance(error.__cause__, TimeoutError):
                raise
            self._send(texts)

    def _send(self, texts: Sequence[str]) -> None:
        with self._channel() as channel:
            if self._amqp:  # waits for the answer to the declaration only
                self._put(texts)
                return
            with channel.in_one_go() as pipe:
                self._put(texts)
                # A list without a reader expires by itself; the lifetime of an emptied one ends
                # with it.
                pipe.pexpire(queue_name(self._run), FORGOTTEN * 1000)

    def _put(self, texts: Sequence[str]) -> None:
        """Messages that hold only what a worker reads: see `inbound`."""
        for number, text in enumerate(texts):
            self._producer.publish(
                ((text,), {}, {}),
                headers={"task": TASK, "id": uuid()},
                serializer="json",
                exchange="",
                routing_key=self._queue.name,
                declare=[] if number else [self._queue],
                retry=False,
            )

    def round_trip(self, text: str, seconds: float) -> str:
        """Sends this text and receives it again, within `seconds`.

        Returns the broker's version, empty where it does not report one.
        """
        deadline = time.monotonic() + seconds
        with self._channel() as channel:
            self._producer.publish(
                text, routing_key=self._queue.name, exchange="", declare=[self._queue], retry=False
            )
            while (
                message := self._queue(channel).get(no_ack=True)
            ) is None or message.payload != text:
                if time.monotonic() > deadline:
                    raise OperationalError(f"a message did not come back within {seconds:g} s")
                time.sleep(0.005)
            server = getattr(channel.connection, "server_properties", None) or {}
            return str(server.get("version", ""))

    def purge(self) -> None:
        if self._useless:
            return
        with contextlib.suppress(BrokerUnavailable), self._channel() as channel:
            if self._amqp:
                channel.queue_delete(queue_name(self._run))
            else:
                channel.queue_purge(queue_name(self._run))
        self.close()

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Any]:
        """A channel of the one connection, which is closed at the first error.

        What was left unread on it would otherwise answer the next question.
        """
        errors: tuple[type[Exception], ...] = (
            OperationalError,
            KombuError,
            OSError,
            *self._driver_errors,
        )
        try:
            if self._connection is None:
                self._connect()
            yield self._producer.channel
        except errors as error:
            self.close()
            text = redact(str(error)) or type(error).__name__
            if any(
                sign in text
                for sign in ("WRONGPASS", "NOAUTH", "ACCESS_REFUSED", "invalid username")
            ):
                fix = "check user and password in its URL"
            else:
                fix = "start it or set --broker"
            raise BrokerUnavailable(f"{self._where} cannot be used: {text}; {fix}") from error

    def _connect(self) -> None:
        connection: Any = self._app.connection_for_write()
        if self._amqp:
            connection.transport_options = {
                **connection.transport_options,
                "read_timeout": _ANSWER,
                "write_timeout": _ANSWER,
            }
        self._connection = connection
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=_ANSWER)
        self._producer = self._app.amqp.Producer(connection, auto_declare=False)
        self._producer.channel  # noqa: B018 — opened here, so that its errors are reported

    def close(self) -> None:
        """Closes the connection; the next use opens another one."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=_CLOSE)


def raise_for(error: AMQPError, address: Address) -> NoReturn:
    """Raises an error of RabbitMQ as one of `network`: Refused where a retry cannot help."""
    text = redact(" ".join(str(error).split()))
    if isinstance(error, AccessRefused) and not error.method_name:
        raise network.Refused(
            f"refuses the password ({text}); check user and password in its URL"
        ) from error
    if isinstance(error, AccessRefused):
        raise network.Refused(f"refuses a command that we need ({text}); {rights.FIX}") from error
    if isinstance(error, NotAllowed | NotFound | InvalidPath):
        fix = "make that vhost and give the user rights to it, or fix the end of its URL"
        raise network.Refused(f"refuses the vhost {address.vhost!r} ({text}); {fix}") from error
    network.explain(address, error)
    if isinstance(error, FrameError | UnexpectedFrame):
        raise network.Refused("does not speak AMQP; fix host and port of its URL") from error
    raise network.Unreachable(text) from error


def hand_on(app: App, run: str, text: str) -> None:
    """Puts a message that a slot received and cannot take back into its run's queue.

    One that is lost here is published again by the dispatcher.
    """
    queue = CeleryChunkQueue(app, run, "DCT_BROKER")
    try:
        queue.publish(text)
    except BrokerUnavailable as error:
        log.warning("a message of run %s is lost: %s", run, error)
    finally:
        queue.close()
