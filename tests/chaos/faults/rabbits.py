"""RabbitMQ as the broker: its node, its queues, its connections."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import amqp

from tests.chaos.faults.base import SEARCH_PAUSE, Fault, Meets, Outage
from tests.chaos.rabbit import RabbitServer, depth

#: Seconds for a node to end in order, and to start.
_PATIENCE = 30.0


class _OfRabbit(Fault):
    part = "broker"
    broker = "rabbitmq"
    meets = Meets.QUEUED

    @property
    def rabbit(self) -> RabbitServer:
        assert self.scene.rabbit is not None
        return self.scene.rabbit

    def wait(self, claim: Callable[[], bool]) -> Iterator[float]:
        deadline = time.monotonic() + _PATIENCE
        while not claim() and time.monotonic() < deadline:
            yield SEARCH_PAUSE


class RabbitKilled(_OfRabbit):
    """kill -9 of the node, and a start on its data."""

    name = "rabbitmq-kill"
    outage = True

    def act(self) -> Iterator[float]:
        self.blow()
        try:
            yield from self.down()
            yield self.chance.uniform(0.1, 2.0)
            self.rabbit.launch()
            yield from self.wait(lambda: self.rabbit.answers)
        finally:
            self.rabbit.ensure()
            self.heal()

    def down(self) -> Iterator[float]:
        self.rabbit.crash()
        yield 0


class RabbitStopped(RabbitKilled):
    """The node is stopped in order, and started."""

    name = "rabbitmq-stop"

    def down(self) -> Iterator[float]:
        self.rabbit.leave()
        yield from self.wait(lambda: self.rabbit.ended)
        self.rabbit.crash()


class _OfMessages(_OfRabbit):
    """Strikes what waits in the run's queue, once something does."""

    def act(self) -> Iterator[float]:
        with self.rabbit.connection() as connection:
            yield from self.seek(lambda: [1] * depth(connection, self.scene.queue))
            if self.found:
                self.blow()
                self.strike(connection.default_channel)

    @abstractmethod
    def strike(self, channel: Any) -> None: ...


class RabbitPurged(_OfMessages):
    """They are thrown away."""

    name = "rabbitmq-purge"

    def strike(self, channel: Any) -> None:
        channel.queue_purge(self.scene.queue)


class RabbitDeleted(_OfMessages):
    """They are deleted with their queue, and its consumers are cancelled."""

    name = "rabbitmq-delete"

    def strike(self, channel: Any) -> None:
        channel.queue_delete(self.scene.queue)


class RabbitDoubled(_OfMessages):
    """Each comes three times, in any order."""

    name = "rabbitmq-duplicates"
    meets = Meets.NOTHING

    def strike(self, channel: Any) -> None:
        messages = []
        while (message := channel.basic_get(self.scene.queue, no_ack=True)) is not None:
            messages += [message] * 3
        self.chance.shuffle(messages)
        for message in messages:
            channel.basic_publish(
                amqp.Message(message.body, **message.properties), routing_key=self.scene.queue
            )


class RabbitConnectionsClosed(_OfRabbit):
    """Every connection is closed by an administrator."""

    name = "rabbitmq-connections"
    outage = True

    def act(self) -> Iterator[float]:
        self.blow()
        order = self.rabbit.order("close_all_connections", "chaos")
        try:
            yield from self.wait(lambda: order.poll() is not None)
        finally:
            order.kill()
            order.wait()
            self.heal()


class RabbitPaused(_OfRabbit, Outage):
    """The node stands still, its connections open."""

    name = "rabbitmq-pause"

    @property
    def seconds(self) -> float:
        return self.scene.lease * self.chance.uniform(0.3, 3.0)

    def down(self) -> None:
        self.rabbit.freeze()

    def up(self) -> None:
        self.rabbit.thaw()


KINDS: tuple[type[Fault], ...] = (
    RabbitKilled,
    RabbitStopped,
    RabbitPurged,
    RabbitDeleted,
    RabbitDoubled,
    RabbitConnectionsClosed,
    RabbitPaused,
)
