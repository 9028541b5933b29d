"""The identity of a broker: are dispatcher and worker on the same one?

Two URLs may name one broker, and equal URLs two brokers. Redis: a random text in the database
itself, written by the first process that asks. RabbitMQ: the name of its cluster and the vhost.
Neither is a secret.
"""

from __future__ import annotations

import secrets
from typing import Any

import redis

KEY = "dct:broker-id"
#: Seconds after the last question until the text expires.
_TTL = 7 * 86400


def identify(channel: Any) -> str:
    """The broker at the other end of this kombu channel. Raises what its library raises."""
    connection = channel.connection
    properties = getattr(connection, "server_properties", None)
    if properties is not None:
        return f"{properties.get('cluster_name') or 'rabbitmq'} {connection.virtual_host}".replace(
            "|", ""
        )
    # Not the channel's own client: in a worker its connection waits for messages, and kombu adds a
    # prefix to some commands.
    with channel.conn_or_acquire() as prefixed:
        pool = prefixed.connection_pool
    client: Any = redis.Redis(connection_pool=pool)
    client.set(KEY, secrets.token_hex(8), nx=True, ex=_TTL)
    found = client.get(KEY)
    client.expire(KEY, _TTL)
    return found.decode("ascii", "replace") if isinstance(found, bytes) else str(found or "")
