"""The store: slow, full, forgetful, or another one."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.faults.base import Fault, Meets, Outage

#: Seconds that a replica lags behind when it takes over.
_LAG = 0.4


class _OfStore(Fault):
    part = "store"
    meets = Meets.ALL


class StoreClientsKilled(_OfStore):
    """Every connection is reset."""

    name = "store-client-kill"
    outage = True

    def act(self) -> Iterator[float]:
        self.blow()
        self.heal()
        with self.scene.store.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        yield 0


class StoreScriptsFlushed(_OfStore):
    """The server forgets the scripts that it was given."""

    name = "store-script-flush"
    outage = True

    def act(self) -> Iterator[float]:
        self.blow()
        self.heal()
        with self.scene.store.client() as client:
            client.script_flush()
        yield 0


class StorePaused(_OfStore):
    """Commands are taken and not answered."""

    name = "store-pause"
    outage = True

    def act(self) -> Iterator[float]:
        seconds = self.scene.lease * self.chance.uniform(0.3, 1.5)
        self.blow()
        with self.scene.store.client() as client:
            client.execute_command("CLIENT", "PAUSE", int(1000 * seconds), "ALL")
        yield seconds  # it ends by itself: while all are paused, nothing can say that they are not
        self.heal()


class StoreSleeps(_OfStore):
    """The server does nothing at all."""

    name = "store-sleep"
    outage = True

    def act(self) -> Iterator[float]:
        seconds = self.scene.lease * self.chance.uniform(0.3, 1.5)
        self.blow()
        with self.scene.store.client() as client:
            client.connection_pool.get_connection("DEBUG").send_command(
                "DEBUG", "SLEEP", f"{seconds:.2f}"
            )
            yield seconds
        self.heal()


class StoreFull(_OfStore, Outage):
    """Out of memory: every write is refused, deletions are not."""

    name = "store-maxmemory"

    def down(self) -> None:
        self._limit("1mb")

    def up(self) -> None:
        self._limit("0")

    def _limit(self, size: str) -> None:
        with self.scene.store.client() as client:
            client.config_set("maxmemory", size)


class StoreFlushed(_OfStore):
    """FLUSHALL: the run's keys are gone."""

    name = "store-flushall"
    losing = True
    outage = True

    def act(self) -> Iterator[float]:
        self.blow()
        with self.scene.store.client() as client:
            client.flushall()
        self.heal()
        yield 0


class StoreRestarted(_OfStore, Outage):
    """kill -9 and a new server without the data."""

    name = "store-restart"
    losing = True

    @property
    def seconds(self) -> float:
        return self.chance.uniform(0.1, 2.0)

    def down(self) -> None:
        self.scene.store.kill()

    def up(self) -> None:
        self.scene.store.restart()


class StoreFailedOver(_OfStore):
    """A replica that lacks the last moments takes the primary's place."""

    name = "store-failover"
    losing = True
    outage = True

    def act(self) -> Iterator[float]:
        store = self.scene.store
        port, process = store.replica()
        with store.client(port) as client:
            client.replicaof("NO", "ONE")
        try:
            yield _LAG
            self.blow()
        finally:
            store.fail_over(port, process)
            self.heal()


KINDS: tuple[type[Fault], ...] = (
    StoreClientsKilled,
    StoreScriptsFlushed,
    StorePaused,
    StoreSleeps,
    StoreFull,
    StoreFlushed,
    StoreRestarted,
    StoreFailedOver,
)
