"""Makes a used clone equal to its template again.

Tables that changed are emptied and refilled, sequences are set back. No one can connect to a sealed
template, so its contents (the baseline) are read once per template from a new clone of it. The
proof is the state: an equal hash, or the clone is given up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from dct_celery.adapters.databases.costs import Costs
from dct_celery.adapters.databases.postgres.session import PostgresSession
from dct_celery.adapters.databases.postgres.state import Name, State, read_again, read_state
from dct_celery.errors import DatabaseError

#: Most bytes of a template's seeded tables that are kept in memory. Where they are larger, a clone
#: whose seeded rows changed is given up.
CONTENTS_LIMIT = 8 * 1024 * 1024
_REFERENCES = (
    "SELECT cn.nspname, c.relname, pn.nspname, p.relname FROM pg_constraint f "
    "JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace "
    "JOIN pg_class p ON p.oid = f.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace "
    "WHERE f.contype = 'f' AND f.conrelid <> f.confrelid"
)
_VIEWS = (
    "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind = 'm'"
)
_COLUMNS = (
    "SELECT attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid "
    "JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relname = %s "
    "AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
)
_TRIGGERS = (
    "SELECT nspname, relname, tgname, tgenabled::text FROM pg_trigger t "
    "JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace "
    "WHERE NOT tgisinternal AND tgenabled <> 'D' AND (nspname, relname) IN (SELECT * "
    "FROM unnest(%s::text[], %s::text[]))"
)
_ENABLE = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}


@dataclass(frozen=True, slots=True)
class Baseline:
    """The contents of a template."""

    state: State
    #: Writable columns, and rows in COPY's text format, of the tables with rows; empty when they
    #: are too large.
    contents: dict[Name, tuple[list[str], bytes]]
    #: (referencing table, referenced table)
    references: list[tuple[Name, Name]]
    #: Materialized views.
    views: frozenset[Name]


class Healer:
    """The baselines of all templates that one adapter has used."""

    def __init__(self, session: PostgresSession) -> None:
        self._session = session
        self._baselines: dict[str, Baseline] = {}
        #: By template: the state of a clone that was proven equal to it.
        self._states: dict[str, State] = {}
        self.costs = Costs()

    def knows(self, template: str) -> bool:
        return template in self._baselines

    def learn(self, clone: str, template: str, wanted: str) -> None:
        """Reads the baseline from a clone that no test used.

        Raises DatabaseError when its state is not the template's.
        """
        with self._into(clone) as connection:
            state = read_state(connection, self._states.get(template))
            if state.hash != wanted:
                raise DatabaseError(f"a new clone of {template} does not have the template's state")
            self._baselines[template] = _baseline(connection, state)

    def clean(self, name: str, template: str, wanted: str) -> None:
        """Cleans the clone. Raises DatabaseError when it cannot be made equal."""
        baseline = self._baselines[template]
        with self._into(name) as connection:
            state = read_state(connection, baseline.state)
            if state.hash == wanted:
                return
            if state.schema != baseline.state.schema:
                raise DatabaseError("its schema was changed")
            cleaning = _Cleaner(connection, baseline, state)
            touched = cleaning.run()
            if (
                read_again(
                    connection, state, cleaning.moved, baseline.state if touched else None
                ).hash
                != wanted
            ):
                raise DatabaseError("its contents could not be put back")

    def is_equal(self, clone: str, template: str, wanted: str) -> bool:
        """Whether a clone has the template's state. Raises DatabaseError when it cannot be read."""
        with self._into(clone) as connection:
            state = read_state(connection, self._states.get(template))
        if state.hash == wanted:
            self._states[template] = state
        return state.hash == wanted

    @contextlib.contextmanager
    def _into(self, name: str) -> Iterator[psycopg.Connection[Any]]:
        connection = self._session.open(name)
        pid = connection.info.backend_pid
        try:
            with self._session.translated():
                yield connection
        finally:
            connection.close()
            self._session.wait_until_closed(pid)


