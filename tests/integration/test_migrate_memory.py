"""What migrating leaves in memory is there when the first test begins, as in the sequential run."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.wire import messages
from tests.support.loaders import LoaderProcess, loader
from tests.support.postgres import connect
from tests.support.projects import make_project, postgres_settings

#: Receivers that write rows, and remember their keys.
APPS = """
    from django.apps import AppConfig
    from django.db.models.signals import post_migrate, pre_migrate

    SHELVES = {}
    SEEN = []

    def begin(sender, using, **options):
        SEEN.append(("pre_migrate", using))

    def fill(sender, using, **options):
        from shelf.models import Book
        SEEN.append(("post_migrate", using))
        for title in ("tea", "salt"):
            Book.objects.using(using).get_or_create(title=title)
        SHELVES.update({book.title: book.pk for book in Book.objects.using(using).all()})

    class ShelfConfig(AppConfig):
        name = "shelf"

        def ready(self):
            pre_migrate.connect(begin, sender=self)
            post_migrate.connect(fill, sender=self)
"""
TESTS = """
    import json, os
    from django.db import connection
    from django.test import TestCase, TransactionTestCase
    from shelf import apps
    from shelf.models import Book

    class Known:
        def test_known(self):
            rows = {book.title: book.pk for book in Book.objects.all()}
            with open(os.environ["OUT"], "a") as out:
                row = [type(self).__name__, apps.SEEN, apps.SHELVES == rows]
                out.write(json.dumps(row) + "\\n")

    class A(Known, TestCase): pass
    class B(Known, TransactionTestCase): pass
    class C(Known, TransactionTestCase): pass
"""
RECEIVERS = {"shelf/apps.py": APPS}
INSTALLED = 'INSTALLED_APPS = ["shelf.apps.ShelfConfig"]\n'


@pytest.fixture
def mine(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The name that databases of this test begin with; they are dropped after it."""
    name = f"test_mem_{secrets.token_hex(4)}"
    yield name
    with connect(postgres_server) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{name}%",)
        ).fetchall()
        for (found,) in rows:
            connection.execute(f'DROP DATABASE IF EXISTS "{found}" WITH (FORCE)'.encode())


def clone(server: EmbeddedPostgres, template: str, name: str) -> str:
    with connect(server) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    return name


def build(process: LoaderProcess, server: EmbeddedPostgres, name: str) -> None:
    answer = process.ask(messages.Build({"default": name}), messages.Built)
    assert isinstance(answer, messages.Built), answer


def migrate_again(process: LoaderProcess, name: str) -> messages.Message | None:
    process.process.send(messages.MigrateAgain({"default": name}))
    return process.process.receive(60)


def run_in_a_fork(process: LoaderProcess, attach: messages.Attach, *indices: int) -> None:
    with process.fork() as fork:
        attached = fork.ask(attach, messages.Attached, 60)
        assert isinstance(attached, messages.Attached), attached
        fork.send(messages.RunChunk("c", list(indices)))
        while not isinstance(answer := fork.receive(30), messages.ChunkFinished):
            assert answer is not None
            if isinstance(answer, messages.TestFinished):
                assert answer.failures == (), answer


