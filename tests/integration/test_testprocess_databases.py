"""Claims about what forks of a loader do with databases on request.

Real loaders, real servers.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.core.databases.names import ownership_limit
from dct_celery.wire import messages
from tests.support.loaders import LoaderProcess, loader
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.postgres import connect
from tests.support.projects import make_project, postgres_settings

#: One row of a data migration, one test that flushes, one that wants the contents back.
_FILES = {
    "shelf/migrations/0002_rows.py": (
        """
        from django.db import migrations

        class Migration(migrations.Migration):
            dependencies = [("shelf", "0001_initial")]
            operations = [migrations.RunPython(
                lambda apps, _: apps.get_model("shelf", "Book").objects.create(title="migrated"))]
    """
    ),
    "test_it.py": (
        """
        from django.test import TestCase, TransactionTestCase
        from shelf.models import Book

        class Stored(TestCase):
            def test_migrated(self):
                self.assertEqual(Book.objects.get().title, "migrated")

        class Committed(TransactionTestCase):
            serialized_rollback = True
            def test_rolled_back(self):
                self.assertEqual(Book.objects.get().title, "migrated")
    """
    ),
}
_TWO = """
    import copy
    DATABASES["other"] = {**DATABASES["default"], "NAME": "other", "TEST": {}}
    DATABASES["replica"] = {**DATABASES["default"], "TEST": {"MIRROR": "default"}}
    DATABASES["stranded"] = {**DATABASES["default"], "TEST": {"MIRROR": "other"}}
"""


def _query(server: EmbeddedPostgres, sql: str, name: str = "postgres") -> list[Any]:
    with connect(server, name) as connection:
        return connection.execute(sql.encode()).fetchall()


@pytest.fixture
def mine(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """Name of a database of this test, dropped after it."""
    name = f"test_proc_{secrets.token_hex(4)}"
    yield name
    with connect(postgres_server) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def test_a_database_is_built_with_the_limit_that_marks_it(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mine: str
) -> None:
    # Given
    project = make_project(
        tmp_path / "project", settings=postgres_settings(postgres_server), files=_FILES
    )
    with loader(project, tmp_path / "run") as process:
        # When
        answer = process.ask(
            messages.Build({"default": mine}, {"default": ownership_limit(mine)}), messages.Built
        )
    # Then
    assert isinstance(answer, messages.Built), answer
    assert _query(
        postgres_server, f"SELECT datconnlimit FROM pg_database WHERE datname = '{mine}'"
    ) == [(ownership_limit(mine),)]
    assert _query(postgres_server, "SELECT title FROM shelf_book", mine) == [("migrated",)]


def test_a_backend_that_names_test_databases_itself_builds_the_template(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mine: str
) -> None:
    # Given
    engine = """
        from django.db.backends.postgresql import base, creation

        class Creation(creation.DatabaseCreation):
            def _get_test_db_name(self):
                return f"{super()._get_test_db_name()}_ours"

        class DatabaseWrapper(base.DatabaseWrapper):
            creation_class = Creation
    """
    settings = postgres_settings(postgres_server) + 'DATABASES["default"]["ENGINE"] = "engine"\n'
    files = {**_FILES, "engine/base.py": engine, "engine/__init__.py": ""}
    project = make_project(tmp_path / "project", settings=settings, files=files)
    with loader(project, tmp_path / "run") as process:
        # When
        answer = process.ask(messages.Build({"default": mine}), messages.Built)
    # Then
    assert isinstance(answer, messages.Built), answer
    assert _query(postgres_server, "SELECT title FROM shelf_book", mine) == [("migrated",)]


def test_the_limit_goes_with_what_test_settings_ask_for(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mine: str
) -> None:
    # Given
    asked = 'DATABASES["default"]["TEST"] = {"CHARSET": "SQL_ASCII", "TEMPLATE": "template0"}'
    settings = postgres_settings(postgres_server) + asked
    project = make_project(tmp_path / "project", settings=settings, files=_FILES)
    with loader(project, tmp_path / "run") as process:
        # When
        answer = process.ask(messages.Build({"default": mine}, {"default": 77}), messages.Built)
    # Then
    assert isinstance(answer, messages.Built), answer
    row = (
        "SELECT datconnlimit, pg_encoding_to_char(encoding) FROM pg_database "
        f"WHERE datname = '{mine}'"
    )
    assert _query(postgres_server, row) == [(77, "SQL_ASCII")]


_CHECK = """
    from django.core.checks import Error, Tags, register

    @register(Tags.database)
    def sees_the_rows(app_configs, databases, **_):
        from shelf.models import Book
        titles = [book.title for book in Book.objects.all()] if databases else []
        return [Error(f"saw {titles}")] if FAILS else []
