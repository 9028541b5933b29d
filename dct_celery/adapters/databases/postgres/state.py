"""The state of a PostgreSQL database: everything that a test could see, without object ids.

It is equal for a template, its clones and what is restored from its export. Rows count without
their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from dct_celery.adapters.databases.postgres.schema import imprint_query, schema_query

#: Settings that change the text of definitions and values. With an empty search path every name has
#: its schema.
_FIXED = (
    "SET search_path = pg_catalog; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; "
    "SET TimeZone = 'UTC'; SET extra_float_digits = 1; SET bytea_output = 'hex'; "
    "SET xmloption = 'content'; SET row_security = off; SET lc_monetary = 'C'; "
    "SET quote_all_identifiers = off; SET jit = off; SET client_encoding = 'UTF8'"
)
#: Tables and materialized views that have a page: only these can have rows.
_TABLES = (
    "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' "
    "AND pg_relation_size(c.oid) > 0"
)
_SEQUENCES = (
    "SELECT n.nspname, c.relname, pg_sequence_last_value(c.oid) FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND n.nspname !~ '^pg_'"
)
_SEQUENCES_AT_ONCE = (
    "SELECT n.nspname, c.relname, d.last_value, d.is_called FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = c.relnamespace "
    "CROSS JOIN LATERAL pg_get_sequence_data(c.oid) d WHERE c.relkind = 'S' AND n.nspname !~ '^pg_'"
)
_LARGE_OBJECTS = "SELECT count(*), coalesce(sum(oid::bigint), 0) FROM pg_largeobject_metadata"

Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class State:
    """Names are (schema, name)."""

    #: Hash of all definitions.
    schema: str
    #: (number of rows, sum of their hashes) of the tables that have rows.
    tables: dict[Name, tuple[int, str]]
    #: (last value, whether it was used)
    sequences: dict[Name, tuple[int, bool]]
    #: (number, sum of their ids)
    large_objects: tuple[int, int] = (0, 0)
    #: Not part of the state: equal imprints mean equal definitions, but not the other way round.
    imprint: str = ""

    @property
    def hash(self) -> str:
        """32 hexadecimal digits."""
        whole = (
            self.schema,
            sorted(self.tables.items()),
            sorted(self.sequences.items()),
            self.large_objects,
        )
        return hashlib.blake2b(
            repr(whole).encode("utf-8", "surrogatepass"), digest_size=16
        ).hexdigest()


def read_state(connection: psycopg.Connection[Any], known: State | None = None) -> State:
    """The state of the database of an autocommitting connection.

    `known` is the state of another clone of the template: where the imprint is the same,
    definitions are not read again.
    """
    connection.execute(_FIXED.encode())
    imprint = _text(connection, imprint_query())
    schema = (
        known.schema if known and known.imprint == imprint else _text(connection, schema_query())
    )
    count, total = connection.execute(_LARGE_OBJECTS.encode()).fetchall()[0]
    return State(
        schema, _tables(connection), _sequences(connection), (int(count), int(total)), imprint
    )


def read_again(
    connection: psycopg.Connection[Any], state: State, moved: Iterable[Name], known: State | None
) -> State:
    """The state after this connection alone changed rows and moved these sequences.

    With `known`, it has changed definitions as well.
    """
    connection.execute(_FIXED.encode())
    if known is not None:
        return read_state(connection, known)
    return replace(
        state, tables=_tables(connection), sequences=state.sequences | _positions(connection, moved)
    )


def _text(connection: psycopg.Connection[Any], query: str) -> str:
    return str(connection.execute(query.encode()).fetchall()[0][0])


def _tables(connection: psycopg.Connection[Any]) -> dict[Name, tuple[int, str]]:
    names = connection.execute(_TABLES.encode()).fetchall()
    part = sql.SQL(
        'SELECT {}::text, {}::text, count(*), sum(hashtextextended(t::text COLLATE "C", 0))::text'
        " FROM ONLY {} t"
    )
    rows = _union(connection, [part.format(*_texts(name), sql.Identifier(*name)) for name in names])
    return {(schema, name): (count, total) for schema, name, count, total in rows if count}


def _sequences(connection: psycopg.Connection[Any]) -> dict[Name, tuple[int, bool]]:
    if connection.info.server_version >= 180000:
        rows = connection.execute(_SEQUENCES_AT_ONCE.encode()).fetchall()
        return {(schema, name): (int(last), bool(called)) for schema, name, last, called in rows}
    rows = connection.execute(_SEQUENCES.encode()).fetchall()
    found = {(schema, name): (int(last), True) for schema, name, last in rows if last is not None}
    # The catalogue does not report the position of a sequence that was never used.
    return found | _positions(
        connection, [(schema, name) for schema, name, last in rows if last is None]
    )


def _positions(
    connection: psycopg.Connection[Any], names: Iterable[Name]
) -> dict[Name, tuple[int, bool]]:
    part = sql.SQL("SELECT {}::text, {}::text, last_value, is_called FROM {}")
    rows = _union(connection, [part.format(*_texts(name), sql.Identifier(*name)) for name in names])
    return {(schema, name): (int(last), bool(called)) for schema, name, last, called in rows}


def _union(connection: psycopg.Connection[Any], parts: list[sql.Composed]) -> list[tuple[Any, ...]]:
    return connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall() if parts else []


def _texts(name: Name) -> tuple[sql.Literal, sql.Literal]:
    return sql.Literal(name[0]), sql.Literal(name[1])


#: Files of tables and indexes (TRUNCATE creates new ones), columns, and the ids of everything else
#: that can be created or dropped.
_SHAPE = """
SELECT md5(concat_ws('/',
  (SELECT string_agg(concat_ws(',', oid, relname, relfilenode, relnatts, relchecks, relhastriggers),
                     ';' ORDER BY oid)
     FROM pg_class
     WHERE relnamespace NOT IN (SELECT oid FROM internal) AND relpersistence <> 't'),
  (SELECT string_agg(concat_ws(',', attrelid, attnum, attname, atttypid, atttypmod, attnotnull,
                               atthasdef),
                     ';' ORDER BY attrelid, attnum)
     FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
     WHERE relnamespace NOT IN (SELECT oid FROM internal) AND relpersistence <> 't'),
  (SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_constraint WHERE oid >= 16384),
  (SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_trigger WHERE oid >= 16384),
  (SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_proc WHERE oid >= 16384)))
"""
_INTERNAL = (
    "WITH internal AS (SELECT oid FROM pg_namespace WHERE nspname ~ '^(pg_|information_schema)')"
)


def read_shape(connection: psycopg.Connection[Any]) -> str:
    """See `ports.DatabaseServer.shape`."""
    row = connection.execute(f"{_INTERNAL} {_SHAPE}".encode()).fetchone()
    return str(row[0]) if row else ""
