"""A database as a file of statements, for a server that has lost its templates.

The file is gzip with one JSON value per line. The first line says what the restored database must
be equal to. Rows are literals that the server itself has written.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dct_celery.adapters.databases.mysql.connection import PACKET, Link, identifier, text
from dct_celery.adapters.databases.mysql.inventory import Inventory, Stored, read_inventory
from dct_celery.adapters.databases.mysql.plan import make_schema, make_stored, writable_columns
from dct_celery.errors import DatabaseError
from dct_celery.security.files import replacing

FORMAT = "dct-mysql-2"
#: Types whose bytes are no text, or not the text that an INSERT takes.
_BYTES = frozenset(
    {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "geometry", "point",
     "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection",
     "geomcollection", "vector"}
)  # fmt: skip
_ROWS = 500


def export(link: Link, name: str, file: Path) -> None:
    """Writes the whole file or nothing."""
    try:
        with (
            link.operation(),
            replacing(file) as draft,
            gzip.open(
                draft, "wt", encoding="utf-8", errors="surrogateescape", compresslevel=3
            ) as out,
        ):
            inventory = read_inventory(link, name, statements=True)
            out.write(_header(inventory))
            for statement in _inserts(link, name, inventory):
                out.write(json.dumps(statement) + "\n")
    except OSError as error:
        raise DatabaseError(f"the template could not be written to {file}: {error}") from error


def restore(link: Link, file: Path, name: str) -> None:
    """Creates the database, which must not exist, and proves it equal to the export.

    Raises DatabaseError, and may leave an incomplete database behind.
    """
    try:
        _restore(link, file, name)
    except DatabaseError as error:
        raise DatabaseError(f"no database could be restored from {file}: {error}") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise DatabaseError(f"the exported template {file} cannot be read: {error}") from error


def _restore(link: Link, file: Path, name: str) -> None:
    with (
        link.operation(),
        gzip.open(file, "rt", encoding="utf-8", errors="surrogateescape") as lines,
    ):
        state, inventory = _parsed(next(lines, ""))
        make_schema(link, inventory, name)
        link.batch_of(json.loads(line) for line in lines)
        make_stored(link, inventory.stored)
        restored = read_inventory(link, name)
    if restored.state != state:
        raise DatabaseError(
            f"it is not equal to what was exported: {inventory.difference(restored)}"
        )


def _header(inventory: Inventory) -> str:
    values = {**asdict(inventory), "format": FORMAT, "state": inventory.state}
    return json.dumps(values) + "\n"


def _parsed(line: str) -> tuple[str, Inventory]:
    values: dict[str, Any] = json.loads(line)
    if values.pop("format", "") != FORMAT:
        raise DatabaseError("it was not exported from MySQL or MariaDB by this version")
    state = str(values.pop("state"))
    values["stored"] = tuple(Stored(**one) for one in values["stored"])
    for pairs in ("contents", "values"):
        values[pairs] = {name: (int(pair[0]), int(pair[1])) for name, pair in values[pairs].items()}
    return state, Inventory(**values)


def _inserts(link: Link, name: str, inventory: Inventory) -> Iterator[str]:
    columns = writable_columns(link, name, list(inventory.contents))
    for table, names in columns.items():
        head = f"INSERT INTO {identifier(table)} ({', '.join(map(identifier, names))}) VALUES "
        query = (
            f"SELECT {', '.join(_literals(link, name, table, names))} "
            f"FROM {identifier(name)}.{identifier(table)}"
        )
        for rows in link.stream(query, _ROWS):
            yield from _statements(head, ["(" + ", ".join(map(text, row)) + ")" for row in rows])


def _statements(head: str, rows: Sequence[str]) -> Iterator[str]:
    """Rows that together fit into a packet."""
    part: list[str] = []
    size = 0
    for row in rows:
        if part and size + len(row) > PACKET // 2:
            yield head + ", ".join(part)
            part, size = [], 0
        part.append(row)
        size += len(row)
    if part:
        yield head + ", ".join(part)


def _literals(link: Link, name: str, table: str, columns: Sequence[str]) -> list[str]:
    """For each column an SQL expression whose value is the literal that restores it."""
    query = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s "
        "AND table_name = %s"
    )
    kinds = {text(column): text(kind).lower() for column, kind in link.rows(query, [name, table])}
    return [_literal(identifier(column), kinds[column]) for column in columns]


def _literal(column: str, kind: str) -> str:
    if kind == "bit":  # a number to HEX, which may give an odd count of digits
        return f"COALESCE(CONCAT('0x', HEX({column})), 'NULL')"
    if kind in _BYTES:
        return f"COALESCE(CONCAT('x''', HEX({column}), ''''), 'NULL')"
    if kind == "float":  # a float is printed with six digits, a double with all
        return f"QUOTE({column} + 0e0)"
    return f"QUOTE(CONVERT({column} USING utf8mb4))"
