"""Which words of a database driver speak of the server and not of the statement: no verdict is made
of those.

Our own errors carry the fault (`DatabaseError.fault`): adapters know the code of the driver's
error. This is for words that come without one: a driver's that got no connection, another
process's, a test's traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dct_celery.core.model import Failure
from dct_celery.errors import ServerFault

#: Attempts of a chunk from which on a test that finds no connection is taken at its word, if we get
#: one: it may open too many.
LAST_DOUBT = 3

_WORDS = {
    ServerFault.CONNECTIONS: (
        r"sorry, too many clients|too many connections|connection slots are reserved|has already"
        r" more than "
        r"'max_user_connections'|exceeded the 'max_user_connections'|\b(1040|1203)\b, ?['\"]|error"
        r" (1040|1203|1226)\)"
    ),
    ServerFault.DISK: (
        r"no space left on device|could not (extend|write to) file|disk full|disk is full|the table"
        r" '.*' is full|"
        r"\b(1021|1114)\b, ?['\"]|error (1021|1114)\)|errno: 28\b"
    ),
    ServerFault.AWAY: (
        r"connection refused|is the server running|connection reset|connection timed out|connection"
        r" timeout|"
        r"timeout expired|no route to host|"
        r"server closed the connection|the connection is (closed|lost)|the connection was"
        r" lost|consuming input failed|"
        r"starting up|shutting down|in recovery mode|not yet accepting connections|recovery state"
        r" has not|"
        r"terminating connection (because of crash|due to (unexpected|administrator))|lost"
        r" connection to|"
        r"server has gone away|can't connect to|server shutdown in progress|connection was killed|"
        r"\b(2002|2003|2006|2013|1053|1927)\b, ?['\"]|error (2002|2003|2006|2013|1053|1927)\)"
    ),
}
_FAULTS = {fault: re.compile(words, re.IGNORECASE) for fault, words in _WORDS.items()}
#: A line of a traceback that ends the telling of a driver's error.
_ERROR_LINE = re.compile(
    r"^[\w.]*(?:OperationalError|InterfaceError|InternalError|DatabaseError|DiskFull|TooManyConnections)\b.*",
    re.MULTILINE,
)


def fault_in(words: str) -> ServerFault | None:
    """In what a driver or a program of the server's said."""
    return next((fault for fault, pattern in _FAULTS.items() if pattern.search(words)), None)


def fault_in_traceback(text: str) -> ServerFault | None:
    """In any of the chained exceptions; only in what a driver raised, as tests may speak of full
    disks, too.
    """
    return fault_in("\n".join(_ERROR_LINE.findall(text)))


def fault_in_answer(message: str, detail: str) -> ServerFault | None:
    """In a test process's words about what it could not do: its one line, and the traceback."""
    return fault_in(message) or fault_in_traceback(detail)


def suspicion(failures: Iterable[Failure], reason: str = "") -> ServerFault | None:
    """What a record says the server lacks. A lost session alone is none: a test may end its own,
    and whether the server went away can be asked.
    """
    for text in (reason, *(f"{one.type}: {one.message}\n{one.text}" for one in failures)):
        fault = fault_in_traceback(text)
        if fault in (ServerFault.CONNECTIONS, ServerFault.DISK):
            return fault
    return None
