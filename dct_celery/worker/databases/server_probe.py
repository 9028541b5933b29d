"""Finds out whether a database server caused a failure: after a restart or an outage, the test's
verdict does not count (I7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dct_celery.errors import DatabaseError, ServerFault
from dct_celery.ports import Clock, DatabaseServer

#: Seconds between two probes of a server that is away.
_PAUSE = 0.5
#: Seconds between two probes of a server while a test process may be waiting for it.
POLL_SECONDS = 5.0


class ServerProbe:
    """Probes the servers of one slot. Not thread-safe."""

    def __init__(self, servers: Iterable[DatabaseServer], clock: Clock) -> None:
        self._servers = list(servers)
        self._clock = clock
        self._lives: list[str] = []
        self._probed_at = 0.0

    def remember(self) -> None:
        """Notes which incarnations of the servers the test process works with. Raises
        DatabaseError.
        """
        self._lives = [server.incarnation() for server in self._servers]
        self._probed_at = self._clock.monotonic()

    def outage(self) -> str:
        """What happened to a server since `remember`; empty when all are as they were."""
        for server, life in zip(self._servers, self._lives, strict=False):
            try:
                if server.incarnation() != life:
                    return f"{server.where} was restarted"
            except DatabaseError as error:
                return f"{server.where} does not answer: {error}"
        return ""

    def watch(self) -> None:
        """Probes every POLL_SECONDS, for a caller that waits for work on the servers: a query to a
        host that vanished would wait for a quarter of an hour. Raises DatabaseError.
        """
        if self._clock.monotonic() - self._probed_at < POLL_SECONDS:
            return
        outage = self.outage()
        self._probed_at = self._clock.monotonic()
        if outage:
            raise DatabaseError(outage, fault=ServerFault.AWAY)

    def away(self) -> bool:
        """Some server does not answer at all."""
        try:
            for server in self._servers:
                server.incarnation()
        except DatabaseError:
            return True
        return False

    def short(self) -> bool:
        """Some server has no free connection at this moment."""
        try:
            return any(server.capacity() < 1 for server in self._servers)
        except DatabaseError:
            return True

    def wait(self, seconds: float, give_up: Callable[[], bool]) -> bool:
        """Waits until all servers answer; False after `seconds`, or when `give_up` returns True."""
        deadline = self._clock.monotonic() + seconds
        while self.away():
            if self._clock.monotonic() > deadline or give_up():
                return False
            self._clock.sleep(_PAUSE)
        return True
