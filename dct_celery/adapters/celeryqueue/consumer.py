"""The worker's end of the queues: a consumer that reconnects soon and follows the runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery import bootsteps
from celery.worker.consumer import Consumer as StockConsumer

from dct_celery.adapters.celeryqueue import inbound
from dct_celery.adapters.celeryqueue.names import FORGOTTEN, run_queue
from dct_celery.core.databases.names import queue_name

log = logging.getLogger(__name__)
#: Attribute of the worker's app: its `Runs`.
RUNS = "dct_runs"
#: Seconds between two checks of the runs.
_POLL = 0.05
#: Seconds before the second attempt to reconnect.
_RETRY_START = 0.5
#: Most seconds between two attempts to reconnect; Celery's own 30 would be most of a run.
_RETRY_MOST = 3.0
#: Seconds after which a queue that the broker has deleted is consumed again. It is deleted at the
#: end of a run, which the worker learns in the meantime.
_AGAIN = 1.0
#: Seconds after the end of a run until its queue is removed here, if its dispatcher did not do it.
_ABANDONED = 5.0


@dataclass(slots=True)
class Runs:
    """State that host and watchdog set for the consumer. Read and written by different threads."""

    #: Runs whose chunks the slots may take now; all active runs.
    ready: Callable[[], set[str]]
    active: Callable[[], set[str]]
    #: Set by the watchdog: why the consumer is to restart.
    restart: str = ""
    #: Set by the watchdog: see `WorkerInfo.broker`; empty while the broker cannot be asked.
    broker: str = ""


class Consumer(StockConsumer):
    """Takes chunk messages and nothing else, and publishes nothing about itself.

    Mingle, gossip and events have no settings. They cost a second at the start and O(workers²)
    messages that anyone with access to the broker may forge.
    """

    def __init__(self, *args: Any, worker_options: Any = None, **kwargs: Any) -> None:
        quiet = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        kwargs |= {"worker_options": {**(worker_options or {}), **quiet}, "task_events": False}
        self.refusals = inbound.Refusals()
        super().__init__(*args, **kwargs)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        take = super().create_task_handler(*args, **kwargs)

        def receive(message: Any) -> Any:
            try:
                inbound.rewrite(message)
            except inbound.Unacceptable as refusal:
                return self._pass_over(message, str(refusal))
            return take(message)

        return receive

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Called for a message that kombu cannot parse."""
        self._pass_over(message, f"it cannot be read ({type(exc).__name__})")

    def _pass_over(self, message: Any, reason: str) -> None:
        self.refusals.note(str(message.delivery_info.get("routing_key", "")), reason)
        # Acknowledged, or RabbitMQ would deliver it again, for ever.
        errors: Any = vars(self)["connection_errors"]
        message.ack_log_error(log, errors)

    def ensure_connected(self, conn: Any) -> Any:
        pace = {
            "interval_start": _RETRY_START,
            "interval_step": _RETRY_START,
            "interval_max": _RETRY_MOST,
        }
        conn.ensure_connection = partial(conn.ensure_connection, **pace)
        return super().ensure_connected(conn)


class RunQueues(bootsteps.StartStopStep):
    """Consumes the queues of the runs that this worker is ready for, and of no others.

    Every exception is caught: one that left a timer callback would restart the consumer, which only
    the watchdog may decide.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._runs: Runs = getattr(parent.app, RUNS)
        self._amqp = parent.app.broker.kind == "amqp"
        self._mine: set[str] = set()
        #: Runs that were consumed here and may have left something at the broker -> when each was
        #: last active.
        self._known: dict[str, float] = {}
        #: Runs whose queue the broker has deleted -> when.
        self._deleted: dict[str, float] = {}
        #: When the lifetime of the Redis lists was last renewed.
        self._kept = 0.0
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        self._runs.restart = ""
        self._deleted.clear()
        self._poll(parent)
        self._timer = parent.timer.call_repeatedly(_POLL, self._poll, (parent,))

    def stop(self, parent: Any) -> None:
        if self._timer is not None:
            parent.timer.cancel(self._timer)

    def _poll(self, parent: Any) -> None:
        if self._runs.restart:
            raise ConnectionResetError(self._runs.restart)
        try:
            self._follow(parent, time.monotonic())
        except Exception:
            log.exception("queues of the runs")

    def _follow(self, parent: Any, now: float) -> None:
        want = self._runs.ready()
        gone = {run for run, when in self._deleted.items() if now - when > _AGAIN}
        for run in self._mine - want | self._mine & gone:
            self._leave(parent, run)
        for run in want - self._mine:
            self._join(parent, run)
        active = self._runs.active()
        self._known |= dict.fromkeys((self._mine | self._known.keys()) & active, now)
        if not self._amqp and now - self._kept > FORGOTTEN / 4:
            self._kept = now
            self._keep(parent)
        for run in [run for run, seen in self._known.items() if now - seen > _ABANDONED]:
            self._remove(parent, run)

    def _join(self, parent: Any, run: str) -> None:
        queue = run_queue(run, amqp=self._amqp, when_deleted=partial(self._note_deleted, run))
        parent.app.amqp.queues.add(queue)
        parent.add_task_queue(queue)
        self._mine.add(run)

    def _leave(self, parent: Any, run: str) -> None:
        self._mine.discard(run)
        self._deleted.pop(run, None)
        parent.cancel_task_queue(queue_name(run))
        parent.app.amqp.queues.pop(queue_name(run), None)

    def _keep(self, parent: Any) -> None:
        """Renews the lists' lifetime: a message may outlast it while all slots run long chunks."""
        # Not the channel's own client: its connection waits for messages and would take the answer
        # for one.
        with parent.task_consumer.channel.conn_or_acquire() as client:
            for run in self._mine:
                client.pexpire(queue_name(run), FORGOTTEN * 1000)

    def _note_deleted(self, run: str) -> None:
        self._deleted[run] = time.monotonic()

    def _remove(self, parent: Any, run: str) -> None:
        """Removes the queue of a run whose dispatcher was killed; others do it themselves."""
        del self._known[run]
        channel = parent.task_consumer.channel
        if self._amqp:
            channel.queue_delete(queue_name(run))
        else:
            channel.queue_purge(queue_name(run))
