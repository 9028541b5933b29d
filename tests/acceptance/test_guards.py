"""Guards as a user meets them.

Whatever the command, and whatever name it uses, no connection is made to a denied server.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import MySQLdb
import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.conftest import SERVER_ENVIRONMENT, started
from tests.support.fleet import Fleet, until
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.postgres import connect
from tests.support.projects import make_project, postgres_settings

COMMANDS = {
    "doctor": ["doctor", "--local", "1"],
    "gc": ["gc", "--dry-run"],
    "measure": ["doctor", "--local", "1", "--measure"],
}


def dct(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    own = {
        "XDG_CACHE_HOME": str(project.parent / "cache"),
        "XDG_STATE_HOME": str(project.parent / "state"),
    }
    return subprocess.run(
        [sys.executable, "-m", "dct_celery.cli", *arguments],
        cwd=project,
        env={**kept, **own, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """A server that writes down every connection and statement, and its log."""
    folder = tmp_path_factory.mktemp("logging")
    with started(lambda: EmbeddedPostgres.start(folder, environ=SERVER_ENVIRONMENT)) as server:
        with connect(server) as connection:
            for setting in ("log_connections = on", "log_statement = 'all'"):
                connection.execute(f"ALTER SYSTEM SET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        yield server, folder / "postgres.log"


@contextlib.contextmanager
def logged(log: Path) -> Iterator[Callable[[], str]]:
    """What the server logs within the block."""
    before = log.stat().st_size

    def lines() -> str:
        with log.open() as file:
            file.seek(before)
            return "".join(line for line in file if "checkpoint" not in line)

    yield lines


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("settings", "flags", "reason"),
    [
        ("", ["--deny-db-host", "127.0.0.1"], "--deny-db-host"),
        (
            'DATABASES["default"]["HOST"] = "127.1"',
            ["--deny-db-host", "localhost"],
            "--deny-db-host",
        ),
        ("", ["--deny-database", "shel*"], "--deny-database"),
        ('DATABASES["default"]["NAME"] = "shelf_production"', [], "looks like production"),
        ('DATABASES["default"]["OPTIONS"] = {"dbname": "shelf"}', [], "OPTIONS['dbname']"),
    ],
    ids=["host", "host by another name", "database", "name", "pinned"],
)
def test_a_command_sends_nothing_to_a_server_that_is_refused(
    postgres: tuple[EmbeddedPostgres, Path],
    tmp_path: Path,
    arguments: list[str],
    settings: str,
    flags: list[str],
    reason: str,
) -> None:
    # Given
    server, log = postgres
    project = make_project(
        tmp_path / "project", settings=f"{postgres_settings(server)}{settings}\n"
    )
    # When
    with logged(log) as log_lines:
        refused = dct(project, *arguments, *flags)
    # Then
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert reason in refused.stdout + refused.stderr
    assert log_lines() == ""


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_hosts_are_found_wherever_the_client_library_reads_them(
    postgres: tuple[EmbeddedPostgres, Path], tmp_path: Path, arguments: list[str]
) -> None:
    # Given
    server, log = postgres
    (tmp_path / "service.conf").write_text("[shop]\nhost=127.0.0.1\ndbname=shelf_production\n")
    by_variable = {"PGHOST": "127.0.0.1"}
    by_service = {"PGSERVICE": "shop", "PGSERVICEFILE": str(tmp_path / "service.conf")}
    bare = f'{postgres_settings(server)}DATABASES["default"]["HOST"] = ""\n'
    project = make_project(tmp_path / "project", settings=bare)
    for environment in (by_variable, by_service):
        # When
        with logged(log) as log_lines:
            refused = dct(project, *arguments, "--deny-db-host", "localhost", **environment)
        # Then
        assert "is denied by --deny-db-host localhost" in refused.stdout + refused.stderr
        assert log_lines() == ""


def test_the_log_would_have_shown_it(
    postgres: tuple[EmbeddedPostgres, Path], tmp_path: Path
) -> None:
    # Given
    server, log = postgres
    project = make_project(tmp_path / "project", settings=postgres_settings(server))
    for arguments in COMMANDS.values():
        # When
        with logged(log) as log_lines:
            allowed = dct(project, *arguments, "--deny-db-host", "db.invalid")
        # Then
        assert allowed.returncode == 0, allowed.stdout + allowed.stderr
        assert "connection authorized" in log_lines()


def test_mysql_gets_no_connection_either(mariadb_server: EmbeddedMariaDB, tmp_path: Path) -> None:
    # Given: a host that only the options file names, and a user whom no worker knows
    server = mariadb_server
    options = tmp_path / "my.cnf"
    options.write_text(
        f"[client]\nhost = {server.host}\nport={server.port}\npassword = '{server.password}'\n"
    )
    database = {"ENGINE": "django.db.backends.mysql", "NAME": "shelf", "USER": "guarded"}
    database["OPTIONS"] = {"read_default_file": str(options)}  # type: ignore[assignment]
    project = make_project(
        tmp_path / "project", settings=f"DATABASES = {{'default': {database!r}}}\n"
    )
    count = "SELECT COUNT(*) FROM mysql.general_log WHERE user_host LIKE 'guarded%'"
    place = {
        "host": server.host,
        "port": server.port,
        "user": server.admin,
        "password": server.password,
    }
    with contextlib.closing(MySQLdb.connect(**place)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE USER guarded IDENTIFIED BY '{server.password}'")
        cursor.execute("GRANT ALL ON `test\\_%`.* TO guarded")
        cursor.execute("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = ON")
        try:
            for arguments in COMMANDS.values():
                cursor.execute("TRUNCATE mysql.general_log")
                # When
                refused = dct(project, *arguments, "--deny-db-host", f"localhost:{server.port}")
                cursor.execute(count)
                # Then
                assert "is denied by --deny-db-host localhost" in refused.stdout + refused.stderr
                assert cursor.fetchone() == (0,)
            # And it would have been logged
            assert dct(project, *COMMANDS["doctor"]).returncode == 0
            cursor.execute(count)
            assert cursor.fetchone()[0] > 0
        finally:
            cursor.execute("SET GLOBAL general_log = OFF")
            cursor.execute("DROP USER guarded")


def test_a_worker_keeps_away_from_a_server_that_was_denied_since(
    fleet: Fleet, postgres: tuple[EmbeddedPostgres, Path], tmp_path: Path
) -> None:
    # Given a worker that has used a server
    server, log = postgres
    project = make_project(tmp_path / "project", settings=postgres_settings(server))
    worker = fleet.worker()
    assert fleet.run(project).code == 0
    worker.terminate()
    worker.wait()
    with logged(log) as log_lines:
        # When
        again = fleet.worker(
            "build-b", DCT_WORK_DIR=str(worker.folder), DCT_DENY_DB_HOST="localhost"
        )
        until(
            lambda: "is denied by --deny-db-host" in again.log.read_text(),
            what="the collector's look",
        )
        refused = fleet.run(project)
    # Then
    assert "is denied by --deny-db-host localhost" in refused.out + refused.err
    assert log_lines() == ""


# -- a configured database with rows that must stay -----------------------------------------

_TESTS = """
    from django.test import TestCase, TransactionTestCase
    from shelf.models import Book

    class Stored(TestCase):
        @classmethod
        def setUpTestData(cls):
            cls.book = Book.objects.create(title="a")
        def test_one(self):
            self.assertEqual(Book.objects.count(), 1)

    class Flushed(TransactionTestCase):
        def test_two(self):
            Book.objects.create(title="b")
            self.assertEqual(Book.objects.count(), 1)
