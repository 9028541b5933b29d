"""A database server that fails for a while costs time, never a verdict.

It restarts, cannot be reached, has a full disk or no connections left.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import MySQLdb
import psycopg
import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.acceptance.stream import wait_for_records
from tests.benchmarks.hosts import Host, network
from tests.support import postgres
from tests.support.fleet import Finished, Fleet, until
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.outage import Outage
from tests.support.projects import make_project, postgres_settings

#: Classes whose rows come from before a fault, and tests that check for them.
TESTS = """
    import time
    from django.test import TestCase
    from shelf.models import Book
""" + "".join(
    f"""
    class Stored{number:02}(TestCase):
        @classmethod
        def setUpTestData(cls):
            Book.objects.create(title="first")

        def check(self):
            for title in range(8):
                Book.objects.create(title=str(title))
                time.sleep(0.01)
            self.assertEqual(Book.objects.count(), 9)

        def test_one(self): self.check()
        def test_two(self): self.check()
        def test_three(self): self.check()
"""
    for number in range(16)
)


def connect(server: EmbeddedPostgres, database: str = "postgres") -> psycopg.Connection[Any]:
    return postgres.connect(server, database, connect_timeout=3)


def answers(server: EmbeddedPostgres) -> None:
    connect(server).close()


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start(tmp_path / "postgres") as server:
        yield server


@pytest.fixture
def outage(own_postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Outage]:
    with Outage(own_postgres.pid, tmp_path) as outage:
        yield outage


def assert_all_passed(finished: Finished, tests: int) -> None:
    assert finished.code == 0, str(finished)
    outcomes = finished.outcomes()
    assert set(outcomes.values()) == {"passed"}, str(finished)
    assert len(outcomes) == tests


def test_a_restart_of_postgresql_costs_no_verdict(
    fleet: Fleet, tmp_path: Path, own_postgres: EmbeddedPostgres, outage: Outage
) -> None:
    # Given
    project = make_project(tmp_path / "project", TESTS, settings=postgres_settings(own_postgres))
    fleet.worker(slots=2)
    running = fleet.start(project)
    wait_for_records(fleet, running)
    # When
    outage.end(signal.SIGQUIT)
    time.sleep(1.0)
    outage.start(lambda: answers(own_postgres))
    back = time.monotonic()
    finished = running.finish()
    # Then
    assert_all_passed(finished, 48)
    assert time.monotonic() - back < 10.0 + 16 * 3 * 0.1 / 2


def test_a_restart_while_the_template_is_built_does_not_end_the_run(
    fleet: Fleet, tmp_path: Path, own_postgres: EmbeddedPostgres, outage: Outage
) -> None:
    # Given
    slow = """
        import time
        from django.db import migrations

        class Migration(migrations.Migration):
            dependencies = [("shelf", "0001_initial")]
            operations = [migrations.RunSQL("SELECT pg_sleep(1.5)", migrations.RunSQL.noop)]
    """
    project = make_project(
        tmp_path / "project",
        settings=postgres_settings(own_postgres),
        files={"shelf/migrations/0002_slow.py": slow},
    )
    fleet.worker()
    running = fleet.start(project)

    def builds() -> bool:
        with connect(own_postgres) as connection:
            return bool(
                connection.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
                ).fetchall()
            )

    until(builds, what="the build")
    # When
    outage.end(signal.SIGQUIT)
    time.sleep(0.5)
    outage.start(lambda: answers(own_postgres))
    # Then
    assert_all_passed(running.finish(), 3)


def test_a_server_with_few_connections_means_fewer_slots(
    fleet: Fleet, tmp_path: Path, own_postgres: EmbeddedPostgres, outage: Outage
) -> None:
    # Given
    outage.end(signal.SIGINT)
    outage.start(lambda: answers(own_postgres), swap={"max_connections=200": "max_connections=13"})
    project = make_project(tmp_path / "project", TESTS, settings=postgres_settings(own_postgres))
    fleet.worker(slots=4)
    # When
    finished = fleet.run(project)
    # Then
    assert_all_passed(finished, 48)
    assert "of 4 slots stay idle" in finished.out + finished.err, str(finished)
    assert "raise its max_connections" in finished.out + finished.err


def test_connections_that_others_take_during_the_run_cost_no_verdict(
    fleet: Fleet, tmp_path: Path, own_postgres: EmbeddedPostgres, outage: Outage
) -> None:
    # Given
    outage.end(signal.SIGINT)
    outage.start(lambda: answers(own_postgres), swap={"max_connections=200": "max_connections=20"})
    tests = TESTS.replace(
        "def check(self):",
        "def check(self):\n            from django.db import connection; connection.close()",
    )
    tests = tests.replace("TestCase", "TransactionTestCase").replace(
        "Book.objects.count(), 9", "Book.objects.count(), 8"
    )
    tests = tests.replace("@classmethod\n        def setUpTestData(cls):", "def not_called(cls):")
    project = make_project(tmp_path / "project", tests, settings=postgres_settings(own_postgres))
    fleet.worker(slots=2)
    running = fleet.start(project)
    wait_for_records(fleet, running)
    # When
    with contextlib.ExitStack() as stack:
        until_away = time.monotonic() + 3.0
        while time.monotonic() < until_away:
            with contextlib.suppress(psycopg.Error):
                stack.enter_context(connect(own_postgres))
            time.sleep(0.005)
    finished = running.finish()
    # Then
    assert_all_passed(finished, 48)
    assert "connection" in finished.err, str(finished)


def test_a_killed_mariadb_costs_no_verdict(fleet: Fleet, tmp_path: Path) -> None:
    # Given
    with (
        EmbeddedMariaDB.start(tmp_path / "mariadb") as server,
        Outage(server.pid, tmp_path) as outage,
    ):
        project = make_project(tmp_path / "project", TESTS, settings=mariadb_settings(server))
        fleet.worker(slots=2)
        running = fleet.start(project)
        wait_for_records(fleet, running)
        # When
        outage.end(signal.SIGKILL)
        time.sleep(1.0)
        outage.start(lambda: mariadb(server).close())
        back = time.monotonic()
        finished = running.finish()
    # Then
    assert_all_passed(finished, 48)
    assert time.monotonic() - back < 10.0 + 16 * 3 * 0.1 / 2


def mariadb(server: EmbeddedMariaDB) -> Any:
    return MySQLdb.connect(
        host=server.host,
        port=server.port,
        user=server.admin,
        passwd=server.password,
        connect_timeout=3,
    )


def mariadb_settings(server: EmbeddedMariaDB) -> str:
    database = {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "shelf",
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
    }
    return f'DATABASES = {{"default": {database!r}}}\n'


@pytest.fixture
def small_disk(own_postgres: EmbeddedPostgres, outage: Outage) -> Iterator[Path]:
    """The server's data lies on a file system of 160 MB, of which little is taken.

    Needs the rights to mount one.
    """
    # Not in pytest's folder, which each new session closes to other accounts, the server's among
    # them.
    disk = Path(tempfile.mkdtemp(prefix="dct-disk-"))
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "none", str(disk)], check=False
    )
    if made.returncode:
        pytest.skip("no right to mount a file system")
    try:
        outage.end(signal.SIGINT)
        data = str(own_postgres.folder / "data")
        subprocess.run(["cp", "-a", data, str(disk / "data")], check=True)
        # A server that cannot write its log ends for good; that is the case of a restart.
        subprocess.run(["rm", "-r", str(disk / "data/pg_wal")], check=True)
        (disk / "data/pg_wal").symlink_to(f"{data}/pg_wal")
        outage.start(lambda: answers(own_postgres), swap={data: str(disk / "data")})
        yield disk
        outage.end(signal.SIGQUIT)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
        disk.rmdir()


def fill(disk: Path) -> Path:
    """To the last block."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    return ballast


