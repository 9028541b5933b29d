"""The examples of docs/utilities.md, in a project of pytest, and the fixtures on each vendor."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dct_celery import errors, security
from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.contract.mysql import MysqlScene
from tests.contract.postgres import PostgresScene
from tests.support.projects import make_project, postgres_settings

DOC = (Path(__file__).parents[2] / "docs" / "utilities.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
CONFTEST = 'pytest_plugins = ["dct_celery.testing.fixtures"]\n'
#: What clones a template is to find there: a table, and nobody else.
USES_TEMPLATE = """
    import sqlite3
    import pytest
    from django.db import connection
    from dct_celery.databases import terminate_connections

    @pytest.mark.django_db
    def test_it_is_migrated_and_free(template_db):
        if connection.vendor == "sqlite":
            assert sqlite3.connect(template_db).execute("SELECT * FROM shelf_book").fetchall() == []
            return
        assert template_db.startswith("test_shelf_t")
        assert terminate_connections(template_db, connection.vendor) == 0
        with connection.cursor() as cursor:
            if connection.vendor == "mysql":
                cursor.execute(f"SELECT * FROM {template_db}.shelf_book")
"""


def run_pytest(project: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if "COV_" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-s"],
        cwd=project,
        env={**environment, "DJANGO_SETTINGS_MODULE": "site_settings"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_of_the_documentation_runs(
    postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    # Given the scripts as tests of a project `shop`, and the tests as they are
    conftest, tests = EXAMPLES[-2:]
    scripts = [
        f"@pytest.mark.django_db\ndef test_example_{number}():\n{textwrap.indent(text, '    ')}"
        for number, text in enumerate(EXAMPLES[:-2])
    ]
    settings = postgres_settings(postgres_server).replace("'shelf'", "'shop'")
    inner = make_project(
        tmp_path / "inner",
        files={
            "test_shop.py": """
                from django.test import SimpleTestCase
                class Shop(SimpleTestCase):
                    def test_one(self): pass
            """
        },
    )
    assert '"path/to/project"' in tests
    project = make_project(
        tmp_path / "shop",
        settings=settings,
        files={
            "conftest.py": conftest,
            "settings.py": "",
            "test_it.py": "import pytest\n\n" + "\n".join(scripts),
            "test_tools.py": tests.replace('"path/to/project"', repr(str(inner))),
        },
    )
    # When
    said = run_pytest(project)
    # Then
    assert f"{len(scripts) + 3} passed" in said
    assert "NAME 'shop_production' looks like production (the word 'production')" in said
    assert re.search(r"Slots: \d+ \(\d+ (of \d+ )?slots?: ", said)
    assert "Active connections: " in said


def test_a_template_of_sqlite_is_migrated(tmp_path: Path) -> None:
    project = make_project(tmp_path, USES_TEMPLATE, files={"conftest.py": CONFTEST})
    assert "1 passed" in run_pytest(project)


@pytest.mark.parametrize("vendor", ["postgres", "mariadb"])
def test_a_template_is_migrated_free_and_gone_in_the_end(
    vendor: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # Given
    make = PostgresScene if vendor == "postgres" else MysqlScene
    with make(request.getfixturevalue(f"{vendor}_server")) as scene:
        spec = scene.spec
        database = {
            "ENGINE": f"django.db.backends.{spec.vendor}", "NAME": "shelf", "HOST": spec.host,
            "PORT": spec.port, "USER": spec.user, "PASSWORD": spec.password,
        }  # fmt: skip
        settings = f"DATABASES = {{'default': {database!r}}}"
        project = make_project(
            tmp_path, USES_TEMPLATE, settings=settings, files={"conftest.py": CONFTEST}
        )
        # When
        assert "1 passed" in run_pytest(project)
        # Then
        with contextlib.closing(scene.server()) as server:
            left = {found.name for found in server.found()}
        assert not {name for name in left if name.startswith("test_shelf")}


def test_the_table_of_old_names_has_every_public_name() -> None:
    # Given
    table = DOC.partition("## Old names")[2]
    old = [name for name in vars(errors) if name.endswith("Exception")]
    # When / Then
    assert len(old) > 8
    for name in (*security.__all__, *old, "WorkerTimeout", "UnsupportedDatabase"):
        assert name in table
    databases = ("terminate_connections", "get_connection_pool_stats", "wait_for_database_ready")
    for name in (*databases, "template_db", "concurrent_runner", "sample_timings", "timing_file"):
        assert name in table