"""
_POOLED = """
    from django.apps import AppConfig

    class Shelf(AppConfig):
        name = "shelf"
        def ready(self):
            from shelf.models import Book
            list(Book.objects.all()[:1])
"""
_THREAD = """
    import threading, time
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""
_LATE = """
    from django.db import connections
    from django.test.runner import DiscoverRunner

    class Runner(DiscoverRunner):
        def setup_databases(self, **kwargs):
            name = connections["default"].settings_dict["NAME"]
            old = super().setup_databases(**kwargs)
            connections["default"].close()
            connections["default"].settings_dict["NAME"] = name
            return old
"""


@pytest.fixture
def needed(postgres_server: EmbeddedPostgres) -> Iterator[Callable[[], int]]:
    """The configured database of `postgres_settings` with three rows.

    The number of those that are left.
    """

    def ask(database: str, statement: str) -> Any:
        with connect(postgres_server, database) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall()[0][0] if cursor.description else None

    ask("postgres", "CREATE DATABASE shelf")
    ask("shelf", "CREATE TABLE shelf_book (id serial PRIMARY KEY, title varchar(100))")
    ask("shelf", "INSERT INTO shelf_book (title) VALUES ('a'), ('b'), ('c')")
    yield lambda: ask("shelf", "SELECT count(*) FROM shelf_book")
    ask("postgres", "DROP DATABASE shelf WITH (FORCE)")


@pytest.mark.parametrize("threads", ["", _THREAD], ids=["forked", "spawned"])
def test_a_pool_that_was_opened_before_the_tests_leads_none_of_them_to_the_configured_database(
    threads: str,
    pair: Fleet,
    place: Path,
    postgres_server: EmbeddedPostgres,
    needed: Callable[[], int],
) -> None:
    # Given a pool, whose threads end with it, and with others, that do not
    more = (
        'DATABASES["default"]["OPTIONS"] = {"pool": True}\nINSTALLED_APPS = ["shelf.apps.Shelf"]\n'
    )
    settings = postgres_settings(postgres_server) + more
    project = make_project(
        place, _TESTS, settings=settings, files={"shelf/apps.py": _POOLED + threads}
    )
    # When
    finished = pair.run(project)
    # Then
    assert finished.code == 0, str(finished)
    assert set(finished.outcomes().values()) == {"passed"}
    assert ("test processes are not forked" in finished.err) == bool(threads)
    assert needed() == 3


def test_a_runner_that_sets_the_name_late_is_refused_and_runs_no_test(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres, needed: Callable[[], int]
) -> None:
    # Given
    settings = postgres_settings(postgres_server) + 'TEST_RUNNER = "runner.Runner"\n'
    project = make_project(place, _TESTS, settings=settings, files={"runner.py": _LATE})
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 4, str(finished)
    assert "build-a@" in finished.err
    assert (
        "refuses the run: database 'default': its NAME is 'shelf' after Runner.setup_databases"
        in finished.err
    )
    assert set(finished.outcomes().values()) == {"not_run"}
    assert needed() == 3
