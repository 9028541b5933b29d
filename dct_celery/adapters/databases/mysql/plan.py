"""The plan for a clone: read once per template, replayed for every clone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dct_celery.adapters.databases.mysql.connection import Link, identifier, text
from dct_celery.adapters.databases.mysql.inventory import Inventory, Stored, read_inventory
from dct_celery.errors import DatabaseError

_TABLE_COLLATION = re.compile(r"^\) [^\n']*? COLLATE=(\w+)", re.MULTILINE)
#: A column's collation without a character set before it; quoted texts and names are skipped.
_COLUMN_COLLATION = re.compile(
    r"(?:'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`|( CHARACTER SET \w+) COLLATE \w+)| COLLATE (\w+)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A template's inventory, and which columns of its filled tables can be written."""

    template: str
    inventory: Inventory
    #: Table with rows -> names of its columns, generated ones left out.
    columns: Mapping[str, Sequence[str]]

    def copying(self, table: str) -> str:
        """The statement that fills an empty table of the current database from the template."""
        names = ", ".join(map(identifier, self.columns[table]))
        source = f"{identifier(self.template)}.{identifier(table)}"
        return f"INSERT INTO {identifier(table)} ({names}) SELECT {names} FROM {source}"


def read_plan(link: Link, template: str) -> Plan:
    inventory = read_inventory(link, template, statements=True)
    return Plan(template, inventory, writable_columns(link, template, list(inventory.contents)))


def writable_columns(link: Link, name: str, tables: Sequence[str]) -> dict[str, list[str]]:
    """Columns that an INSERT may name, in their order."""
    found: dict[str, list[str]] = {table: [] for table in tables}
    rows = link.rows(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
        "AND COALESCE(generation_expression, '') = '' ORDER BY table_name, ordinal_position",
        [name],
    )
    for table, column in rows:
        if text(table) in found:
            found[text(table)].append(text(column))
    return found


def replay(link: Link, plan: Plan, name: str) -> None:
    """Creates the database `name`, which must not exist, and all that the plan says.

    Raises DatabaseError, and may leave an incomplete database behind.
    """
    inventory = plan.inventory
    make_schema(link, inventory, name)
    link.batch([plan.copying(table) for table in plan.columns])
    make_stored(link, inventory.stored)


def make_schema(link: Link, inventory: Inventory, name: str) -> None:
    """Creates the database with empty tables, and makes it the current one."""
    options = (
        f"CHARACTER SET {identifier(inventory.charset)} COLLATE {identifier(inventory.collation)}"
    )
    link.run(f"CREATE DATABASE {identifier(name)} {options}")
    link.use(name)
    link.batch(list(inventory.sequences.values()))
    link.batch([restart(sequence, value) for sequence, (value, _) in inventory.values.items()])
    tables = {table: inheriting(create) for table, create in inventory.statements.items()}
    link.batch(
        [with_position(create, inventory.positions.get(table)) for table, create in tables.items()]
    )


def inheriting(create: str) -> str:
    """CREATE TABLE without the collation of columns that have the table's.

    MySQL remembers whether a column was declared with one, and would print the copy's otherwise
    than the original's.
    """
    table = _TABLE_COLLATION.search(create)
    if table is None or " COLLATE " not in create:
        return create
    return _COLUMN_COLLATION.sub(lambda found: "" if found[2] == table[1] else found[0], create)


def with_position(create: str, position: int | None) -> str:
    """CREATE TABLE with its AUTO_INCREMENT as the first of the table's options."""
    return (
        create if position is None else create.replace("\n) ", f"\n) AUTO_INCREMENT={position} ", 1)
    )


def restart(sequence: str, value: int) -> str:
    return f"ALTER SEQUENCE {identifier(sequence)} RESTART WITH {value}"


def make_stored(link: Link, stored: Sequence[Stored]) -> None:
    """Creates views, routines, triggers and events in the current database.

    A view that needs a later one waits for it.
    """
    waiting = list(stored)
    while waiting:
        refused: list[tuple[Stored, DatabaseError]] = []
        for one in waiting:
            try:
                make_one(link, one)
            except DatabaseError as error:
                if one.kind != "VIEW":
                    raise
                refused.append((one, error))
        if len(refused) == len(waiting):
            raise refused[0][1]
        waiting = [one for one, _ in refused]


def make_one(link: Link, one: Stored) -> None:
    with _session_of(link, one):
        link.run(one.sql)


@contextmanager
def _session_of(link: Link, one: Stored) -> Iterator[None]:
    """Sets the session settings that the server stores with the object."""
    wanted = {
        "sql_mode": one.sql_mode if one.kind != "VIEW" else None,
        "collation_connection": one.collation or None,
    }
    wanted["time_zone"] = one.time_zone or None
    settings = {name: value for name, value in wanted.items() if value is not None}
    before = link.one("SELECT @@sql_mode, @@collation_connection, @@time_zone")
    link.run("SET " + ", ".join(f"{name} = %s" for name in settings), list(settings.values()))
    try:
        yield
    finally:
        if link.connected():
            link.run("SET sql_mode = %s, collation_connection = %s, time_zone = %s", list(before))


def verify(link: Link, plan: Plan, name: str) -> None:
    """Proves that the copy has the template's definitions, positions and rows.

    Raises DatabaseError naming the difference.
    """
    copy = read_inventory(link, name)
    difference = _without_history(plan.inventory).difference(_without_history(copy))
    if difference:
        raise DatabaseError(f"the copy is not equal: {difference}")


def _without_history(inventory: Inventory) -> Inventory:
    """The inventory with only the row counts of system-versioned tables (MariaDB).

    Their hidden columns say when a row was written. Such databases can be cloned, but neither
    healed nor adopted, as that compares states.
    """
    versioned = [
        table for table in inventory.contents if "SYSTEM VERSIONING" in inventory.tables[table]
    ]
    counted = {table: (inventory.contents[table][0], 0) for table in versioned}
    return replace(inventory, contents={**inventory.contents, **counted})
