"""Claims about `core.databases.server_fault`: failing servers, failing statements, and tests."""

from __future__ import annotations

import pytest

from dct_celery.core.databases.server_fault import fault_in, fault_in_traceback, suspicion
from dct_celery.core.model import Failure
from dct_celery.errors import ServerFault

_SAID = {
    "FATAL:  sorry, too many clients already": ServerFault.CONNECTIONS,
    "FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute": (
        ServerFault.CONNECTIONS
    ),
    'FATAL:  too many connections for role "ci"': ServerFault.CONNECTIONS,
    "(1040, 'Too many connections')": ServerFault.CONNECTIONS,
    "User 'ci' has already more than 'max_user_connections' active connections (error 1203)": (
        ServerFault.CONNECTIONS
    ),
    'could not extend file "base/5/16384": No space left on device': ServerFault.DISK,
    "(1114, \"The table 'shelf_book' is full\")": ServerFault.DISK,
    "db:3306: Disk full (/tmp/#sql); waiting for someone to free some space (error 1021)": (
        ServerFault.DISK
    ),
    "server closed the connection unexpectedly": ServerFault.AWAY,
    "FATAL:  the database system is in recovery mode": ServerFault.AWAY,
    "DETAIL:  Consistent recovery state has not been yet reached.": ServerFault.AWAY,
    "Lost connection to server during query (error 2013)": ServerFault.AWAY,
    "(2006, 'Server has gone away')": ServerFault.AWAY,
    "Is the server running on that host and accepting TCP/IP connections?": ServerFault.AWAY,
}


@pytest.mark.parametrize(("text", "fault"), _SAID.items())
def test_messages_of_servers_are_known(text: str, fault: ServerFault) -> None:
    assert fault_in(text) is fault


@pytest.mark.parametrize(
    "text",
    [
        'relation "shelf_book" does not exist',
        "duplicate key value violates unique constraint",
        "FATAL:  password authentication failed for user",
        "(1062, \"Duplicate entry '2013' for key 'year'\")",
        "deadlock detected",
    ],
)
def test_messages_about_a_statement_are_no_fault(text: str) -> None:
    assert fault_in(text) is None


def test_only_what_a_driver_raised_counts_in_a_traceback() -> None:
    # Given
    line = "No space left on device"
    # Then
    assert fault_in_traceback(
        f"Traceback:\n  x()\ndjango.db.utils.OperationalError: {line}\n\nDuring"
        " handling…\nKeyError: 1"
    )
    assert fault_in_traceback(f"Traceback:\n  x()\nOSError: [Errno 28] {line}") is None
    assert fault_in_traceback(f"AssertionError: 'saved' != '{line}'") is None


def test_a_lost_session_alone_raises_no_suspicion() -> None:
    # Given
    lost = Failure(
        "error", "django.db.utils.OperationalError", "server closed the connection unexpectedly", ""
    )
    short = Failure(
        "error", "django.db.utils.OperationalError", "sorry, too many clients already", ""
    )
    # Then
    assert suspicion([lost]) is None
    assert suspicion([lost, short]) is ServerFault.CONNECTIONS
    assert suspicion([]) is None
