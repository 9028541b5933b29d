"""Whether a failure was the database server's: a verdict that a restart or an outage has made is
none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dct_celery.errors import DatabaseError, ServerFault
from dct_celery.ports import Clock, DatabaseServer

#: Seconds between two questions to a server that is away, and between two while somebody waits for
#: an answer from it.
_PAUSE, POLL_SECONDS = 0.5, 5.0


class ServerProbe:
    """Asks the servers of one slot. Not for use by two threads at once."""

    def __init__(self, servers: Iterable[DatabaseServer], clock: Clock) -> None:
        self._servers = list(servers)
        self._clock = clock
        self._lives: list[str] = []
        self._looked_at = 0.0

    def remember(self) -> None:
        """The servers as they are now are those that the test process works with. Raises
        DatabaseError.
        """
        self._lives = [server.incarnation() for server in self._servers]
        self._looked_at = self._clock.monotonic()

    def trouble(self) -> str:
        """What became of a server since `remember`; empty when all are as they were."""
        for server, life in zip(self._servers, self._lives, strict=False):
            try:
                if server.incarnation() != life:
                    return f"{server.where} was restarted"
            except DatabaseError as error:
                return f"{server.where} does not answer: {error}"
        return ""

    def watch(self) -> None:
        """For whoever waits for work with the servers: asks every POLL_SECONDS. A server that
        vanished without a word would keep a query waiting for a quarter of an hour. Raises
        DatabaseError.
        """
        if self._clock.monotonic() - self._looked_at < POLL_SECONDS:
            return
        trouble = self.trouble()
        self._looked_at = self._clock.monotonic()
        if trouble:
            raise DatabaseError(trouble, fault=ServerFault.AWAY)

    def away(self) -> bool:
        """Some server does not answer at all."""
        try:
            for server in self._servers:
                server.incarnation()
        except DatabaseError:
            return True
        return False

    def short(self) -> bool:
        """Some server has no connection for us at this moment."""
        try:
            return any(server.capacity() < 1 for server in self._servers)
        except DatabaseError:
            return True

    def wait(self, seconds: float, give_up: Callable[[], bool]) -> bool:
        """Until all servers answer again; False when `seconds` pass first or `give_up` says so."""
        deadline = self._clock.monotonic() + seconds
        while self.away():
            if self._clock.monotonic() > deadline or give_up():
                return False
            self._clock.sleep(_PAUSE)
        return True
