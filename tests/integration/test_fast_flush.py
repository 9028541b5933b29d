"""The short flush on a real PostgreSQL.

What it leaves out was empty, and where that is not sure Django's own list stands.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Self

import psycopg
import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.support.postgres import connect

_CHILD = """
import json, sys
from django.conf import settings
settings.configure(DATABASES={"default": json.loads(sys.argv[1])})
import django
django.setup()
from django.db import connection
from dct_celery.testproc.django import fast_flush
for line in sys.stdin:
    order = json.loads(line)
    if order["atomic"]:
        from django.db import transaction
        with transaction.atomic():
            answer = fast_flush.rows_only(connection, order["tables"])
    else:
        answer = fast_flush.rows_only(connection, order["tables"])
    print(json.dumps(answer), flush=True)
"""


class Scene:
    """A process with Django on a database of its own."""

    def __init__(self, server: EmbeddedPostgres, name: str) -> None:
        self._server = server
        self._name = name

    def __enter__(self) -> Self:
        self._admin(f"CREATE DATABASE {self._name}")
        self.sql = connect(self._server, self._name)
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": self._name,
            "HOST": self._server.host,
            "PORT": str(self._server.port),
            "USER": self._server.user,
            "PASSWORD": self._server.password,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.sql.close()
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._admin(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _admin(self, statement: str) -> None:
        with connect(self._server) as connection:
            connection.execute(statement.encode())

    def run(self, script: str) -> None:
        self.sql.execute(script.encode())

    def another(self) -> psycopg.Connection[Any]:
        return connect(self._server, self._name, autocommit=False)

    def to_truncate(self, *tables: str, atomic: bool = False) -> list[str] | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(
            json.dumps({"tables": tables, "atomic": atomic}), file=self._process.stdin, flush=True
        )
        answer: list[str] | None = json.loads(self._process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def shared_scene(postgres_server: EmbeddedPostgres) -> Iterator[Scene]:
    with Scene(postgres_server, "fast_flush") as scene:
        yield scene


@pytest.fixture
def scene(shared_scene: Scene) -> Scene:
    """Tables author <- book <- page, and shelf by itself; all empty."""
    shared_scene.run("""
        DROP SCHEMA public CASCADE; CREATE SCHEMA public;
        CREATE TABLE author (id int PRIMARY KEY);
        CREATE TABLE book (
            id int PRIMARY KEY, author_id int REFERENCES author DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE page (
            id int PRIMARY KEY, book_id int REFERENCES book DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE shelf (id int PRIMARY KEY, parent_id int REFERENCES shelf);
    """)
    return shared_scene


TABLES = ("author", "book", "page", "shelf")


def test_empty_tables_are_left_out(scene: Scene) -> None:
    # Given
    scene.run("INSERT INTO shelf VALUES (1, 1)")
    # Then
    assert scene.to_truncate(*TABLES) == ["shelf"]


def test_nothing_is_truncated_where_there_is_nothing(scene: Scene) -> None:
    assert scene.to_truncate(*TABLES) == ["page"]


def test_what_refers_to_a_filled_table_goes_with_it(scene: Scene) -> None:
    # Given
    scene.run("INSERT INTO author VALUES (1)")
    # When
    tables = scene.to_truncate(*TABLES)
    # Then
    assert tables == ["author", "book", "page"]
    scene.run(f"TRUNCATE {', '.join(tables)}")


def test_a_table_that_was_emptied_is_left_out_though_it_has_pages(scene: Scene) -> None:
    # Given
    scene.run("INSERT INTO shelf VALUES (1, 1); DELETE FROM shelf")
    # Then
    assert scene.to_truncate(*TABLES) == ["page"]


def test_names_that_need_quotes_are_found(scene: Scene) -> None:
    # Given
    scene.run('CREATE TABLE "Odd ""name" (id int); INSERT INTO "Odd ""name" VALUES (1)')
    # Then: Django quotes without doubling, so such a table cannot be resolved and the full list
    # stands
    assert scene.to_truncate('Odd "name', *TABLES) is None
    scene.run('CREATE TABLE "Odd Name" (id int); INSERT INTO "Odd Name" VALUES (1)')
    assert scene.to_truncate("Odd Name", *TABLES) == ["Odd Name"]


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE stranger (id int, author_id int REFERENCES author)",
        "ALTER TABLE shelf ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE oldshelf () INHERITS (shelf)",
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; "
            "END';CREATE TRIGGER t BEFORE TRUNCATE ON shelf EXECUTE FUNCTION f()"
        ),
        "DROP TABLE shelf; CREATE TABLE shelf (id int) PARTITION BY LIST (id)",
        "DROP TABLE shelf; CREATE VIEW shelf AS SELECT 1 AS id",
    ],
    ids=[
        "reference-from-outside",
        "row-security",
        "inheritance",
        "truncate-trigger",
        "partitions",
        "view",
    ],
)
def test_what_is_uncertain_is_left_to_django(scene: Scene, script: str) -> None:
    # Given
    scene.run(script)
    # Then
    assert scene.to_truncate(*TABLES) is None


def test_a_table_that_is_not_there_is_left_to_django(scene: Scene) -> None:
    assert scene.to_truncate("nowhere", *TABLES) is None


def test_rows_that_another_session_has_not_committed_are_left_to_django(scene: Scene) -> None:
    # Given
    with scene.another() as other:
        other.execute("INSERT INTO shelf VALUES (1, 1)")
        # Then
        assert scene.to_truncate(*TABLES) is None
        other.rollback()
    assert scene.to_truncate(*TABLES) == ["page"]


def test_within_a_transaction_the_list_is_djangos(scene: Scene) -> None:
    assert scene.to_truncate(*TABLES, atomic=True) is None
