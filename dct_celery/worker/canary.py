"""Whether a failure was the database server's: a verdict that a restart or an outage has made is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from dct_celery.errors import DatabaseError
from dct_celery.ports import DatabaseServer

#: Seconds between two questions to a server that is away.
_PAUSE = 0.5


class Canary:
    """Asks the servers of one slot. Not for use by two threads at once."""

    def __init__(self, servers: Iterable[DatabaseServer]) -> None:
        self._servers = list(servers)
        self._lives: list[str] = []

    def remember(self) -> None:
        """The servers as they are now are those that the test process works with. Raises DatabaseError."""
        self._lives = [server.incarnation() for server in self._servers]

    def trouble(self) -> str:
        """What became of a server since `remember`; empty when all are as they were."""
        for server, life in zip(self._servers, self._lives, strict=False):
            try:
                if server.incarnation() != life:
                    return f"{server.where} was restarted"
            except DatabaseError as error:
                return f"{server.where} does not answer: {error}"
        return ""

    def away(self) -> bool:
        """Some server does not answer at all."""
        try:
            for server in self._servers:
                server.incarnation()
        except DatabaseError:
            return True
        return False

    def wait(self, seconds: float, give_up: Callable[[], bool]) -> bool:
        """Until all servers answer again; False when `seconds` pass first or `give_up` says so."""
        deadline = time.monotonic() + seconds
        while self.away():
            if time.monotonic() > deadline or give_up():
                return False
            time.sleep(_PAUSE)
        return True
