"""Tables of a MySQL or MariaDB database: what they are compared by, and what they are made by.

On MariaDB, SHOW CREATE TABLE is both. MySQL takes 0.3 ms for each, so there tables are compared by
what information_schema tells of all of them at once, half as dear, and SHOW CREATE TABLE is asked
for when a table is to be made. Hints that no test can see are in the statements alone:
COLUMN_FORMAT, USING BTREE, AUTOEXTEND_SIZE, TABLESPACE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dct_celery.adapters.databases.mysql.connection import Link, identifier, text

#: At the head of the options that end a CREATE TABLE; nothing that a user wrote comes before it on
#: that line.
_POSITION = re.compile(
    r"^(\) (?:/\*!\d+ TABLESPACE [^\n]*? \*/ )?ENGINE=\w+)( AUTO_INCREMENT=(\d+))", re.MULTILINE
)
_REFERENCE = re.compile(r" REFERENCES `((?:[^`]|``)+)` \(")
#: MySQL tells of constraints that are not enforced from here on.
_DESCRIBES = (8, 0, 16)

#: Part of a table -> source, name of its column with the database, columns. What follows from other
#: parts is left out (cardinality, the key that a foreign key found), and so is what belongs to the
#: asking user (privileges).
_PARTS: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "options": (
        "information_schema.tables t",
        "t.table_schema",
        ("engine", "row_format", "table_collation", "create_options", "table_comment"),
    ),
    "column": (
        "information_schema.columns t",
        "t.table_schema",
        ("column_name", "ordinal_position", "column_default", "is_nullable", "column_type", "character_set_name",
         "collation_name", "extra", "generation_expression", "column_comment", "srs_id"),
    ),
    "key": (
        "information_schema.statistics t",
        "t.table_schema",
        ("index_name", "seq_in_index", "column_name", "non_unique", "collation", "sub_part", "index_type", "index_comment",
         "is_visible", "expression"),
    ),
    "reference": (
        "information_schema.key_column_usage t",
        "t.referenced_table_name IS NOT NULL AND t.table_schema",
        ("constraint_name", "ordinal_position", "column_name", "NULLIF(referenced_table_schema, table_schema)",
         "referenced_table_name", "referenced_column_name"),
    ),
    "rule": (
        "information_schema.referential_constraints t",
        "t.constraint_schema",
        ("constraint_name", "match_option", "update_rule", "delete_rule"),
    ),
    "check": (
        "information_schema.check_constraints c JOIN information_schema.table_constraints t "
        "USING (constraint_schema, constraint_name)",
        "t.constraint_type = 'CHECK' AND constraint_schema",
        ("constraint_name", "check_clause", "enforced"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tables:
    """Some tables of one database."""

    #: Table -> lines that differ when anything but rows and AUTO_INCREMENT does; comparable on one
    #: make of server only.
    definitions: Mapping[str, str]
    #: Table -> CREATE TABLE without AUTO_INCREMENT; on MySQL empty unless asked for.
    statements: Mapping[str, str]
    #: Table -> next AUTO_INCREMENT, as far as the server tells one; 1 is not told.
    positions: Mapping[str, int]


def read_tables(
    link: Link, name: str, tables: Sequence[str], *, statements: bool = False
) -> Tables:
    """All tables of the database, which is current. `statements`: also what makes them."""
    if not describes(link.server()):
        return shown(link, tables)
    described = _described(link, name, tables)
    extra = [table for table in tables if special(described[table])]
    printed = shown(link, tables if statements else extra).statements
    definitions = {
        t: f"{lines}\n{printed[t]}" if t in extra else lines for t, lines in described.items()
    }
    return Tables(definitions, printed if statements else {}, _positions(link, name, tables))


def describes(server: str) -> bool:
    """Whether information_schema tells all of a table; `server`: its version and make."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", server)
    return (
        "mariadb" not in server.lower()
        and found is not None
        and tuple(map(int, found.groups())) >= _DESCRIBES
    )


def shown(link: Link, tables: Sequence[str]) -> Tables:
    """Some tables of the current database, as SHOW CREATE TABLE prints them."""
    pairs = {table: split_position(sql) for table, sql in show(link, "TABLE", tables).items()}
    creates = {table: create for table, (create, _) in pairs.items()}
    return Tables(
        creates,
        creates,
        {table: position for table, (_, position) in pairs.items() if position is not None},
    )


def _described(link: Link, name: str, tables: Sequence[str]) -> dict[str, str]:
    """A line per part, in an order that is the same in every copy."""
    lines: dict[str, list[str]] = {table: [] for table in tables}
    for part, (source, schema, columns) in _PARTS.items():
        # The server quotes: a value then reads the same with every version of the driver.
        line = f"CONCAT_WS(' ', {', '.join(f'QUOTE({column})' for column in columns)})"
        for table, told in link.rows(
            f"SELECT t.table_name, {line} FROM {source} WHERE {schema} = %s", [name]
        ):
            if text(table) in lines:
                lines[text(table)].append(f"{part} {text(told)}")
    return {table: "\n".join(sorted(told)) for table, told in lines.items()}


def _positions(link: Link, name: str, tables: Sequence[str]) -> dict[str, int]:
    """From the storage engine: the server keeps what it was told before for a day, also when a hint
    in the query forbids it.
    """
    link.run("SET SESSION information_schema_stats_expiry = 0")
    query = (
        "SELECT table_name, auto_increment FROM information_schema.tables WHERE auto_increment > 1"
        " AND table_schema = %s"
    )
    wanted = set(tables)
    return {
        text(table): int(position)
        for table, position in link.rows(query, [name])
        if text(table) in wanted
    }


def special(description: str) -> bool:
    """information_schema does not tell all of partitions, parsers of full-text keys and other
    engines.
    """
    lines = description.splitlines()
    options = next((line for line in lines if line.startswith("options ")), "")
    return (
        not options.startswith("options 'InnoDB' ")
        or "partitioned" in options
        or " 'FULLTEXT' " in description
    )


def show(link: Link, kind: str, names: Sequence[str]) -> dict[str, str]:
    """What SHOW CREATE prints of tables or sequences of the current database."""
    answers = link.batch([f"SHOW CREATE {kind} {identifier(name)}" for name in names])
    return {name: text(answer[0][1]) for name, answer in zip(names, answers, strict=True)}


def split_position(create: str) -> tuple[str, int | None]:
    """What SHOW CREATE TABLE printed, without AUTO_INCREMENT among the options of the table, and
    its value.
    """
    found = _POSITION.search(create)
    return (_POSITION.sub(r"\1", create, count=1), int(found[3])) if found else (create, None)


def parents_first(tables: Mapping[str, str]) -> dict[str, str]:
    """By foreign keys as far as they are no circle: a child's CREATE is dearer when its parent
    comes later (MySQL).
    """
    ordered: dict[str, str] = {}
    begun: set[str] = set()
    for first in sorted(tables):
        todo = [first]
        while todo:
            table = todo[-1]
            waiting = (
                [p for p in _parents(tables[table]) if p in tables and p not in begun]
                if table not in ordered
                else []
            )
            begun.add(table)
            if waiting:
                todo += waiting[:1]
                continue
            todo.pop()
            ordered.setdefault(table, tables[table])
    return ordered


def _parents(create: str) -> list[str]:
    return sorted(name.replace("``", "`") for name in set(_REFERENCE.findall(create)))
