"""Which error texts of a database driver mean a failing server: they give no verdict (I7).

Our own errors carry the fault (`DatabaseError.fault`), because adapters know the driver's error
code. This is for texts without one: a driver's that could not connect, another process's, a test's
traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dct_celery.core.model import Failure
from dct_celery.errors import ServerFault

#: From this attempt on, "too many connections" counts as the test's own failure if we can connect
#: ourselves.
LAST_DOUBT = 3

#: Parts of error texts, first of PostgreSQL, then of MySQL and MariaDB with their error numbers.
_TEXTS = {
    ServerFault.CONNECTIONS: (
        r"sorry, too many clients",
        r"too many connections",
        r"connection slots are reserved",
        r"has already more than 'max_user_connections'",
        r"exceeded the 'max_user_connections'",
        r"\b(1040|1203)\b, ?['\"]",
        r"error (1040|1203|1226)\)",
    ),
    ServerFault.DISK: (
        r"no space left on device",
        r"could not (extend|write to) file",
        r"disk full",
        r"disk is full",
        r"the table '.*' is full",
        r"\b(1021|1114)\b, ?['\"]",
        r"error (1021|1114)\)",
        r"errno: 28\b",
    ),
    ServerFault.AWAY: (
        r"connection refused",
        r"is the server running",
        r"connection reset",
        r"connection timed out",
        r"connection timeout",
        r"timeout expired",
        r"no route to host",
        r"server closed the connection",
        r"the connection is (closed|lost)",
        r"the connection was lost",
        r"consuming input failed",
        r"starting up",
        r"shutting down",
        r"in recovery mode",
        r"not yet accepting connections",
        r"recovery state has not",
        r"terminating connection (because of crash|due to (unexpected|administrator))",
        r"lost connection to",
        r"server has gone away",
        r"can't connect to",
        r"server shutdown in progress",
        r"connection was killed",
        r"\b(2002|2003|2006|2013|1053|1927)\b, ?['\"]",
        r"error (2002|2003|2006|2013|1053|1927)\)",
    ),
}
_FAULTS = {fault: re.compile("|".join(texts), re.IGNORECASE) for fault, texts in _TEXTS.items()}
#: The last line of a driver's error in a traceback.
_ERROR_LINE = re.compile(
    r"^[\w.]*(?:OperationalError|InterfaceError|InternalError|DatabaseError|DiskFull"
    r"|TooManyConnections)\b.*",
    re.MULTILINE,
)


def fault_in(text: str) -> ServerFault | None:
    """The fault in an error text of a driver or a program of the server."""
    return next((fault for fault, pattern in _FAULTS.items() if pattern.search(text)), None)


def fault_in_traceback(text: str) -> ServerFault | None:
    """The fault in any of the chained exceptions.

    Only lines of a driver's exceptions count: a test may mention full disks, too.
    """
    return fault_in("\n".join(_ERROR_LINE.findall(text)))


def fault_in_answer(message: str, detail: str) -> ServerFault | None:
    """The fault in a test process's report that it failed: its one line, and the traceback."""
    return fault_in(message) or fault_in_traceback(detail)


def suspicion(failures: Iterable[Failure], reason: str = "") -> ServerFault | None:
    """The server fault that a record points to.

    A lost session alone is none: a test may end its own, and whether the server went away can be
    checked.
    """
    for text in (reason, *(f"{one.type}: {one.message}\n{one.text}" for one in failures)):
        fault = fault_in_traceback(text)
        if fault in (ServerFault.CONNECTIONS, ServerFault.DISK):
            return fault
    return None
