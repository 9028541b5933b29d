"""Names and declarations of the queues, the same on both sides, and their lifetimes.

Redis: queues are never declared, because a declaration leaves binding keys behind for ever. A list
exists while something is in it, and each message renews its lifetime. RabbitMQ: an unused queue is
deleted after `FORGOTTEN` seconds. Messages that are lost with their queue are published again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu import Queue

from dct_celery.core.databases.names import queue_name

#: Seconds after which the broker deletes a queue that has neither consumer nor publisher.
FORGOTTEN = 60


def is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))


class RunQueue(Queue):
    """The queue of one run.

    On RabbitMQ its deletion is the ordinary end of a run; kombu would take the notice for a lost
    connection.
    """

    attrs = (*Queue.attrs, ("when_deleted", None))
    #: Called when the broker ends our consumption.
    when_deleted: Callable[[], None] | None = None

    def consume(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["on_cancel"] = self._deleted
        return super().consume(*args, **kwargs)

    def _deleted(self, tag: str) -> None:
        if self.when_deleted is not None:
            self.when_deleted()


def run_queue(run: str, *, amqp: bool, when_deleted: Callable[[], None] | None = None) -> Queue:
    name = queue_name(run)
    if not amqp:
        return Queue(name, no_declare=True)
    return RunQueue(name, routing_key=name, queue_arguments=_lifetime(), when_deleted=when_deleted)


def pool_queue(pool: str, *, amqp: bool) -> Queue:
    """The queue that Celery requires of every worker; nothing is ever published there."""
    name = f"dct.pool.{pool}"
    return (
        Queue(name, routing_key=name, queue_arguments=_lifetime())
        if amqp
        else Queue(name, no_declare=True)
    )


def _lifetime() -> dict[str, int]:
    # As an argument and not as `expires`: then kombu declares the queue with each message, as it
    # may have been deleted since.
    return {"x-expires": FORGOTTEN * 1000}
