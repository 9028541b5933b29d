"""Tables of a MySQL or MariaDB database: how they are compared, and how they are created.

On MariaDB, SHOW CREATE TABLE serves for both. MySQL takes 0.3 ms for each, so there tables are
compared by what information_schema reports for all of them at once, at half the cost, and SHOW
CREATE TABLE is read only when a table is to be created. Hints that no test can see are in the
statements alone: COLUMN_FORMAT, USING BTREE, AUTOEXTEND_SIZE, TABLESPACE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dct_celery.adapters.databases.mysql.connection import Link, identifier, text

#: At the start of the options that end a CREATE TABLE; nothing that a user wrote precedes it on
#: that line.
_POSITION = re.compile(
    r"^(\) (?:/\*!\d+ TABLESPACE [^\n]*? \*/ )?ENGINE=\w+)( AUTO_INCREMENT=(\d+))", re.MULTILINE
)
_REFERENCE = re.compile(r" REFERENCES `((?:[^`]|``)+)` \(")
#: From this version on MySQL reports constraints that are not enforced.
_DESCRIBES = (8, 0, 16)

#: Part of a table -> source, the column with the database's name, columns.
#: Left out is what follows from other parts (cardinality, the key that a foreign key uses) and what
#: belongs to our user (privileges).
_PARTS: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "options": (
        "information_schema.tables t",
        "t.table_schema",
        ("engine", "row_format", "table_collation", "create_options", "table_comment"),
    ),
    "column": (
        "information_schema.columns t",
        "t.table_schema",
        ("column_name", "ordinal_position", "column_default", "is_nullable", "column_type",
         "character_set_name", "collation_name", "extra", "generation_expression",
         "column_comment", "srs_id"),
    ),
    "key": (
        "information_schema.statistics t",
        "t.table_schema",
        ("index_name", "seq_in_index", "column_name", "non_unique", "collation", "sub_part",
         "index_type", "index_comment", "is_visible", "expression"),
    ),
    "reference": (
        "information_schema.key_column_usage t",
        "t.referenced_table_name IS NOT NULL AND t.table_schema",
        ("constraint_name", "ordinal_position", "column_name",
         "NULLIF(referenced_table_schema, table_schema)", "referenced_table_name",
         "referenced_column_name"),
    ),
    "rule": (
        "information_schema.referential_constraints t",
        "t.constraint_schema",
        ("constraint_name", "match_option", "update_rule", "delete_rule"),
    ),
    "check": (
        "information_schema.check_constraints c JOIN information_schema.table_constraints t USING "
        "(constraint_schema, constraint_name)",
        "t.constraint_type = 'CHECK' AND constraint_schema",
        ("constraint_name", "check_clause", "enforced"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tables:
    """Some tables of one database."""

    #: Table -> text that differs when anything but rows and AUTO_INCREMENT does; comparable only on
    #: the same make of server.
    definitions: Mapping[str, str]
    #: Table -> CREATE TABLE without AUTO_INCREMENT; on MySQL empty unless asked for.
    statements: Mapping[str, str]
    #: Table -> next AUTO_INCREMENT where the server reports one; it does not report 1.
    positions: Mapping[str, int]


def read_tables(
    link: Link, name: str, tables: Sequence[str], *, statements: bool = False
) -> Tables:
    """All tables of the current database. `statements`: also their CREATE TABLE."""
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
    """Whether information_schema describes tables completely; `server`: its version and make."""
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
    """One line per part, in an order that is the same in every copy."""
    lines: dict[str, list[str]] = {table: [] for table in tables}
    for part, (source, schema, columns) in _PARTS.items():
        # The server does the quoting, so that a value reads the same with every version of the
        # driver.
        line = f"CONCAT_WS(' ', {', '.join(f'QUOTE({column})' for column in columns)})"
        for table, description in link.rows(
            f"SELECT t.table_name, {line} FROM {source} WHERE {schema} = %s", [name]
        ):
            if text(table) in lines:
                lines[text(table)].append(f"{part} {text(description)}")
    return {table: "\n".join(sorted(parts)) for table, parts in lines.items()}


def _positions(link: Link, name: str, tables: Sequence[str]) -> dict[str, int]:
    """Next AUTO_INCREMENT values, read from the storage engine.

    The server caches them for a day otherwise, even when a hint in the query forbids it.
    """
    link.run("SET SESSION information_schema_stats_expiry = 0")
    query = (
        "SELECT table_name, auto_increment FROM information_schema.tables WHERE auto_increment > 1 "
        "AND table_schema = %s"
    )
    wanted = set(tables)
    return {
        text(table): int(position)
        for table, position in link.rows(query, [name])
        if text(table) in wanted
    }


def special(description: str) -> bool:
    """Whether information_schema does not describe the table completely.

    This holds for partitions, parsers of full-text keys and other engines.
    """
    lines = description.splitlines()
    options = next((line for line in lines if line.startswith("options ")), "")
    return (
        not options.startswith("options 'InnoDB' ")
        or "partitioned" in options
        or " 'FULLTEXT' " in description
    )


def show(link: Link, kind: str, names: Sequence[str]) -> dict[str, str]:
    """The output of SHOW CREATE for tables or sequences of the current database."""
    answers = link.batch([f"SHOW CREATE {kind} {identifier(name)}" for name in names])
    return {name: text(answer[0][1]) for name, answer in zip(names, answers, strict=True)}


def split_position(create: str) -> tuple[str, int | None]:
    """Splits a CREATE TABLE into the statement without AUTO_INCREMENT and its value.

    Only the options of the table are searched.
    """
    found = _POSITION.search(create)
    return (_POSITION.sub(r"\1", create, count=1), int(found[3])) if found else (create, None)


def parents_first(tables: Mapping[str, str]) -> dict[str, str]:
    """Sorts tables by their foreign keys, as far as these form no cycle.

    On MySQL the CREATE of a child is slower when its parent comes later.
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
