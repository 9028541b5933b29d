"""What queues are called and how they are declared, equally on both sides, and when the broker may
forget them.

Redis: never declared, because a declaration leaves binding keys behind for ever. A list is there
while something is in it, and gets a lifetime with each message. RabbitMQ: a queue nobody uses is
gone after `FORGOTTEN` seconds. Messages that are lost with their queue are published again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu import Queue

from dct_celery.core.databases.names import queue_name

#: Seconds after which the broker forgets a queue that nobody listens to or publishes to.
FORGOTTEN = 60


def is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))


class RunQueue(Queue):
    """On RabbitMQ its deletion is the ordinary end of a run; kombu would take the notice for a lost
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
    """The queue that Celery wants every worker to have; nothing is ever published there."""
    name = f"dct.pool.{pool}"
    return (
        Queue(name, routing_key=name, queue_arguments=_lifetime())
        if amqp
        else Queue(name, no_declare=True)
    )


def _lifetime() -> dict[str, int]:
    # As an argument and not as `expires`, for kombu then declares the queue with each message: it
    # may have gone since.
    return {"x-expires": FORGOTTEN * 1000}
