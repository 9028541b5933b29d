"""The contents of a SQLite file, read by SQLite."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from dct_celery.core.databases.server_fault import fault_in
from dct_celery.errors import DatabaseError

_PRAGMAS = ("user_version", "application_id", "encoding", "auto_vacuum")
_SECONDS = 10.0
_MODULO = 1 << 128


def read_state(file: Path) -> str:
    """Hash (32 hexadecimal digits) of schema, rows and AUTOINCREMENT positions.

    Rows count without their order.
    """
    with _opened(file) as connection:
        connection.text_factory = bytes  # whatever tests wrote, valid UTF-8 or not
        schema = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        ).fetchall()
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone() for name in _PRAGMAS]
        # The contents of a virtual table lie in ordinary tables of its own.
        tables = [
            row[1]
            for row in schema
            if row[0] == b"table" and not (row[3] or b"").upper().startswith(b"CREATE VIRTUAL")
        ]
        rows = [(name, *_rows(connection, name.decode())) for name in tables]
    return hashlib.blake2b(repr((schema, pragmas, rows)).encode(), digest_size=16).hexdigest()


def checkpoint(file: Path) -> None:
    """Brings what SQLite keeps beside the file into it.

    Raises DatabaseError while another process has it open.
    """
    with _opened(file) as connection:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.execute(
            "SELECT count(*) FROM sqlite_master"
        )  # rolls back a journal that was left
    if busy:
        raise DatabaseError(
            f"{file} is still open in another process; end it, and build the template again"
        )


def _rows(connection: sqlite3.Connection, table: str) -> tuple[int, int]:
    """(number of rows, sum of their hashes)"""
    count = total = 0
    for row in connection.execute('SELECT * FROM "{}"'.format(table.replace('"', '""'))):
        count += 1
        total += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=16).digest(), "big")
    return count, total % _MODULO


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        # A missing file is an error and must not be created.
        connection = sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=_SECONDS)
        with contextlib.closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise DatabaseError(f"{file}: {error}", fault=fault_in(str(error))) from error
