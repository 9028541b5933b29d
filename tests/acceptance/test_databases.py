"""Templates and clones as a user of a fleet meets them.

The second run pays nothing, and errors are one line.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.support.fleet import Finished, Fleet, until
from tests.support.postgres import connect
from tests.support.projects import make_project, postgres_settings

_CHECKS = {
    "shelf/apps.py": (
        """
        import os
        from django.apps import AppConfig
        from django.core import checks

        class Shelf(AppConfig):
            name = "shelf"

            def ready(self):
                @checks.register
                def check(app_configs, **kwargs):
                    failing = os.environ.get("SHELF_FAILS")
                    return [checks.Error("the shelf leans", id="shelf.E1")] if failing else []
    """
    )
}


def on_postgres(server: EmbeddedPostgres, more: str = "") -> str:
    return f"{postgres_settings(server)}{more}\n"


def databases(server: EmbeddedPostgres) -> dict[str, str]:
    """Name -> comment of each of ours."""
    with connect(server) as connection:
        query = (
            "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database"
        )
        return {
            name: comment
            for name, comment in connection.execute(query).fetchall()
            if name.startswith("test_")
        }


def templates(finished: Finished) -> str:
    """How the one worker came by its templates."""
    (worker,) = finished.json["databases"]["workers"].values()
    return str(worker["templates"])


def test_the_second_run_uses_the_templates_of_the_first(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given a project that no other test has templates for
    settings = f"{on_postgres(postgres_server)}OWN = {place.name!r}\n"
    project = make_project(place, settings=settings)
    first = busy_fleet.run(project)
    # When
    second = busy_fleet.run(project)
    # Then
    assert (first.code, second.code) == (0, 0)
    assert [templates(first), templates(second)] == ["built", "reused"]


def test_create_db_rebuilds_the_templates(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    project = make_project(place, settings=on_postgres(postgres_server))
    busy_fleet.run(project)
    # When
    anew = busy_fleet.run(project, "--create-db")
    # Then
    assert anew.code == 0, str(anew)
    assert templates(anew) == "built"


@pytest.mark.parametrize("runs", [1, 2], ids=["built", "reused"])
def test_failing_system_checks_end_the_run_whether_or_not_the_template_was_there(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres, runs: int
) -> None:
    # Given
    project = make_project(
        place,
        settings=on_postgres(postgres_server, 'INSTALLED_APPS = ["shelf.apps.Shelf"]'),
        files=_CHECKS,
    )
    for _ in range(runs - 1):
        assert busy_fleet.run(project).code == 0
    # When
    failed = busy_fleet.run(project, "--env", "SHELF_*", SHELF_FAILS="1")
    # Then
    assert failed.code == 1, str(failed)
    assert "(shelf.E1) the shelf leans" in failed.err + failed.out
    assert not failed.inner_traceback


def test_a_failing_migration_ends_the_run_with_its_own_message(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    project = make_project(
        place,
        settings=on_postgres(postgres_server),
        files={
            "shelf/migrations/0002_broken.py": (
                """
                from django.db import migrations

                class Migration(migrations.Migration):
                    dependencies = [("shelf", "0001_initial")]
                    operations = [migrations.RunSQL("SELECT no_such_column FROM shelf_book")]
            """
            )
        },
    )
    busy_fleet.assert_tidy()
    before = set(databases(postgres_server))
    # When
    failed = busy_fleet.run(project)
    # Then
    assert failed.code == 1, str(failed)
    assert "no_such_column" in failed.err + failed.out
    assert set(databases(postgres_server)) == before


def test_a_killed_fleet_leaves_nothing_that_the_next_worker_does_not_collect(
    fleet: Fleet, tmp_path: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    tests = (
        "import time\nfrom django.test import TestCase\nclass Slow(TestCase):\n    def"
        " test_it(self):\n        time.sleep(60)\n"
    )
    project = make_project(tmp_path / "project", tests, settings=on_postgres(postgres_server))
    worker = fleet.worker()
    fleet.start(project)

    def made() -> set[str]:
        """A clone's name is noted before there is a database of that name."""
        return set(worker.clones()) & set(databases(postgres_server))

    def settled() -> bool:
        """A slot that takes a spare clone moves its note."""
        before = made()
        time.sleep(0.5)
        return bool(before) and made() == before

    until(settled, what="a clone")
    fleet.kill()
    left = made()
    assert left
    # When
    fleet.worker("build-b", DCT_WORK_DIR=str(worker.folder), DCT_DRAIN_SECONDS="0")
    # Then
    until(lambda: left.isdisjoint(databases(postgres_server)), 60, what=f"the end of {left}")


