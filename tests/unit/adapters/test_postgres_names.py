"""Names that are not ours never reach a PostgreSQL server.

Nothing without our mark is ever dropped.
"""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.adapters.databases.postgres.server import PostgresServer
from dct_celery.core.databases.marks import Mark
from dct_celery.core.databases.names import OURS, ownership_limit
from dct_celery.errors import DatabaseError
from dct_celery.ports import DatabaseSpec

MARK = Mark("clone", run="run-one")
GOOD = "test_good_1"


class RecordingConnection:
    """Where statements would go.

    Every name that is asked for exists, with the given comment and connection limit.
    """

    closed = False

    def __init__(self, comment: str | None = None, limit: int = -1) -> None:
        self.statements: list[str] = []
        self._row = (comment, limit)

    def execute(self, statement: Any, params: Any = None) -> RecordingConnection:
        self.statements.append(
            statement.decode() if isinstance(statement, bytes) else statement.as_string()
        )
        self._name = params[0] if params else ""
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        comment, limit = self._row
        return [(self._name, limit, comment, 0)]

    def close(self) -> None: ...


def server_on(connection: RecordingConnection) -> PostgresServer:
    server = PostgresServer(DatabaseSpec("default", "postgresql", "bookshop"))
    server._session._connection = connection  # type: ignore[assignment]
    server._session._used_at = server._session._opened_at = server._session._clock()
    return server


@given(
    st.one_of(
        st.text(), st.from_regex(r"\Atest_[^a-z]"), st.from_regex(r"\Atest_[a-z0-9_]{59,}\Z")
    ).filter(lambda t: not OURS.match(t))
)
def test_a_name_that_is_not_ours_never_reaches_the_server(name: str) -> None:
    # Given
    connection = RecordingConnection()
    server = server_on(connection)
    # When
    for touch in (
        lambda: server.drop(name),
        lambda: server.discard(name),
        lambda: server.seal(name, MARK),
        lambda: server.remark(name, MARK),
        lambda: server.announce(name, MARK),
        lambda: server.clone(GOOD, name, MARK),
        lambda: server.clone(name, GOOD, MARK),
        lambda: server.heal(name, GOOD, GOOD, MARK),
        lambda: server.heal(GOOD, name, GOOD, MARK),
        lambda: server.heal(GOOD, GOOD, name, MARK),
        lambda: server.adopt(name, GOOD, MARK),
        lambda: server.adopt(GOOD, name, MARK),
        lambda: server.export(name, Path("export")),
        lambda: server.restore(Path("export"), name, MARK),
    ):
        with pytest.raises(DatabaseError, match="is not one of our databases"):
            touch()
    # Then
    assert connection.statements == []


def generated(count: int) -> list[str]:
    """Names of our pattern, the same in every run."""
    chance = random.Random(4)
    letters = string.ascii_lowercase + string.digits + "_"
    return [
        f"test_{''.join(chance.choices(letters, k=chance.randint(3, 58)))}" for _ in range(count)
    ]


def test_of_ten_thousand_databases_without_a_mark_none_is_dropped() -> None:
    # Given
    comments = [
        None,
        "",
        "production",
        "dct",
        "dct template x",
        "dct2",
        "dct1 kind=clone",
        MARK.line("test_another"),
    ]
    for number, name in enumerate(generated(10_000)):
        # A limit that is nearly, but not quite, the one that only we would give.
        limit = [-1, 0, 100, ownership_limit(name) + 1, ownership_limit(name + "x")][number % 5]
        connection = RecordingConnection(comments[number % len(comments)], limit)
        server = server_on(connection)
        # When
        for verb in (server.drop, server.discard):
            with pytest.raises(DatabaseError, match="does not carry our mark"):
                verb(name)
        # Then
        assert all(statement.startswith("SELECT ") for statement in connection.statements)


@pytest.mark.parametrize("comment", [MARK.line(GOOD), None])
def test_a_database_with_a_mark_or_born_as_ours_is_dropped(comment: str | None) -> None:
    # Given
    connection = RecordingConnection(comment, -1 if comment else ownership_limit(GOOD))
    # When
    server_on(connection).drop(GOOD)
    # Then
    assert connection.statements[-1] == f'DROP DATABASE IF EXISTS "{GOOD}" WITH (FORCE)'
