"""Which words of a database driver speak of the server and not of the statement: no verdict is made of those.

Drivers are told apart by their texts alone, because what failed may have been said in another process, or inside a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from dct_celery.core.model import Failure


class ServerFault(StrEnum):
    """What the server lacks, in words that end "the server ..."."""

    CONNECTIONS = "has no connection left"
    DISK = "has a full disk"
    AWAY = "does not answer"


#: Attempts of a chunk from which on a test that finds no connection is taken at its word, if we get one: it may open too many.
LAST_DOUBT = 3

_WORDS = {
    ServerFault.CONNECTIONS: (
        r"sorry, too many clients|too many connections|connection slots are reserved|has already more than "
        r"'max_user_connections'|exceeded the 'max_user_connections'|\b(1040|1203)\b, ?['\"]|error (1040|1203|1226)\)"
    ),
    ServerFault.DISK: (
        r"no space left on device|could not (extend|write to) file|disk full|disk is full|the table '.*' is full|"
        r"\b(1021|1114)\b, ?['\"]|error (1021|1114)\)|errno: 28\b"
    ),
    ServerFault.AWAY: (
        r"connection refused|is the server running|connection reset|connection timed out|connection timeout|"
        r"timeout expired|no route to host|"
        r"server closed the connection|the connection is (closed|lost)|the connection was lost|consuming input failed|"
        r"starting up|shutting down|in recovery mode|not yet accepting connections|recovery state has not|"
        r"terminating connection (because of crash|due to (unexpected|administrator))|lost connection to|"
        r"server has gone away|can't connect to|server shutdown in progress|connection was killed|"
        r"\b(2002|2003|2006|2013|1053|1927)\b, ?['\"]|error (2002|2003|2006|2013|1053|1927)\)"
    ),
}
_FAULTS = {fault: re.compile(words, re.IGNORECASE) for fault, words in _WORDS.items()}
#: A line of a traceback that ends the telling of a driver's error.
_ERROR_LINE = re.compile(
    r"^[\w.]*(?:OperationalError|InterfaceError|InternalError|DatabaseError|DiskFull|TooManyConnections)\b.*", re.MULTILINE
)


def fault_in(words: str) -> ServerFault | None:
    """In one of our own errors, or in what a driver said."""
    return next((fault for fault, pattern in _FAULTS.items() if pattern.search(words)), None)


def fault_in_traceback(text: str) -> ServerFault | None:
    """In any of the chained exceptions; only in what a driver raised, as tests may speak of full disks, too."""
    return fault_in("\n".join(_ERROR_LINE.findall(text)))


def suspicion(failures: Iterable[Failure], reason: str = "") -> ServerFault | None:
    """What a record says the server lacks. A lost session alone is none: a test may end its own, and whether the server went
    away can be asked."""
    for text in (reason, *(f"{one.type}: {one.message}\n{one.text}" for one in failures)):
        fault = fault_in_traceback(text)
        if fault in (ServerFault.CONNECTIONS, ServerFault.DISK):
            return fault
    return None