class _Cleaner:
    """Brings one clone back to the baseline."""

    def __init__(
        self, connection: psycopg.Connection[Any], baseline: Baseline, state: State
    ) -> None:
        self._connection, self._baseline = connection, baseline
        before, now = baseline.state, state
        dirty = {
            name
            for name in {*before.tables, *now.tables}
            if before.tables.get(name) != now.tables.get(name)
        }
        self._views = dirty & baseline.views
        self._tables = self._children_first(self._with_dependents(dirty - baseline.views))
        self._sequences = {
            name: value
            for name, value in before.sequences.items()
            if now.sequences.get(name) != value
        }

    @property
    def moved(self) -> list[Name]:
        """Sequences that are set back."""
        return list(self._sequences)

    def run(self) -> bool:
        """Cleans; returns whether it touched definitions on the way."""
        triggers = self._triggers() if self._tables else []
        with self._connection.transaction():
            self._connection.execute(b"SET CONSTRAINTS ALL DEFERRED")
            self._each(
                "ALTER TABLE {} DISABLE TRIGGER {}",
                [(table, trigger) for table, trigger, _ in triggers],
            )
            self._each("DELETE FROM ONLY {}", [(sql.Identifier(*name),) for name in self._tables])
            for name in reversed(self._tables):
                self._refill(name)
            # A table with pending deferred checks cannot be altered.
            self._connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
            for table, trigger, how in triggers:
                self._each(f"ALTER TABLE {{}} {_ENABLE[how]} TRIGGER {{}}", [(table, trigger)])
            self._each(
                "REFRESH MATERIALIZED VIEW {}",
                [(sql.Identifier(*name),) for name in sorted(self._views)],
            )
        self._set_sequences()
        return bool(triggers)

    def _with_dependents(self, dirty: set[Name]) -> set[Name]:
        """Also the seeded tables that a deletion could reach through foreign keys."""
        found = set(dirty)
        while True:
            reached = {
                child for child, parent in self._baseline.references if parent in found
            } & set(self._baseline.state.tables)
            if reached <= found:
                return found
            found |= reached

    def _children_first(self, names: set[Name]) -> list[Name]:
        """Sorts tables so that children are deleted from first: not every key is deferrable.

        Cycles come last; their keys must be deferrable.
        """
        left = set(names)
        order: list[Name] = []
        while left:
            referenced = {parent for child, parent in self._baseline.references if child in left}
            free = sorted(left - referenced) or sorted(left)
            order += free
            left -= set(free)
        return order

    def _refill(self, name: Name) -> None:
        if name not in self._baseline.state.tables:
            return
        if name not in self._baseline.contents:
            raise DatabaseError(
                f"rows of {'.'.join(name)} changed, and the template's rows are too many to be "
                "kept for that"
            )
        columns, rows = self._baseline.contents[name]
        fields = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(*name), fields)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(rows)

    def _triggers(self) -> list[tuple[sql.Identifier, sql.Identifier, str]]:
        schemas, names = zip(*self._tables, strict=True)
        rows = self._connection.execute(_TRIGGERS.encode(), [list(schemas), list(names)]).fetchall()
        return [
            (sql.Identifier(schema, name), sql.Identifier(trigger), how)
            for schema, name, trigger, how in rows
        ]

    def _set_sequences(self) -> None:
        part = sql.SQL("pg_catalog.setval({}::regclass, {}, {})")
        calls = [
            part.format(
                sql.Literal(sql.Identifier(*name).as_string()),
                sql.Literal(last),
                sql.Literal(called),
            )
            for name, (last, called) in self._sequences.items()
        ]
        for start in range(0, len(calls), 1000):
            self._connection.execute(
                sql.SQL("SELECT ") + sql.SQL(", ").join(calls[start : start + 1000])
            )

    def _each(self, statement: str, rows: Iterable[tuple[sql.Identifier, ...]]) -> None:
        for identifiers in rows:
            self._connection.execute(sql.SQL(statement).format(*identifiers))


def _baseline(connection: psycopg.Connection[Any], state: State) -> Baseline:
    references = connection.execute(_REFERENCES.encode()).fetchall()
    views = frozenset(connection.execute(_VIEWS.encode()).fetchall())
    seeded = sorted(set(state.tables) - views)
    contents = (
        {name: _contents(connection, name) for name in seeded}
        if _size(connection, seeded) <= CONTENTS_LIMIT
        else {}
    )
    return Baseline(state, contents, [((a, b), (c, d)) for a, b, c, d in references], views)


def _size(connection: psycopg.Connection[Any], names: list[Name]) -> int:
    texts = [sql.Identifier(*name).as_string() for name in names]
    row = connection.execute(
        "SELECT coalesce(sum(pg_relation_size(t::regclass)), 0) FROM unnest(%s::text[]) t", [texts]
    ).fetchone()
    return int(row[0]) if row else 0


def _contents(connection: psycopg.Connection[Any], name: Name) -> tuple[list[str], bytes]:
    columns = [row[0] for row in connection.execute(_COLUMNS.encode(), list(name)).fetchall()]
    fields = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT").format(fields, sql.Identifier(*name))
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        return columns, b"".join(bytes(part) for part in copy)