def ours(server: EmbeddedPostgres) -> list[str]:
    """Databases of ours that are no templates."""
    with connect(server) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%' AND NOT datistemplate"
        ).fetchall()
    return [name for (name,) in rows]


def test_a_full_disk_costs_no_verdict_and_leaves_nothing(
    fleet: Fleet, tmp_path: Path, own_postgres: EmbeddedPostgres, small_disk: Path
) -> None:
    # Given
    tests = TESTS.replace("title=str(title)", "title=str(title) * 50").replace(
        "time.sleep(0.01)", "time.sleep(0.02)"
    )
    project = make_project(tmp_path / "project", tests, settings=postgres_settings(own_postgres))
    fleet.worker(slots=2)
    running = fleet.start(project)
    wait_for_records(fleet, running)
    # When
    ballast = fill(small_disk)
    time.sleep(3.0)
    ballast.unlink()
    finished = running.finish()
    # Then
    assert_all_passed(finished, 48)
    until(lambda: not ours(own_postgres), 20, what="the end of the last clone")


def test_a_disk_that_stays_full_ends_the_run_with_one_line(
    fleet: Fleet, tmp_path: Path, own_postgres: EmbeddedPostgres, small_disk: Path
) -> None:
    # Given
    project = make_project(tmp_path / "project", TESTS, settings=postgres_settings(own_postgres))
    fleet.worker(slots=2)
    fill(small_disk)
    # When
    finished = fleet.run(project)
    # Then
    assert finished.code == 7, str(finished)
    assert set(finished.outcomes().values()) == {"not_run"}
    assert "No space left on device" in finished.err
    (small_disk / "ballast").unlink()
    until(lambda: not ours(own_postgres), 20, what="the end of what was begun")


