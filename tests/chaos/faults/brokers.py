"""Redis as the broker: messages lost, doubled, late."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.faults.base import Fault, Meets, Outage


class _OfBroker(Fault):
    part = "broker"
    broker = "redis"
    meets = Meets.QUEUED


class BrokerRestarted(_OfBroker, Outage):
    """kill -9 and a new server without the messages."""

    name = "broker-restart"

    @property
    def seconds(self) -> float:
        return self.chance.uniform(0.1, 2.0)

    def down(self) -> None:
        self.scene.broker.kill()

    def up(self) -> None:
        self.scene.broker.restart()


class BrokerPurged(_OfBroker):
    """What waits in the run's queue is thrown away."""

    name = "broker-purge"

    def act(self) -> Iterator[float]:
        with self.scene.broker.client() as client:
            yield from self.seek(lambda: [1] * client.llen(self.scene.queue_key))
            if self.found:
                self.blow()
                client.delete(self.scene.queue_key)


class BrokerDoubled(_OfBroker):
    """Each waiting message comes three times, in any order."""

    name = "broker-duplicates"
    meets = Meets.NOTHING

    def act(self) -> Iterator[float]:
        key = self.scene.queue_key
        with self.scene.broker.client() as client:
            yield from self.seek(lambda: [1] * client.llen(key))
            if self.found:
                self.blow()
                messages = client.lrange(key, 0, -1) * 2
                self.chance.shuffle(messages)
                # Into a list that is there: one that has gone with its run would be made again, by
                # us.
                for message in messages:
                    client.lpushx(key, message)


class BrokerClientsKilled(_OfBroker):
    """Every connection is reset: a message may be lost on its way."""

    name = "broker-client-kill"

    def act(self) -> Iterator[float]:
        self.blow()
        with self.scene.broker.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        yield 0


class BrokerPaused(_OfBroker):
    """Commands are taken and not answered."""

    name = "broker-pause"
    outage = True

    def act(self) -> Iterator[float]:
        seconds = self.scene.lease * self.chance.uniform(0.3, 1.5)
        self.blow()
        with self.scene.broker.client() as client:
            client.execute_command("CLIENT", "PAUSE", int(1000 * seconds), "ALL")
        yield seconds  # it ends by itself: while all are paused, nothing can say that they are not
        self.heal()


KINDS: tuple[type[Fault], ...] = (
    BrokerRestarted,
    BrokerPurged,
    BrokerDoubled,
    BrokerClientsKilled,
    BrokerPaused,
)
