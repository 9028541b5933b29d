"""The database server of the round: crashed, its sessions ended, or with no connection left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.chaos.faults.base import Fault, Meets, Outage
from tests.chaos.servers import hold_all


class _OfDatabase(Fault):
    part = "database"
    meets = Meets.ALL
    losing = True
    stalling = True


class DatabaseCrashed(_OfDatabase, Outage):
    """Immediate shutdown (PostgreSQL) or kill -9 (MariaDB), and a start on the same data."""

    name = "database-restart"

    @property
    def seconds(self) -> float:
        return self.chance.uniform(0.0, 2.0)

    def down(self) -> None:
        self.scene.database.crash()

    def up(self) -> None:
        self.scene.database.start()
        self.scene.database.wait()


class SessionsEnded(_OfDatabase):
    """Every session is terminated by an administrator."""

    name = "database-sessions"

    def act(self) -> Iterator[float]:
        self.blow()
        self.scene.database.terminate_sessions()
        yield 0


class ConnectionsTaken(_OfDatabase, Outage):
    """Somebody else has all connections that the server gives."""

    name = "database-connections"
    _held: tuple[Any, ...] = ()

    def down(self) -> None:
        self._held = tuple(hold_all(self.scene.database.connect))

    def up(self) -> None:
        for connection in self._held:
            with contextlib.suppress(Exception):
                connection.close()


KINDS: tuple[type[Fault], ...] = (DatabaseCrashed, SessionsEnded, ConnectionsTaken)
