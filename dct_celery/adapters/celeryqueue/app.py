"""The Celery app, configured so that losing or doubling a message costs nothing but time.

Redis: early acknowledgement, no prefetch, kombu's emulation of acknowledgements off, because it
loses messages when a connection breaks between two commands. RabbitMQ: late acknowledgement, one
message per slot. No result backend. The Django fixup is off: it would import the user's settings
into the worker.
"""

from __future__ import annotations

import ssl
from typing import Any

from celery import Celery

from dct_celery.adapters import network
from dct_celery.adapters.celeryqueue.names import pool_queue
from dct_celery.core.address import Address, AddressError, parse
from dct_celery.core.redact import redact
from dct_celery.errors import BrokerRefused
from dct_celery.settings import Settings

#: Seconds that a BRPOP waits; a queue added meanwhile is read after that.
_POLL = 0.1
#: Seconds between two heartbeats on a connection to RabbitMQ. After two missed ones either side
#: closes it.
_HEARTBEAT = 10
#: Seconds that the broker may take to answer. Without a limit, we would wait for ever for a peer
#: that vanished silently.
_ANSWER = 10


class App(Celery):
    """A Celery app that uses one broker, whatever the environment says.

    Celery prefers CELERY_BROKER_URL and the like, which many Django projects set for themselves, to
    the configuration of the app.
    """

    broker: Address
    broker_shown: str

    def _connection(self, url: object, **options: Any) -> Any:
        # Imported here because they import redis-py and py-amqp.
        from dct_celery.adapters.celeryqueue import transports

        broker, amqp = self.broker, self.broker.kind == "amqp"
        more = options.pop("transport_options", None) or {}
        given = {
            name: options[name]
            for name in ("heartbeat", "connect_timeout")
            if options.get(name) is not None
        }
        connection: Any = self.amqp.Connection(
            hostname=broker.host or "127.0.0.1",
            port=broker.port or None,
            userid=broker.user or None,
            password=broker.password or None,
            virtual_host=broker.vhost if amqp else str(broker.database),
            transport=transports.AmqpTransport if amqp else transports.RedisTransport,
            ssl=_tls(broker) or False,
            transport_options={**self.conf.broker_transport_options, **more},
            **{"connect_timeout": network.CONNECT, **given},
        )
        connection.as_uri = lambda *_, **__: self.broker_shown  # for Celery's banner and log
        return connection


def make_app(settings: Settings) -> App:
    """An app for worker or dispatcher: it knows the broker, and neither store nor project.

    Raises BrokerRefused for a bad URL.
    """
    try:
        broker = parse(settings.broker)
    except AddressError as error:
        raise BrokerRefused(f"the broker's URL {redact(settings.broker)} {error}") from None
    amqp = broker.kind == "amqp"
    pool = pool_queue(settings.pool, amqp=amqp)
    # `set_as_current` stays off in the dispatcher's process, which may be the user's own manage.py.
    app = App("dct_celery", fixups=[], set_as_current=False)
    app.broker, app.broker_shown = broker, redact(settings.broker)
    app.conf.update(
        # Only for what prints or asks for it: see `App`.
        broker_url="amqp://" if amqp else "redis://",
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        task_acks_late=amqp,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not amqp,
        task_default_queue=pool.name,
        # RabbitMQ has this exchange from the start; one of our own would stay behind for every
        # pool.
        task_default_exchange="amq.direct" if amqp else None,
        task_queues=[pool],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=_HEARTBEAT,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_proc_alive_timeout=60,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        # Remote control is off: its commands are not signed, so whoever reaches the broker could
        # stop workers, their pools and queues.
        worker_enable_remote_control=False,
        broker_channel_error_retry=True,
        worker_consumer="dct_celery.adapters.celeryqueue.consumer:Consumer",
        broker_transport_options=_amqp_options() if amqp else _redis_options(broker),
    )
    return app


def _tls(broker: Address) -> dict[str, Any]:
    """TLS options as py-amqp takes them, or redis-py by way of kombu; empty without TLS."""
    tls = broker.tls
    if tls is None:
        return {}
    if broker.kind == "amqp":
        # py-amqp compares host names only if it is given one.
        name = {"server_hostname": broker.host} if tls.verify and tls.check_hostname else {}
        return {
            **name,
            "cert_reqs": ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE,
            "ca_certs": tls.ca_certs or None,
            "certfile": tls.certfile or None,
            "keyfile": tls.keyfile or None,
        }
    from dct_celery.adapters.redisstore.client import tls_options

    return {name: value for name, value in tls_options(tls).items() if name != "ssl"}


def _amqp_options() -> dict[str, Any]:
    return {"read_timeout": _ANSWER, "write_timeout": _ANSWER}


def _redis_options(broker: Address) -> dict[str, Any]:
    return {
        "ack_emulation": False,
        "global_keyprefix": "dct:",
        "queue_order_strategy": "round_robin",
        "priority_steps": [0],
        "polling_interval": _POLL,
        "socket_timeout": _ANSWER,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "visibility_timeout": 86400,
        "socket_path": broker.path,
    }
