"""kombu's transports to Redis and RabbitMQ, hardened against messages that they cannot parse.

Both parse a message before the consumer sees it, and an exception there ends the worker or makes it
reconnect to the same message again and again. Each is intercepted at the one place where bytes
become Python objects; see `inbound`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from queue import Empty
from struct import pack, unpack_from
from typing import Any

import redis
from amqp.method_framing import frame_handler as stock_frame_handler
from amqp.serialization import decode_properties_basic
from kombu.transport import pyamqp
from kombu.transport import redis as kombu_redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dct_celery.adapters.celeryqueue import inbound

# -- Redis ---------------------------------------------------------------------------------


log = logging.getLogger(__name__)
_OF_TCP = ("host", "port", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options")


class _Client(kombu_redis.PrefixedStrictRedis):
    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """The reply to BRPOP, checked: anyone may have put something else into the list."""
        answer: Any = super().parse_response(connection, command_name, **options)
        if command_name == "BRPOP" and answer:
            queue, item = answer
            name = queue.decode("utf-8", "replace") if isinstance(queue, bytes) else str(queue)
            return queue, inbound.envelope(item, name)
        return answer


class _RedisChannel(kombu_redis.Channel):
    #: Where commands go while several messages are sent in one round trip.
    _pipe: Any = None

    @contextlib.contextmanager
    def in_one_go(self) -> Iterator[Any]:
        """Sends everything that is published in this block in one round trip, at its end.

        Further commands may be put into the pipeline that it yields.
        """
        channel: Any = self
        with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            self._pipe = pipe
            try:
                yield pipe
            finally:
                self._pipe = None
            pipe.execute()

    def conn_or_acquire(self, client: Any = None) -> Any:
        stock: Any = super()
        return (
            stock.conn_or_acquire(client)
            if self._pipe is None
            else contextlib.nullcontext(self._pipe)
        )

    def _get_client(self) -> Any:
        stock: Any = super()
        stock._get_client()  # checks the version of redis-py
        return functools.partial(_Client, global_keyprefix=self.global_keyprefix)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        stock: Any = super()
        client: Any = self.connection.client
        path = client.transport_options.get("socket_path")
        # The callers retry by themselves; redis-py's own ten attempts would not react to any
        # signal.
        once = {"retry": Retry(NoBackoff(), 0)}
        if not path:
            return dict(stock._connparams(asynchronous), **once)
        # kombu accepts sockets only in its own form of URL.
        self.connection_class = redis.UnixDomainSocketConnection
        found = dict(stock._connparams(asynchronous), path=path, **once)
        return {name: value for name, value in found.items() if name not in _OF_TCP}

    def _brpop_read(self, **options: Any) -> Any:
        stock: Any = super()
        try:
            return stock._brpop_read(**options)
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._remove_foreign_keys()
            raise Empty from None

    def _remove_foreign_keys(self) -> None:
        """Removes keys that have the name of a queue of ours and are no lists.

        One of them stops the reading of all queues.
        """
        channel: Any = self
        with channel.conn_or_acquire() as client:
            for queue in list(channel.active_queues):
                # kombu does not add the prefix to this command.
                kind = client.execute_command("TYPE", f"{channel.global_keyprefix}{queue}")
                if kind not in (b"list", b"none"):
                    client.delete(queue)
                    log.warning("the queue %s was not a list and was removed", ascii(queue))


class RedisTransport(kombu_redis.Transport):
    Channel = _RedisChannel


# -- RabbitMQ ------------------------------------------------------------------------------

_DELIVER = (60, 60)
_HEADER = 12


def _frame_handler(connection: Any, callback: Any, **options: Any) -> Callable[[Any], Any]:
    """py-amqp's frame handler, behind a check of the parts that a sender chooses.

    These are the properties and the routing key of a message.
    """
    stock = stock_frame_handler(connection, callback, **options)

    def on_frame(frame: Any) -> Any:
        kind, channel, data = frame
        if kind == 1 and unpack_from(">HH", data, 0) == _DELIVER:
            frame = (kind, channel, _readable_delivery(data))
        elif kind == 2:
            frame = (kind, channel, _readable_properties(data))
        return stock(frame)

    return on_frame


def _readable_properties(data: Any) -> Any:
    """The content header, without properties where they cannot be parsed.

    Nor has it any where they would make kombu decompress the body.
    """
    try:
        properties, _ = decode_properties_basic(data, _HEADER)
        # The constructor of kombu's message decompresses, whatever comes out.
        if "compression" not in (properties.get("application_headers") or {}):
            return data
        reason = b"it is compressed"
    except Exception:  # whatever it is, the message must not be delivered again
        reason = b"its properties cannot be read"
    name = inbound.REFUSED.encode()
    table = pack(">B", len(name)) + name + b"S" + pack(">I", len(reason)) + reason
    return bytes(data[:_HEADER]) + pack(">HI", 0x2000, len(table)) + table


def _readable_delivery(data: Any) -> bytes:
    """Basic.Deliver with exchange and routing key that are text."""
    raw, at = bytes(data), 4
    at += 1 + raw[at] + 9  # consumer tag, delivery tag, redelivered
    parts = [raw[:at]]
    for _ in range(2):
        end = at + 1 + raw[at]
        text = raw[at + 1 : end].decode("utf-8", "ignore").encode()
        parts.append(pack(">B", len(text)) + text)
        at = end
    return b"".join(parts)


class _AmqpConnection(pyamqp.Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "frame_handler": _frame_handler})


class AmqpTransport(pyamqp.Transport):
    Connection = _AmqpConnection
