"""Claims about where connections of a test process lead.

To its clone or nowhere, whoever opens them, whatever settings say.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import MySQLdb
import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.wire import messages
from tests.support.loaders import LoaderProcess, loader
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.postgres import connect
from tests.support.projects import make_project, postgres_settings

ROWS = [("kept",), ("dear",), ("own",)]
#: Each reaches for the alias `other`, which no selected test declares, and must not get there.
_WAYS = """
    import asyncio, copy, threading, unittest
    from asgiref.sync import sync_to_async
    from django.conf import settings
    from django.db import connections
    from django.db.utils import load_backend
    from django.test import TestCase
    from django.utils.connection import ConnectionDoesNotExist
    from shelf.models import Book

    def deleted(): Book.objects.using("other").all().delete()

    def in_thread(work):
        caught = []
        def run():
            try:
                work()
            except BaseException as error:
                caught.append(error)
            finally:
                connections.close_all()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if caught:
            raise caught[0]

    def clear(wrapper):
        with wrapper.cursor() as cursor:
            cursor.execute("DELETE FROM shelf_book")

    class Reaches(unittest.TestCase):
        def refused(self, work):
            with self.assertRaisesRegex(ConnectionDoesNotExist, "'other' was not set up"):
                work()

        def test_a_here(self): self.refused(deleted)
        def test_b_thread(self): self.refused(lambda: in_thread(deleted))
        def test_c_anew(self):
            del connections["other"]
            self.refused(deleted)
        def test_d_anew_in_thread(self):
            def anew():
                connections["other"]
                del connections["other"]
                deleted()
            self.refused(lambda: in_thread(anew))
        def test_e_async(self):
            self.refused(lambda: asyncio.run(sync_to_async(deleted, thread_sensitive=False)()))
            self.refused(lambda: asyncio.run(sync_to_async(deleted)()))
            async def count(): return await Book.objects.using("other").acount()
            self.refused(lambda: asyncio.run(count()))
        def test_f_create_connection(self):
            self.refused(lambda: clear(connections.create_connection("other")))
        def test_g_copy(self):
            self.refused(lambda: clear(connections["other"].copy()))
            self.refused(lambda: clear(connections["other"].copy(alias="mine")))
        def test_h_settings(self):
            copied = copy.deepcopy(settings.DATABASES["other"])
            for data in (copied, dict(connections.settings["other"])):
                made = load_backend(data["ENGINE"]).DatabaseWrapper(data, "mine")
                self.refused(lambda: clear(made))
                del data["DCT_NOT_SET_UP"]
                made = load_backend(data["ENGINE"]).DatabaseWrapper(data, "mine")
                with self.assertRaises(Exception):
                    clear(made)
        def test_i_nodb(self):
            def work():
                with connections["other"]._nodb_cursor() as cursor:
                    cursor.execute("SELECT 1")
            self.refused(work)
        def test_j_connect_of_its_own(self):
            class Own(type(connections["other"])):
                def connect(self):
                    self.connection = self.get_new_connection(self.get_connection_params())
            self.refused(lambda: clear(Own(connections["other"].settings_dict, "mine")))

    class Declares(TestCase):
        def test_k_its_own_works(self):
            Book.objects.create(title="x")
            self.assertEqual(Book.objects.count(), 1)
        def test_l_stock(self): connections["other"].cursor()
        def test_m_stock_in_thread(self): in_thread(deleted)