@contextlib.contextmanager
def cut(host: Host) -> Iterator[None]:
    """Packets to and from the host vanish silently, as with a pulled cable."""
    rules = [["INPUT", "-i", "eth0"], ["OUTPUT", "-o", "eth0"]]
    for rule in rules:
        subprocess.run(
            ["ip", "netns", "exec", host.namespace, "iptables", "-I", *rule, "-j", "DROP"],
            check=True,
        )
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(
                ["ip", "netns", "exec", host.namespace, "iptables", "-D", *rule, "-j", "DROP"],
                check=True,
            )


@pytest.fixture
def far_host() -> Iterator[Host]:
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(network(["dct-db"])).hosts[0]
        except (subprocess.CalledProcessError, FileNotFoundError):
            pytest.skip("no right to make a network namespace")


def test_a_server_that_vanishes_without_closing_connections_costs_no_verdict(
    fleet: Fleet, tmp_path: Path, own_postgres: EmbeddedPostgres, outage: Outage, far_host: Host
) -> None:
    # Given a test that would wait for an answer for a quarter of an hour, without a time limit
    outage.end(signal.SIGINT)
    own_postgres.host = far_host.address
    outage.start(
        lambda: answers(own_postgres),
        swap={"listen_addresses=127.0.0.1": "listen_addresses=*"},
        namespace=far_host.namespace,
    )
    project = make_project(tmp_path / "project", TESTS, settings=postgres_settings(own_postgres))
    fleet.worker(slots=2)
    running = fleet.start(project)
    wait_for_records(fleet, running)
    # When
    with cut(far_host):
        time.sleep(16.0)
    back = time.monotonic()
    finished = running.finish()
    # Then
    assert_all_passed(finished, 48)
    assert time.monotonic() - back < 10.0 + 16 * 3 * 0.1 / 2
    assert "to run again: database" in finished.err, str(finished)
    until(lambda: not ours(own_postgres), 20, what="the end of the last clone")


_VANDALS = """
    import time
    from django.db import connection
    from django.test import TestCase
    from shelf.models import Book

    class Slow(TestCase):
        def setUp(self):
            time.sleep(0.15)

    class A_Drops(Slow):
        def test_it(self):
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE shelf_book")

    class B_Forgets(Slow):
        def test_it(self):
            with connection.cursor() as cursor:
                cursor.execute("TRUNCATE django_migrations")

    class C_Adds(Slow):
        def test_it(self):
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE shelf_book ADD COLUMN shade integer")

    class Z_Reads(Slow):
        def test_it(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM django_migrations")
                self.assertGreater(cursor.fetchone()[0], 0)
                cursor.execute("SELECT * FROM shelf_book")
                self.assertEqual([column[0] for column in cursor.description], ["id", "title"])
"""


def test_ddl_that_no_rollback_undoes_does_not_reach_the_next_chunk_and_is_named(
    busy_fleet: Fleet, place: Path, mariadb_server: EmbeddedMariaDB
) -> None:
    # Given one slot, and a chunk for each class, once their durations are known
    project = make_project(place, _VANDALS, settings=mariadb_settings(mariadb_server))
    busy_fleet.run(project)
    # When
    finished = busy_fleet.run(project, "--chunk-seconds", "0.1")
    # Then
    assert_all_passed(finished, 4)
    changed = [(leak["kind"], leak["what"], leak["by"]) for leak in finished.json["leaks"]]
    assert changed == [
        ("schema", "default", "test_it.A_Drops.test_it"),
        ("schema", "default", "test_it.C_Adds.test_it"),
    ]
    assert "schema of database 'default' was changed by test_it.A_Drops" in finished.err