def test_a_role_that_may_not_create_databases_is_shown_the_statement(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    with connect(postgres_server) as connection:
        connection.execute("DROP ROLE IF EXISTS weak")
        connection.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'")
    database = 'DATABASES["default"] |= {"USER": "weak", "PASSWORD": "weak"}'
    project = make_project(place, settings=on_postgres(postgres_server, database))
    # When
    refused = busy_fleet.run(project)
    # Then
    assert refused.code == 4, str(refused)
    assert 'ALTER ROLE "weak" CREATEDB' in refused.out + refused.err


@pytest.mark.parametrize(
    ("settings", "flags", "words"),
    [
        ('DATABASES["default"]["NAME"] = "shop_production"', [], "shop_production"),
        ('DATABASES["default"]["TEST"] = {"NAME": DATABASES["default"]["NAME"]}', [], "TEST"),
        ("", ["--deny-db-host", "127.*"], "--deny-db-host"),
        ("", ["--deny-database", "shel*"], "shel"),
    ],
    ids=["production", "same-name", "denied-host", "denied-name"],
)
def test_what_looks_like_production_is_refused_before_anything_is_made(
    busy_fleet: Fleet,
    place: Path,
    postgres_server: EmbeddedPostgres,
    settings: str,
    flags: list[str],
    words: str,
) -> None:
    # Given
    project = make_project(place, settings=on_postgres(postgres_server, settings))
    before = set(databases(postgres_server))
    # When
    refused = busy_fleet.run(project, *flags)
    # Then
    assert refused.code == 4, str(refused)
    assert words in refused.error
    assert set(databases(postgres_server)) <= before


def test_a_name_can_be_allowed(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    project = make_project(
        place,
        settings=on_postgres(postgres_server, 'DATABASES["default"]["NAME"] = "shop_production"'),
    )
    # Then
    assert busy_fleet.run(project, "--allow-database", "shop_*").code == 0


def _engine(vendor: str = "") -> dict[str, str]:
    """A database backend of the project's own, on top of Django's for PostgreSQL."""
    said = f"    vendor = {vendor!r}\n" if vendor else ""
    backend = (
        "from django.db.backends.postgresql import base\n\n\nclass"
        f" DatabaseWrapper(base.DatabaseWrapper):\n    pass\n{said}"
    )
    return {"shelf/engine/__init__.py": "", "shelf/engine/base.py": backend}


def test_an_engine_of_the_projects_own_counts_as_its_vendor(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    settings = on_postgres(postgres_server, 'DATABASES["default"]["ENGINE"] = "shelf.engine"')
    project = make_project(place, settings=settings, files=_engine())
    # Then
    assert busy_fleet.run(project).code == 0


def test_a_vendor_that_cannot_be_cloned_is_refused_by_name(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    settings = on_postgres(postgres_server, 'DATABASES["default"]["ENGINE"] = "shelf.engine"')
    project = make_project(place, settings=settings, files=_engine("exotic"))
    # When
    refused = busy_fleet.run(project)
    # Then
    assert refused.code == 4, str(refused)
    assert "'exotic'" in refused.out + refused.err
    assert "--fallback sequential" in refused.out + refused.err