"""


class Scene:
    """A configured database with rows that must stay, and a template, on one server."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        token = secrets.token_hex(4)
        self.server, self.name, self.clone = server, f"shelf_{token}", f"test_doors_{token}"
        self.settings = (
            postgres_settings(server) + f'DATABASES["default"]["NAME"] = {self.name!r}\n'
        )
        self.two = f'{self.settings}DATABASES["other"] = {{**DATABASES["default"], "TEST": {{}}}}\n'
        self.ask("postgres", f"CREATE DATABASE {self.name}")
        for statement in (
            "CREATE TABLE shelf_book (id serial PRIMARY KEY, title varchar(100))",
            *map(_insert, ROWS),
        ):
            self.ask(self.name, statement)

    def ask(self, database: str, statement: str) -> list[Any]:
        with connect(self.server, database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def rows(self) -> list[Any]:
        return self.ask(self.name, "SELECT title FROM shelf_book ORDER BY id")

    def close(self) -> None:
        for name in (self.name, self.clone):
            self.ask("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _insert(row: tuple[str]) -> str:
    return f"INSERT INTO shelf_book (title) VALUES ('{row[0]}')"


@pytest.fixture
def scene(postgres_server: EmbeddedPostgres) -> Iterator[Scene]:
    with contextlib.closing(Scene(postgres_server)) as scene:
        yield scene


def built(process: LoaderProcess, name: str) -> None:
    answer = process.ask(messages.Build({"default": name}), messages.Built)
    assert isinstance(answer, messages.Built), answer


def outcomes(process: LoaderProcess, name: str, count: int) -> dict[str, messages.TestFinished]:
    """Records of the first tests by their methods, in one process."""
    found: dict[str, messages.TestFinished] = {}
    with process.fork() as fork:
        answer = fork.ask(
            messages.Attach({"default": name}, {}, ["default"]), messages.Attached, 60
        )
        assert isinstance(answer, messages.Attached), answer
        fork.send(messages.RunChunk("c", list(range(count))))
        while len(found) < count:
            message = fork.receive(60)
            assert not isinstance(message, (messages.Fatal, type(None))), message
            if isinstance(message, messages.TestFinished):
                found[str(message.index)] = message
    return found


def texts(records: dict[str, messages.TestFinished]) -> list[tuple[str, str]]:
    return [
        (record.outcome, record.failures[0].text if record.failures else "")
        for record in records.values()
    ]


def test_an_alias_that_is_not_set_up_cannot_be_reached(scene: Scene, tmp_path: Path) -> None:
    # Given
    project = make_project(tmp_path / "project", _WAYS, settings=scene.two)
    with loader(project, tmp_path / "run") as process:
        built(process, scene.clone)
        # When
        said = texts(outcomes(process, scene.clone, process.loaded.count))
    # Then
    assert scene.rows == ROWS
    stock = [text for outcome, text in said if outcome != "passed"]
    assert (len(said), len(stock)) == (13, 2), said
    assert "Database queries to 'other' are not allowed in this test" in stock[0]
    assert "Database threaded connections to 'other' are not allowed in this test" in stock[1]


def test_connections_that_a_pool_has_from_before_are_closed(scene: Scene, tmp_path: Path) -> None:
    # Given a project that has asked its configured database before the tests, over a pool
    tests = """
        from django.db import connection
        from django.test import TestCase, TransactionTestCase
        from shelf.models import Book

        class Stored(TestCase):
            def test_a(self): self.assertEqual(list(Book.objects.all()), [])
        class Flushed(TransactionTestCase):
            def test_b(self):
                Book.objects.create(title="x")
                self.assertEqual(connection.connection.info.dbname, CLONE)
        class Again(TransactionTestCase):
            def test_c(self): self.assertEqual(Book.objects.count(), 0)
    """
    apps = """
        from django.apps import AppConfig

        class Shelf(AppConfig):
            name = "shelf"
            def ready(self):
                from shelf.models import Book
                assert len(Book.objects.all()) == 3
    """
    more = (
        'DATABASES["default"]["OPTIONS"] = {"pool": True}\nINSTALLED_APPS = ["shelf.apps.Shelf"]\n'
    )
    project = make_project(
        tmp_path / "project",
        tests.replace("CLONE", repr(scene.clone)),
        settings=scene.settings + more,
        files={"shelf/apps.py": apps},
    )
    with loader(project, tmp_path / "run") as process:
        built(process, scene.clone)
        # When
        said = texts(outcomes(process, scene.clone, 3))
    # Then
    assert [outcome for outcome, _ in said] == ["passed"] * 3, said
    assert scene.rows == ROWS


_RUNNER = """
    from django.conf import settings
    from django.db import connections
    from django.test.runner import DiscoverRunner

    class Runner(DiscoverRunner):
        def setup_databases(self, **kwargs):
            BEFORE
            old = super().setup_databases(**kwargs)
            AFTER
            return old
"""
_SET_NAME = 'connections["default"].settings_dict["NAME"] = settings.REAL'


@pytest.mark.parametrize(
    ("options", "before", "after", "reason"),
    [
        (
            'DATABASES["default"]["OPTIONS"] = {"dbname": NAME}',
            "pass",
            "pass",
            "its connection is on",
        ),
        (
            "",
            'connections["default"].settings_dict["OPTIONS"] = {"dbname": settings.REAL}',
            "pass",
            "its connection is on",
        ),
        ("", "pass", _SET_NAME, "after Runner.setup_databases"),
        (
            "",
            "pass",
            f'{_SET_NAME}; connections["default"].close()',
            "after Runner.setup_databases",
        ),
        (
            "",
            "pass",
            'default = settings.DATABASES["default"]; '
            'settings.DATABASES["default"] = {**default, "NAME": settings.REAL}',
            "after Runner.setup_databases",
        ),
        (
            "",
            "pass",
            'connections["default"].close(); '
            'connections["default"].settings_dict["OPTIONS"]["dbname"] = settings.REAL',
            "its connection is on",
        ),
    ],
    ids=[
        "options",
        "options by the runner",
        "late name",
        "late name and closed",
        "other settings",
        "late options",
    ],
)
def test_a_process_that_would_work_on_another_database_is_not_attached(
    scene: Scene, tmp_path: Path, options: str, before: str, after: str, reason: str
) -> None:
    # Given
    runner = _RUNNER.replace("BEFORE", before).replace("AFTER", after)
    own = f'NAME = REAL = DATABASES["default"]["NAME"]\nTEST_RUNNER = "runner.Runner"\n{options}\n'
    project = make_project(
        tmp_path / "project", settings=scene.settings + own, files={"runner.py": runner}
    )
    scene.ask("postgres", f"CREATE DATABASE {scene.clone} TEMPLATE {scene.name}")
    with loader(project, tmp_path / "run") as process:
        # When
        answers: list[messages.Message] = [
            process.ask(
                messages.Attach({"default": scene.clone}, {}, ["default"]), messages.Attached
            )
        ]
        if "dbname" in options + before:
            built_there = f"{scene.clone}_b"
            answers.append(process.ask(messages.Build({"default": built_there}), messages.Built))
            scene.ask("postgres", f"DROP DATABASE IF EXISTS {built_there} WITH (FORCE)")
    # Then
    for answer in answers:
        assert isinstance(answer, messages.Fatal), answer
        assert answer.reason == "elsewhere"
        assert answer.message.startswith("database 'default': ")
        assert reason in answer.message
        assert "\n" not in answer.message
    assert scene.rows == ROWS


def test_a_process_that_would_work_on_another_server_is_not_attached(
    scene: Scene, tmp_path: Path
) -> None:
    # Given
    project = make_project(tmp_path / "project", settings=scene.settings)
    scene.ask("postgres", f"CREATE DATABASE {scene.clone} TEMPLATE {scene.name}")
    place, elsewhere = {"default": scene.clone}, {"default": "1.5"}
    with loader(project, tmp_path / "run") as process:
        for question in (
            messages.Attach(place, {}, ["default"], elsewhere),
            messages.Flush(place, ["default"], elsewhere),
            messages.Check(place, elsewhere),
            messages.Build({"default": f"{scene.clone}_b"}, {}, elsewhere),
        ):
            # When
            answer = process.ask(question, messages.Attached)
            # Then
            assert isinstance(answer, messages.Fatal), answer
            assert "tests and worker reach different servers" in answer.message
    assert scene.ask(scene.clone, "SELECT count(*) FROM shelf_book") == [(3,)]
    assert (
        scene.ask("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{scene.clone}_b'") == []
    )


def test_a_test_cannot_take_its_alias_to_a_configured_database(
    scene: Scene, tmp_path: Path
) -> None:
    # Given
    tests = f"""
        import unittest
        from django.db import connection
        from shelf.models import Book

        class Takes(unittest.TestCase):
            databases = ["default"]
            def test_it(self):
                connection.close()
                connection.settings_dict["NAME"] = {scene.name!r}
                Book.objects.all().delete()
    """
    files = {
        "test_more.py": (
            "from django.test import TestCase\nclass A(TestCase):\n    def test_a(self): pass\n"
        )
    }
    project = make_project(tmp_path / "project", tests, settings=scene.settings, files=files)
    with loader(project, tmp_path / "run") as process:
        built(process, scene.clone)
        # When
        said = texts(outcomes(process, scene.clone, 2))
    # Then
    assert [outcome for outcome, _ in said] == ["passed", "error"], said
    assert "WrongDatabase" in said[1][1]
    assert scene.rows == ROWS


# -- other vendors -------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["db", "database"])
def test_on_mysql_too(mariadb_server: EmbeddedMariaDB, tmp_path: Path, option: str) -> None:
    # Given
    server, token = mariadb_server, secrets.token_hex(4)
    real, clone = f"shelf_{token}", f"test_doors_{token}"
    place: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "user": server.admin,
        "password": server.password,
    }
    with (
        contextlib.closing(MySQLdb.connect(**place, autocommit=True)) as connection,
        connection.cursor() as cursor,
    ):
        for name in (real, clone):
            cursor.execute(f"CREATE DATABASE {name}")
            cursor.execute(
                f"CREATE TABLE {name}.shelf_book (id int AUTO_INCREMENT PRIMARY KEY, title "
                "varchar(100))"
            )
            cursor.execute(f"INSERT INTO {name}.shelf_book (title) VALUES ('kept')")
        database = {
            "ENGINE": "django.db.backends.mysql",
            "NAME": real,
            "HOST": server.host,
            "PORT": server.port,
            "USER": server.admin,
            "PASSWORD": server.password,
            "OPTIONS": {option: real},
        }
        project = make_project(
            tmp_path / "project", settings=f"DATABASES = {{'default': {database!r}}}\n"
        )
        try:
            with loader(project, tmp_path / "run") as process:
                # When
                answer = process.ask(
                    messages.Attach({"default": clone}, {}, ["default"]), messages.Attached
                )
            # Then
            assert isinstance(answer, messages.Fatal), answer
            assert f"its connection is on '{real}'" in answer.message
            cursor.execute(f"SELECT COUNT(*) FROM {real}.shelf_book")
            assert cursor.fetchone() == (1,)
        finally:
            for name in (real, clone):
                cursor.execute(f"DROP DATABASE {name}")


def test_on_sqlite_files_too(tmp_path: Path) -> None:
    # Given
    def rows(file: Path) -> list[Any]:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            return connection.execute("SELECT title FROM shelf_book").fetchall()

    def made(name: str) -> Path:
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute(
                "CREATE TABLE shelf_book (id integer PRIMARY KEY, title varchar(100))"
            )
            connection.execute("INSERT INTO shelf_book (title) VALUES ('kept')")
            connection.commit()
        return tmp_path / name

    real, other, clone = map(made, ("real.db", "other.db", "test_clone.sqlite3"))
    settings = f"""
        DATABASES["default"] |= {{"NAME": {str(real)!r}, "TEST": {{"NAME": "test.db"}}}}
        DATABASES["other"] = {{**DATABASES["default"], "NAME": {str(other)!r}, "TEST": {{}}}}
        REAL = {str(real)!r}
    """
    late = 'TEST_RUNNER = "runner.Runner"\n'
    files = {"runner.py": _RUNNER.replace("BEFORE", "pass").replace("AFTER", _SET_NAME)}
    project = make_project(tmp_path / "project", _WAYS, settings=settings)
    lately = make_project(tmp_path / "late", settings=_with(settings, late), files=files)
    with loader(project, tmp_path / "a") as process, loader(lately, tmp_path / "b") as wrong:
        # When
        said = texts(outcomes(process, str(clone), process.loaded.count))
        answer = wrong.ask(
            messages.Attach({"default": str(clone)}, {}, ["default"]), messages.Attached
        )
    # Then
    assert [outcome for outcome, _ in said].count("passed") >= 10, said
    assert isinstance(answer, messages.Fatal), answer
    assert "after Runner.setup_databases" in answer.message
    assert rows(other) == rows(real) == [("kept",)]


def _with(settings: str, more: str) -> str:
    return f"{settings.rstrip()}\n        {more}"
