"""What a test process and its worker need to reach the right database, as projects say it.

Files in the tree, variables of the job, TLS, names that tests hand to processes of their own; and
what a database that cannot be flushed does to a run.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import MySQLdb
import psycopg
import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.conftest import SERVER_ENVIRONMENT, started
from tests.support.certificates import Certificates
from tests.support.fleet import Fleet
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.projects import make_project, postgres_settings

_TESTS = """
    from django.test import TestCase, TransactionTestCase
    from shelf.models import Book

    class Stored(TestCase):
        def test_one(self):
            Book.objects.create(title="a")
            self.assertEqual(Book.objects.count(), 1)

    class Flushed(TransactionTestCase):
        def test_two(self):
            Book.objects.create(title="b")
            self.assertEqual(Book.objects.count(), 1)
"""


def passes(fleet: Fleet, project: Path, *flags: str, **environment: str) -> None:
    """All tests of the project pass, on a worker that was there before."""
    finished = fleet.run(project, *flags, **environment)
    assert finished.code == 0, str(finished)
    assert set(finished.outcomes().values()) == {"passed"}


# -- PostgreSQL ------------------------------------------------------------------------


@pytest.fixture
def role(postgres_server: EmbeddedPostgres) -> Iterator[tuple[str, str]]:
    """A role that may create databases, and its password; both are gone afterwards.

    To be asked for before the fleet, so that it goes when no worker drops databases any more.
    """
    name, password = f"r{secrets.token_hex(4)}", secrets.token_hex(8)
    place = {"host": postgres_server.host, "port": postgres_server.port}
    with psycopg.connect(
        **place,  # type: ignore[arg-type]
        user=postgres_server.user,
        password=postgres_server.password,
        dbname="postgres",
        autocommit=True,
    ) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD '{password}'".encode())
        yield name, password
        for (database,) in admin.execute(
            "SELECT datname FROM pg_database WHERE datdba = %s::regrole", [name]
        ).fetchall():
            admin.execute(f'ALTER DATABASE "{database}" IS_TEMPLATE false'.encode())
            admin.execute(f'DROP DATABASE "{database}" WITH (FORCE)'.encode())
        admin.execute(f"DROP ROLE {name}".encode())


def bare_settings(more: str = "") -> str:
    engine = "django.db.backends.postgresql"
    return f"DATABASES = {{'default': {{'ENGINE': {engine!r}, 'NAME': 'shelf'}}}}\n{more}\n"


def test_a_password_file_in_the_tree_opens_the_workers_own_connections(
    role: tuple[str, str], fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    user, password = role
    where = {"HOST": postgres_server.host, "PORT": postgres_server.port, "USER": user}
    settings = bare_settings(
        f'DATABASES["default"].update({where!r}, OPTIONS={{"passfile": "ops/pgpass"}})'
    )
    files = {"ops/pgpass": f"{postgres_server.host}:*:*:{user}:{password}\n"}
    project = make_project(place, _TESTS, settings=settings, files=files)
    (project / "ops/pgpass").chmod(0o600)
    fleet.worker()
    # Then
    passes(fleet, project)


@pytest.mark.parametrize("by", ["variables", "service"])
def test_what_the_job_says_to_libpq_reaches_the_workers_own_connections(
    role: tuple[str, str], fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres, by: str
) -> None:
    # Given a project whose settings say nothing but a name
    user, password = role
    said = {
        "host": postgres_server.host,
        "port": str(postgres_server.port),
        "user": user,
        "password": password,
    }
    lines = "".join(f"{name}={value}\n" for name, value in said.items())
    files = {"ops/services": f"[shelf]\n{lines}"}
    project = make_project(place, _TESTS, settings=bare_settings(), files=files)
    environment = {
        "variables": {f"PG{name.upper()}": value for name, value in said.items()},
        "service": {"PGSERVICE": "shelf", "PGSERVICEFILE": "ops/services"},
    }[by]
    fleet.worker()
    # Then
    passes(fleet, project, "--env", "PG*", **environment)


def test_a_worker_takes_the_role_that_the_project_assumes(
    role: tuple[str, str], fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given a user that may create nothing, and is a member of one that may
    user, password = f"u{secrets.token_hex(4)}", secrets.token_hex(8)
    where = {"host": postgres_server.host, "port": postgres_server.port}
    with psycopg.connect(
        **where,  # type: ignore[arg-type]
        user=postgres_server.user,
        password=postgres_server.password,
        dbname="postgres",
        autocommit=True,
    ) as admin:
        make = f"CREATE ROLE {user} LOGIN PASSWORD '{password}' IN ROLE {role[0]}"
        admin.execute(make.encode())
        settings = postgres_settings(postgres_server, user=user, password=password)
        settings += f'DATABASES["default"]["OPTIONS"] = {{"assume_role": {role[0]!r}}}\n'
        project = make_project(place, _TESTS, settings=settings)
        fleet.worker()
        # Then
        try:
            passes(fleet, project)
            for worker in fleet.workers:
                worker.terminate()
                worker.wait()
        finally:
            admin.execute(f"DROP ROLE {user}".encode())


_CHILD = """
    import multiprocessing
    from django.conf import settings
    from django.db import connection
    from django.test import TransactionTestCase
    from shelf.models import Book

    def count(answer):
        # As channels does it in the process of its live server
        database = settings.DATABASES["default"]
        database["NAME"] = database["TEST"]["NAME"]
        connection.connection = None
        answer.put(Book.objects.count())

    class Live(TransactionTestCase):
        def test_it(self):
            Book.objects.create(title="b")
            self.assertEqual(settings.DATABASES["default"]["TEST"]["NAME"],
                             connection.settings_dict["NAME"])
            context = multiprocessing.get_context("fork")
            answer = context.Queue()
            child = context.Process(target=count, args=(answer,))
            child.start()
            self.assertEqual(answer.get(timeout=20), 1)
            child.join()
