"""The Celery app, configured so that losing or doubling a message costs nothing but time.

Redis: early acknowledgement, no prefetch, kombu's emulation of acknowledgements off, because it loses messages when a
connection breaks between two commands. RabbitMQ: late acknowledgement, one message per slot. No result backend. The Django
fixup is off: it would import the user's settings into the worker.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer import Consumer as StockConsumer
from kombu import Queue

from dct_celery.core.names import queue_name
from dct_celery.settings import Settings

log = logging.getLogger("dct_celery.worker")
TASK = "dct_celery.run_chunk"
#: Attribute of the worker's app: a callable that returns the ids of the runs to consume.
READY_RUNS = "dct_ready_runs"
#: Seconds that a BRPOP waits; a queue added meanwhile is looked at after that.
_POLL = 0.1


class Consumer(StockConsumer):
    """Without mingle and gossip, which have no setting: each costs a start-up second or O(workers²) events."""

    def __init__(self, *args: Any, worker_options: Any = None, **kwargs: Any) -> None:
        options = dict(worker_options or {}, without_mingle=True, without_gossip=True)
        kwargs["worker_options"] = options
        super().__init__(*args, **kwargs)


def is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))


def make_app(settings: Settings) -> Celery:
    """An app for worker or dispatcher; it knows the broker, and neither store nor project."""
    amqp = is_amqp(settings.broker)
    pool_queue = f"dct.pool.{settings.pool}"
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
        task_default_queue=pool_queue,
        # Declared, the queue that every worker listens to would leave keys without an end for each pool.
        task_queues=None if amqp else [Queue(pool_queue, no_declare=True)],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_proc_alive_timeout=60,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_consumer=f"{__name__}:Consumer",
        broker_transport_options={} if amqp else _redis_options(),
    )
    if settings.broker.startswith("rediss://") and "ssl_cert_reqs" not in settings.broker:
        # Without this kombu takes any certificate.
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return app


def _redis_options() -> dict[str, Any]:
    return {
        "ack_emulation": False,
        "global_keyprefix": "dct:",
        "queue_order_strategy": "round_robin",
        "priority_steps": [0],
        "polling_interval": _POLL,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "visibility_timeout": 86400,
    }


def run_queue(run: str, *, amqp: bool) -> Queue:
    """The queue of a run. On Redis it is never declared: a declaration leaves binding keys behind for ever."""
    name = queue_name(run)
    if amqp:
        return Queue(name, routing_key=name, durable=False, expires=6 * 3600)
    return Queue(name, no_declare=True)


class RunQueues(bootsteps.StartStopStep):
    """Consumes the queues of the runs that this worker is ready for, and of no others.

    Everything is caught: an exception out of a timer callback would restart the consumer.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._mine: set[str] = set()
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        self._poll(parent)
        self._timer = parent.timer.call_repeatedly(0.05, self._poll, (parent,))

    def stop(self, parent: Any) -> None:
        if self._timer is not None:
            parent.timer.cancel(self._timer)

    def _poll(self, parent: Any) -> None:
        try:
            want = set(getattr(parent.app, READY_RUNS)())
            for run in want - self._mine:
                queue = run_queue(run, amqp=is_amqp(parent.app.conf.broker_url))
                parent.app.amqp.queues.add(queue)
                parent.add_task_queue(queue)
                self._mine.add(run)
            for run in self._mine - want:
                parent.cancel_task_queue(queue_name(run))
                parent.app.amqp.queues.pop(queue_name(run), None)
                self._mine.discard(run)
        except Exception:
            log.exception("queues of the runs")
