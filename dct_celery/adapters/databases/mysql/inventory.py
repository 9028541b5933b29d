"""The contents of a MySQL or MariaDB database: all that a test could see, in a few round trips.

Definitions are read with the database as the current one, so that none of them contains its name.
The definer is left out: a copy belongs to the user that makes it. AUTO_INCREMENT is a position, not
a part of the definition.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from dct_celery.adapters.databases.mysql.connection import Link, identifier, text
from dct_celery.adapters.databases.mysql.tables import parents_first, read_tables, show, shown
from dct_celery.errors import DatabaseError

_DEFINER = re.compile(r"\bDEFINER=(?:`(?:[^`]|``)*`|\w+)(?:@(?:`(?:[^`]|``)*`|[\w.%]+))?")
#: Columns of SHOW CREATE: the statement, the sql_mode and collation_connection to create it under,
#: the time zone.
_SHOWN = {"VIEW": (1, None, 3, None), "TRIGGER": (2, 1, 4, None), "EVENT": (3, 1, 5, 2)}
_ROUTINE = (2, 1, 4, None)


@dataclass(frozen=True, slots=True)
class Stored:
    """A view, routine, trigger or event, and the session settings to create it under."""

    kind: str
    name: str
    sql: str
    sql_mode: str = ""
    collation: str = ""
    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The contents of a database, without its name."""

    charset: str
    collation: str
    #: Table -> the text that it is compared by.
    tables: Mapping[str, str]
    #: Table -> CREATE TABLE without AUTO_INCREMENT, parents before children; on MySQL empty unless
    #: asked for.
    statements: Mapping[str, str]
    #: Table -> next AUTO_INCREMENT where the server reports one; it does not report 1.
    positions: Mapping[str, int]
    #: Table -> (rows, checksum), without empty tables.
    contents: Mapping[str, tuple[int, int]]
    #: Sequence -> CREATE SEQUENCE.
    sequences: Mapping[str, str]
    #: Sequence -> (next value, cycles).
    values: Mapping[str, tuple[int, int]]
    #: In an order in which they can be created.
    stored: Sequence[Stored]

    @property
    def definitions(self) -> str:
        """Hash of the schema."""
        return _hash(self._schema())

    @property
    def state(self) -> str:
        """Hash of schema, rows and positions."""
        return _hash([self._schema(), self.positions, self.contents, self.values])

    def _schema(self) -> object:
        stored = sorted(
            (s.kind, s.name, s.sql, s.sql_mode, s.collation, s.time_zone) for s in self.stored
        )
        return [self.charset, self.collation, dict(self.tables), dict(self.sequences), stored]

    def difference(self, other: Inventory) -> str:
        """The first difference as text; empty when there is none."""
        for what in ("tables", "sequences", "contents", "positions", "values"):
            mine, theirs = getattr(self, what), getattr(other, what)
            for name in sorted(mine.keys() | theirs.keys()):
                if mine.get(name) != theirs.get(name):
                    return f"{what} of {name}: {_contrast(mine.get(name), theirs.get(name))}"
        ours, others = (
            {(s.kind, s.name): s for s in inventory.stored} for inventory in (self, other)
        )
        changed = sorted(
            key for key in ours.keys() | others.keys() if ours.get(key) != others.get(key)
        )
        if changed:
            return "{} {}".format(*changed[0])
        return "" if self.state == other.state else "character set or collation of the database"


def _contrast(mine: object, theirs: object) -> str:
    """One line; for definitions, the first that differs."""
    if isinstance(mine, str) and isinstance(theirs, str):
        pairs = zip_longest(mine.splitlines(), theirs.splitlines(), fillvalue="nothing")
        mine, theirs = next((pair for pair in pairs if pair[0] != pair[1]), (mine, theirs))
    return " is not ".join(" ".join(str(one).split())[:120] for one in (mine, theirs))


def _hash(value: object) -> str:
    line = json.dumps(value, sort_keys=True, default=dict, ensure_ascii=True)
    return hashlib.sha256(line.encode()).hexdigest()[:40]


def read_inventory(link: Link, name: str, *, statements: bool = False) -> Inventory:
    """Everything in the database; `statements`: also the statements that create its tables.

    Raises DatabaseError, also when there is no such database.
    """
    with link.operation():
        charset, collation = database_charset(link, name)
        kinds = _tables(link, name)
        link.use(name)
        tables = [table for table, kind in kinds if kind not in ("VIEW", "SEQUENCE", "SYSTEM VIEW")]
        sequences = [table for table, kind in kinds if kind == "SEQUENCE"]
        read = read_tables(link, name, tables, statements=statements)
        return Inventory(
            charset,
            collation,
            read.definitions,
            parents_first(read.statements) if statements else {},
            read.positions,
            read_contents(link, name, tables),
            show(link, "SEQUENCE", sequences),
            read_values(link, name, sequences),
            _stored(link, name, [table for table, kind in kinds if kind == "VIEW"]),
        )


