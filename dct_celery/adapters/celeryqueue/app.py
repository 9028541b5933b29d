"""The Celery app, configured so that losing or doubling a message costs nothing but time.

Redis: early acknowledgement, no prefetch, kombu's emulation of acknowledgements off, because it loses messages when a
connection breaks between two commands. RabbitMQ: late acknowledgement, one message per slot. No result backend. The Django
fixup is off: it would import the user's settings into the worker.
"""

from __future__ import annotations

import ssl
from typing import Any

from celery import Celery

from dct_celery.adapters.celeryqueue.names import is_amqp, pool_queue
from dct_celery.settings import Settings

TASK = "dct_celery.run_chunk"
#: Seconds that a BRPOP waits; a queue added meanwhile is looked at after that.
_POLL = 0.1
#: Seconds between two signs of life on a connection to RabbitMQ; after two without one either side gives it up.
_HEARTBEAT = 10
#: Seconds that an answer of the broker may take. Without a limit, a peer that vanished without a word is waited for for ever.
_ANSWER = 10


def make_app(settings: Settings) -> Celery:
    """An app for worker or dispatcher; it knows the broker, and neither store nor project."""
    amqp = is_amqp(settings.broker)
    pool = pool_queue(settings.pool, amqp=amqp)
    # `set_as_current` stays off in the dispatcher's process, which may be the user's own manage.py.
    app = Celery("dct_celery", fixups=[], set_as_current=False)
    app.conf.update(
        broker_url=settings.broker,
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        task_acks_late=amqp,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not amqp,
        task_default_queue=pool.name,
        # RabbitMQ has this exchange from the start; one of our own would stay behind for every pool.
        task_default_exchange="amq.direct" if amqp else None,
        task_queues=[pool],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=_HEARTBEAT,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_proc_alive_timeout=60,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        # Remote control stays on, for `celery inspect ping` and Flower. It is not signed: who reaches the broker can stop
        # workers with it, as he can by emptying queues, yet he cannot have them run anything.
        # After a network cut the worker is back before RabbitMQ has given up its old connection. An exclusive mailbox would
        # still belong to that one, and the refusal would end the worker.
        control_queue_exclusive=False,
        broker_channel_error_retry=True,
        worker_consumer="dct_celery.adapters.celeryqueue.consumer:Consumer",
        broker_transport_options=_amqp_options() if amqp else _redis_options(),
    )
    if settings.broker.startswith("rediss://") and "ssl_cert_reqs" not in settings.broker:
        # Without this kombu takes any certificate.
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return app


def _amqp_options() -> dict[str, Any]:
    return {"read_timeout": _ANSWER, "write_timeout": _ANSWER}


def _redis_options() -> dict[str, Any]:
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
    }