"""


@pytest.mark.parametrize("vendor", ["postgres", "sqlite"])
def test_a_child_that_computes_its_database_from_test_name_reaches_the_clone(
    busy_fleet: Fleet, place: Path, request: pytest.FixtureRequest, vendor: str
) -> None:
    # Given
    settings = (
        postgres_settings(request.getfixturevalue("postgres_server"))
        if vendor == "postgres"
        else 'DATABASES["default"]["NAME"] = "shelf.db"\n'
    )
    settings += f'DATABASES["default"]["TEST"] = {{"NAME": "test_of_{secrets.token_hex(4)}"}}\n'
    project = make_project(place, _CHILD, settings=settings)
    # Then
    passes(busy_fleet, project)


def test_no_test_name_is_made_up(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    tests = """
        from django.db import connection
        from django.test import TestCase

        class Named(TestCase):
            def test_it(self):
                self.assertIsNone(connection.settings_dict["TEST"]["NAME"])
    """
    project = make_project(place, tests, settings=postgres_settings(postgres_server))
    # Then
    passes(busy_fleet, project)


# -- a database that cannot be flushed ---------------------------------------------------

_LEDGER = """
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shelf", "0001_initial")]
        operations = [
            migrations.RunSQL("CREATE TABLE ledger (book integer REFERENCES shelf_book)")
        ]
"""
_FLUSHING = """
    from django.test import TransactionTestCase
    from shelf.models import Book

    class A(TransactionTestCase):
        def test_it(self):
            Book.objects.create(title="a")

    class B(TransactionTestCase):
        def test_it(self): pass

    class C(TransactionTestCase):
        def test_it(self): pass
"""
_RUNNER = """
    from django.test.runner import DiscoverRunner

    class Runner(DiscoverRunner):
        def setup_databases(self, **kwargs):
            return super().setup_databases(**kwargs)
"""


@pytest.mark.parametrize("runner", ["", 'TEST_RUNNER = "runner.Runner"\n'], ids=["plain", "own"])
def test_a_flush_that_fails_is_the_error_of_each_test_with_the_servers_reason(
    pair: Fleet, place: Path, postgres_server: EmbeddedPostgres, runner: str
) -> None:
    # Given
    files = {"shelf/migrations/0002_ledger.py": _LEDGER, "runner.py": _RUNNER}
    settings = postgres_settings(postgres_server) + runner
    project = make_project(place, _FLUSHING, settings=settings, files=files)
    # When
    finished = pair.run(project)
    # Then
    assert finished.code == 1, str(finished)
    assert finished.outcomes() == {f"test_it.{name}.test_it": "error" for name in ("A", "B", "C")}
    for test in finished.json["tests"]:
        assert test["message"].endswith(
            "couldn't be flushed. Possible reasons: "
            "cannot truncate a table referenced in a foreign key constraint"
        ), test["message"]


# -- MariaDB ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    certificates.signed("server", "IP:127.0.0.1", "DNS:localhost")
    return certificates


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, tls: Certificates
) -> Iterator[EmbeddedMariaDB]:
    """A MariaDB with TLS, and a user `tls` that must use it."""
    certificate, key = tls.signed("mariadb", "IP:127.0.0.1", "DNS:localhost")
    # Where the server's account can read them
    folder = Path(certificate).parent
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    settings = {"ssl-ca": tls.ca, "ssl-cert": certificate, "ssl-key": key}
    with started(
        lambda: EmbeddedMariaDB.start(
            tmp_path_factory.mktemp("mariadb"), settings=settings, environ=SERVER_ENVIRONMENT
        )
    ) as server:
        connection = MySQLdb.connect(
            host=server.host, port=server.port, user=server.admin, password=server.password
        )
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE USER 'tls'@'%' IDENTIFIED BY '{server.password}' REQUIRE SSL")
            cursor.execute("GRANT ALL ON `test\\_%`.* TO 'tls'@'%'")
        yield server


def test_tls_in_options_opens_the_workers_own_connections(
    fleet: Fleet, place: Path, secured: EmbeddedMariaDB, tls: Certificates
) -> None:
    # Given
    database = {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "shelf",
        "HOST": secured.host,
        "PORT": secured.port,
        "USER": "tls",
        "PASSWORD": secured.password,
        "OPTIONS": {"ssl": {"ca": "ops/ca.pem"}},
    }
    settings = f"DATABASES = {{'default': {database!r}}}\n"
    files = {"ops/ca.pem": Path(tls.ca).read_text()}
    project = make_project(place, _TESTS, settings=settings, files=files)
    fleet.worker()
    # Then
    passes(fleet, project)


def test_an_options_file_in_the_tree_opens_the_workers_own_connections(
    busy_fleet: Fleet, place: Path, mariadb_server: EmbeddedMariaDB
) -> None:
    # Given
    options = {"read_default_file": "ops/my.cnf"}
    database = {"ENGINE": "django.db.backends.mysql", "NAME": "shelf", "OPTIONS": options}
    files = {
        "ops/my.cnf": (
            f"[client]\nhost={mariadb_server.host}\nport={mariadb_server.port}\n"
            f"user={mariadb_server.user}\npassword={mariadb_server.password}\n"
        )
    }
    settings = f"DATABASES = {{'default': {database!r}}}\n"
    project = make_project(place, _TESTS, settings=settings, files=files)
    # Then
    passes(busy_fleet, project)