def reread(
    link: Link, name: str, old: Inventory, wanted: Inventory, touched: Collection[str]
) -> Inventory:
    """`old` with the touched tables and the values of all sequences read again.

    For few tables SHOW CREATE is the cheapest source on every server, so they are compared with the
    statements of `wanted`.
    """
    with link.operation():
        link.use(name)
        names = sorted(touched)
        read = shown(link, names)
        same = {
            t: wanted.tables[t]
            for t, create in read.statements.items()
            if create == wanted.statements.get(t)
        }
        return replace(
            old,
            tables={**old.tables, **read.statements, **same},
            positions={
                **{t: n for t, n in old.positions.items() if t not in touched},
                **read.positions,
            },
            contents={
                **{t: c for t, c in old.contents.items() if t not in touched},
                **read_contents(link, name, names),
            },
            values=read_values(link, name, list(old.sequences)),
        )


def without_definer(create: str) -> str:
    return _DEFINER.sub("DEFINER=CURRENT_USER", create, count=1)


def read_contents(link: Link, name: str, tables: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Rows and checksum of the tables that have rows."""
    counts = count_rows(link, name, tables)
    filled = [table for table in tables if counts[table]]
    checksums: list[int] = []
    for part in _parts(filled):
        for row in link.rows(
            "CHECKSUM TABLE " + ", ".join(_qualified(name, table) for table in part) + " EXTENDED"
        ):
            if row[1] is None:
                raise DatabaseError(f"table {text(row[0])} cannot be read: CHECK TABLE says why")
            checksums.append(int(row[1]))
    return {
        table: (counts[table], checksum) for table, checksum in zip(filled, checksums, strict=True)
    }


def count_rows(link: Link, name: str, tables: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in _parts(tables):
        query = " UNION ALL ".join(
            f"SELECT {i}, COUNT(*) FROM {_qualified(name, table)}" for i, table in enumerate(part)
        )
        counts |= {part[i]: int(count) for i, count in link.rows(query)}
    return counts


def database_charset(link: Link, name: str) -> tuple[str, str]:
    query = (
        "SELECT default_character_set_name, default_collation_name "
        "FROM information_schema.schemata WHERE schema_name = %s"
    )
    rows = link.rows(query, [name])
    if not rows:
        raise DatabaseError(f"there is no database {name}")
    return text(rows[0][0]), text(rows[0][1])


def read_values(link: Link, name: str, sequences: Sequence[str]) -> dict[str, tuple[int, int]]:
    queries = [
        f"SELECT next_not_cached_value, cycle_count FROM {_qualified(name, sequence)}"
        for sequence in sequences
    ]
    rows = [answer[0] for answer in link.batch(queries)]
    return {
        sequence: (int(row[0]), int(row[1])) for sequence, row in zip(sequences, rows, strict=True)
    }


def _tables(link: Link, name: str) -> list[tuple[str, str]]:
    query = (
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = %s "
        "ORDER BY table_name"
    )
    return [(text(table), text(kind)) for table, kind in link.rows(query, [name])]


def _stored(link: Link, name: str, views: Sequence[str]) -> tuple[Stored, ...]:
    """Routines, views, triggers, events: each kind may use those before it."""
    routines = link.rows(
        "SELECT routine_type, routine_name FROM information_schema.routines "
        "WHERE routine_schema = %s ORDER BY 1, 2",
        [name],
    )
    triggers = link.rows(
        "SELECT 'TRIGGER', trigger_name FROM information_schema.triggers WHERE trigger_schema = %s "
        "ORDER BY event_object_table, action_timing, event_manipulation, action_order",
        [name],
    )
    events = link.rows(
        "SELECT 'EVENT', event_name FROM information_schema.events WHERE event_schema = %s "
        "ORDER BY 2",
        [name],
    )
    wanted = [
        (text(kind), text(one))
        for kind, one in [*routines, *(("VIEW", view) for view in views), *triggers, *events]
    ]
    answers = link.batch([f"SHOW CREATE {kind} {identifier(one)}" for kind, one in wanted])
    return tuple(
        _made(kind, one, answer[0]) for (kind, one), answer in zip(wanted, answers, strict=True)
    )


def _made(kind: str, name: str, row: Sequence[object]) -> Stored:
    sql, mode, collation, zone = (
        None if at is None else row[at] for at in _SHOWN.get(kind, _ROUTINE)
    )
    if sql is None:
        raise DatabaseError(
            f"the definition of {kind.lower()} {name} may not be read: "
            "let the user that made it run the tests, or GRANT SHOW_ROUTINE (MySQL) or SELECT ON "
            "mysql.proc (MariaDB)"
        )
    return Stored(
        kind,
        name,
        without_definer(text(sql)),
        text(mode or ""),
        text(collation or ""),
        text(zone or ""),
    )


def _qualified(name: str, table: str) -> str:
    return f"{identifier(name)}.{identifier(table)}"


def _parts(names: Sequence[str], size: int = 200) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]