"""


@pytest.mark.parametrize("fails", [False, True])
def test_checks_run_on_a_database_that_was_there_already(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mine: str, fails: bool
) -> None:
    # Given
    files = {**_FILES, "shelf/apps.py": f"FAILS = {fails}\n" + _dedented(_CHECK) + _APP}
    settings = postgres_settings(postgres_server) + 'INSTALLED_APPS = ["shelf.apps.Shelf"]'
    project = make_project(tmp_path / "project", settings=settings, files=files)
    with loader(
        make_project(
            tmp_path / "builder", settings=postgres_settings(postgres_server), files=_FILES
        ),
        tmp_path / "a",
    ) as one:
        assert isinstance(
            one.ask(messages.Build({"default": mine}), messages.Built), messages.Built
        )
    with loader(project, tmp_path / "b") as process:
        # When
        answer = process.ask(messages.Check({"default": mine}), messages.Checked)
    # Then
    if not fails:
        assert isinstance(answer, messages.Checked), answer
        return
    assert isinstance(answer, messages.Fatal)
    assert answer.reason == "checks"
    assert "saw ['migrated']" in answer.detail


_APP = """
from django.apps import AppConfig

class Shelf(AppConfig):
    name = "shelf"
"""


def _dedented(text: str) -> str:
    import textwrap

    return textwrap.dedent(text)


def test_every_configured_alias_is_reported_used_or_not(
    tmp_path: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    settings = postgres_settings(postgres_server) + _dedented(_TWO)
    project = make_project(tmp_path / "project", settings=settings + "DEBUG = True\n", files=_FILES)
    # When
    with loader(project, tmp_path / "run", variables={"DJANGO_ENV": "ci"}) as process:
        loaded = process.loaded
    # Then
    configured = {one["alias"]: one for one in loaded.configured}
    assert {alias: one["used"] for alias, one in configured.items()} == {
        "default": True, "other": False, "replica": True, "stranded": False,
    }  # fmt: skip
    assert {alias: one["test_name"] for alias, one in configured.items()} == {
        "default": "test_shelf", "other": "test_other", "replica": "", "stranded": "",
    }  # fmt: skip
    assert {alias: one["test"] for alias, one in configured.items()} == {
        "default": False, "other": False, "replica": True, "stranded": True,
    }  # fmt: skip
    assert (configured["default"]["host"], configured["default"]["port"]) == (
        postgres_server.host,
        str(postgres_server.port),
    )
    assert loaded.flushes == ["default"]
    assert (loaded.facts["debug"], loaded.facts["DJANGO_ENV"]) == ("true", "ci")


def test_only_a_loader_hashes_the_schema(tmp_path: Path) -> None:
    # Given
    project = make_project(tmp_path / "project")
    # When
    with (
        loader(project, tmp_path / "a", collect=True) as collecting,
        loader(project, tmp_path / "b") as loading,
    ):
        # Then
        assert collecting.loaded.schema == ""
        assert len(loading.loaded.schema) == 64


def test_a_relative_sqlite_file_is_reported_by_its_absolute_path(tmp_path: Path) -> None:
    # Given
    settings = 'DATABASES["default"].update(NAME="shop.db", TEST={"NAME": "sub/test.db"})'
    project = make_project(tmp_path / "project", settings=settings)
    # When
    with loader(project, tmp_path / "run") as process:
        (configured,) = process.loaded.configured
    # Then
    assert (configured["name"], configured["test_name"]) == (
        str(project / "shop.db"),
        str(project / "sub/test.db"),
    )


def test_an_alias_without_an_engine_is_no_database_to_create(tmp_path: Path) -> None:
    # Given: a test that declares it, as it declares no other
    test = """
        from django.test import TestCase

        class Reads(TestCase):
            def test_it(self):
                pass
    """
    project = make_project(tmp_path / "project", test, settings="DATABASES = {}\n")
    # When
    with loader(project, tmp_path / "run") as process:
        loaded = process.loaded
    # Then
    assert loaded.databases == []
    assert [(one["alias"], one["used"]) for one in loaded.configured] == [("default", True)]


def test_a_mirror_of_an_alias_that_is_not_set_up_refuses_to_connect(
    tmp_path: Path, postgres_server: EmbeddedPostgres, mine: str
) -> None:
    # Given: a test that declares the mirror alone, so that Django would send it to production
    test = """
        from django.db import connections
        from django.test import TransactionTestCase

        class Reads(TransactionTestCase):
            databases = {"default", "stranded"}
            def test_it(self):
                connections["stranded"].ensure_connection()
    """
    settings = postgres_settings(postgres_server) + _dedented(_TWO)
    project = make_project(tmp_path / "project", test, settings=settings)
    with loader(project, tmp_path / "run") as process:
        assert isinstance(
            process.ask(messages.Build({"default": mine}), messages.Built), messages.Built
        )
        # When
        configured = {one["alias"]: one["used"] for one in process.loaded.configured}
        outcome = _run(process, mine)
    # Then
    assert configured["stranded"] is False
    assert outcome.outcome == "error"
    assert "'stranded' was not set up" in outcome.failures[0].text


def _run(process: LoaderProcess, name: str) -> messages.TestFinished:
    """The record of the first test, on this database."""
    with process.fork() as fork:
        assert isinstance(
            fork.ask(messages.Attach({"default": name}, {}), messages.Attached, 60),
            messages.Attached,
        )
        fork.send(messages.RunChunk("c", [0]))
        while not isinstance(answer := fork.receive(60), messages.TestFinished):
            assert not isinstance(answer, messages.Fatal), answer
        return answer


# -- MariaDB -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedMariaDB]:
    with EmbeddedMariaDB.start(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


def _mariadb_settings(server: EmbeddedMariaDB) -> str:
    place = {
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
    }
    database = {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "shelf",
        **place,
        "TEST": {"CHARSET": "utf8mb4"},
    }
    return f"DATABASES = {{'default': {database!r}}}\n"


def _titles(server: EmbeddedMariaDB, name: str) -> list[Any]:
    import MySQLdb

    connection = MySQLdb.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        database=name,
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM shelf_book")
        return list(cursor.fetchall())


def test_mariadb_is_built_checked_serialized_and_flushed(
    mariadb: EmbeddedMariaDB, tmp_path: Path
) -> None:
    # Given
    project = make_project(tmp_path / "project", settings=_mariadb_settings(mariadb), files=_FILES)
    name, contents = f"test_proc_{secrets.token_hex(4)}", tmp_path / "serialized.json"
    place = {"default": name}
    with loader(project, tmp_path / "run") as process:
        # When / Then
        built = process.ask(messages.Build(place, {"default": 77}), messages.Built)
        assert isinstance(built, messages.Built), built
        assert _titles(mariadb, name) == [("migrated",)]
        checked = process.ask(messages.Check(place), messages.Checked)
        assert isinstance(checked, messages.Checked), checked
        serialized = process.ask(
            messages.Serialize(place, {"default": str(contents)}), messages.Serialized
        )
        assert isinstance(serialized, messages.Serialized), serialized
        assert [row["fields"] for row in json.loads(contents.read_text())] == [
            {"title": "migrated"}
        ]
        assert _run(process, name).outcome == "passed"
        flushed = process.ask(messages.Flush(place, ["default"]), messages.Flushed)
        assert isinstance(flushed, messages.Flushed), flushed
        assert _titles(mariadb, name) == []