def lines(out: Path) -> list[Any]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def sequential(project: Path, out: Path) -> list[Any]:
    subprocess.run(
        [sys.executable, "-m", "django", "test", "--settings=site_settings", "--noinput"],
        cwd=project,
        env={**os.environ, "OUT": str(out), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        capture_output=True,
    )
    return lines(out)


def test_receivers_of_the_project_have_run_in_memory_before_the_loader_forks(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mine: str
) -> None:
    # Given
    settings = INSTALLED + postgres_settings(postgres_server).replace("'shelf'", f"{mine!r}")
    project = make_project(tmp_path / "project", TESTS, settings=settings, files=RECEIVERS)
    stock = sequential(project, tmp_path / "stock")
    assert [(name, same) for name, _, same in stock] == [("A", True), ("B", True), ("C", True)]
    out = tmp_path / "ours"
    with loader(project, tmp_path / "loader", variables={"OUT": str(out)}) as process:
        assert process.loaded.receivers == ["shelf.apps.begin", "shelf.apps.fill"]
        assert process.loaded.databases[0]["late_flush"]
        build(process, postgres_server, mine)
        # When
        scratch = clone(postgres_server, mine, f"{mine}_scratch")
        assert isinstance(migrate_again(process, scratch), messages.MigratedAgain)
        with connect(postgres_server) as connection:  # nobody holds it any more
            connection.execute(f'DROP DATABASE "{scratch}"'.encode())
        pristine = clone(postgres_server, mine, f"{mine}_1")
        run_in_a_fork(process, messages.Attach({"default": pristine}, {}), 0, 1)
        other = clone(postgres_server, mine, f"{mine}_2")
        run_in_a_fork(process, messages.Attach({"default": other}, {}, ["default"]), 2)
    # Then each fork has seen what the sequential process had seen when its class began
    assert lines(out)[:2] == stock[:2]
    name, seen, same = lines(out)[2]
    assert (name, same) == ("C", True)
    assert seen == stock[2][1][: len(seen)]


def test_a_database_in_memory_has_its_receivers_too(tmp_path: Path) -> None:
    # Given
    project = make_project(tmp_path / "project", TESTS, settings=INSTALLED, files=RECEIVERS)
    stock = sequential(project, tmp_path / "stock")
    template, out = tmp_path / "template", tmp_path / "ours"
    with loader(project, tmp_path / "loader", variables={"OUT": str(out)}) as process:
        answer = process.ask(messages.Build({"default": str(template)}), messages.Built)
        assert isinstance(answer, messages.Built), answer
        # When
        answered = migrate_again(process, str(template))
        assert isinstance(answered, messages.MigratedAgain), answered
        run_in_a_fork(process, messages.Attach({"default": str(template)}, {}), 0, 1)
    # Then
    assert lines(out) == stock[:2]


def test_a_receiver_that_cannot_run_twice_is_the_answer_and_the_loader_goes_on(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mine: str
) -> None:
    # Given
    apps = APPS.replace("get_or_create(title=title)", "create(pk=len(title), title=title)")
    project = make_project(
        tmp_path / "project", TESTS, settings=INSTALLED + postgres_settings(postgres_server),
        files={"shelf/apps.py": apps},
    )  # fmt: skip
    with loader(project, tmp_path / "loader") as process:
        build(process, postgres_server, mine)
        # When
        answer = migrate_again(process, clone(postgres_server, mine, f"{mine}_1"))
        # Then
        assert isinstance(answer, messages.Fatal), answer
        assert answer.reason == "template"
        assert "IntegrityError" in answer.message
        attached = process.ask(messages.Attach({"default": f"{mine}_1"}, {}), messages.Attached)
        assert isinstance(attached, messages.Attached), attached


CONTENT_TYPES = """
    import json, os
    from django.contrib.contenttypes.models import ContentType
    from django.test import TestCase, TransactionTestCase

    class Cached:
        def test_cached(self):
            cache = ContentType.objects._cache.get("default", {})
            kept = {key[1]: kept.pk for key, kept in cache.items() if isinstance(key, tuple)}
            rows = dict(ContentType.objects.values_list("model", "pk"))
            with open(os.environ["OUT"], "a") as out:
                true = all(rows[name] == pk for name, pk in kept.items())
                out.write(json.dumps([type(self).__name__, sorted(kept), true]) + "\\n")

    class A(Cached, TestCase): pass
    class B(Cached, TransactionTestCase): pass
    class C(Cached, TransactionTestCase): pass
"""


def test_content_types_are_cached_as_the_sequential_run_has_them(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mine: str
) -> None:
    # Given a project where only Django listens
    settings = (
        'INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shelf"]\n'
        + postgres_settings(postgres_server).replace("'shelf'", f"{mine!r}")
    )
    project = make_project(tmp_path / "project", CONTENT_TYPES, settings=settings)
    stock = sequential(project, tmp_path / "stock")
    assert stock == [["A", [], True], ["B", [], True], ["C", ["book"], True]]
    out = tmp_path / "ours"
    with loader(project, tmp_path / "loader", variables={"OUT": str(out)}) as process:
        assert process.loaded.receivers == []
        assert not process.loaded.databases[0]["late_flush"]
        build(process, postgres_server, mine)
        flushed = clone(postgres_server, mine, f"{mine}_flushed")
        answer = process.ask(messages.Flush({"default": flushed}, ["default"]), messages.Flushed)
        assert isinstance(answer, messages.Flushed), answer
        # When
        pristine = clone(postgres_server, mine, f"{mine}_1")
        run_in_a_fork(process, messages.Attach({"default": pristine}, {}), 0, 1)
        attach = messages.Attach({"default": flushed}, {}, flushed=["default"])
        run_in_a_fork(process, attach, 2)
    # Then
    assert lines(out) == stock


HSTORE = """
    import os
    from django.db import connection
    from django.test import TestCase
    from shelf.models import Book

    class Typed(TestCase):
        def test_typed(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 'a=>1'::hstore")
                self.assertEqual(cursor.fetchone()[0], {"a": "1"})
"""
HSTORE_MIGRATION = """
    from django.contrib.postgres.operations import HStoreExtension
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shelf", "0001_initial")]
        operations = [HStoreExtension()]
"""


def test_types_of_a_database_that_was_asked_before_are_forgotten(
    postgres_server: EmbeddedPostgres, tmp_path: Path, mine: str
) -> None:
    # Given a configured database without hstore, which the project asks while it is imported
    with connect(postgres_server) as connection:
        known = connection.execute(
            "SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'"
        ).fetchall()
        if not known:
            pytest.skip("this PostgreSQL has no hstore")
        connection.execute(f'CREATE DATABASE "{mine}"'.encode())
    settings = 'INSTALLED_APPS = ["django.contrib.postgres", "shelf"]\n' + postgres_settings(
        postgres_server
    ).replace("'shelf'", f"{mine!r}")
    tests = "from django.db import connection\nconnection.ensure_connection()\n" + "\n".join(
        line[4:] for line in HSTORE.splitlines()
    )
    project = make_project(
        tmp_path / "project", tests, settings=settings,
        files={"shelf/migrations/0002_hstore.py": HSTORE_MIGRATION},
    )  # fmt: skip
    (tmp_path / "stock").touch()
    sequential(project, tmp_path / "stock")
    with loader(project, tmp_path / "loader") as process:
        build(process, postgres_server, f"{mine}_t")
        # When / Then it passes
        run_in_a_fork(process, messages.Attach({"default": f"{mine}_t"}, {}), 0)
