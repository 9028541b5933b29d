"""The tools for users' tests, in Django's own test cases, on each vendor."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.concurrency_app import environment
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.projects import make_project

ROOT = Path(__file__).parents[2]
VENDORS = ("postgresql", "mariadb", "sqlite")


@pytest.fixture(scope="module")
def running(
    postgres_server: EmbeddedPostgres, mariadb_server: EmbeddedMariaDB
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """cases.py in a process for each vendor, all at the same time: they wait, mostly."""
    databases = {
        "postgresql": environment.server(
            "postgresql",
            postgres_server.host,
            postgres_server.port,
            postgres_server.user,
            postgres_server.password,
        ),
        "mariadb": environment.server(
            "mysql",
            mariadb_server.host,
            mariadb_server.port,
            mariadb_server.user,
            mariadb_server.password,
        ),
        "sqlite": environment.sqlite(),
    }
    with contextlib.ExitStack() as stack:
        processes = {vendor: stack.enter_context(_run(databases[vendor])) for vendor in VENDORS}
        yield processes


@contextlib.contextmanager
def _run(database: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.concurrency_app"],
        cwd=ROOT,
        env={**os.environ, environment.DATABASE_VARIABLE: json.dumps(database)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_claim_holds_on_each_vendor(
    running: dict[str, subprocess.Popen[str]], vendor: str
) -> None:
    # When
    output, _ = running[vendor].communicate(timeout=250)
    # Then
    assert running[vendor].returncode == 0, output
    count = re.search(r"^Ran (\d+) tests", output, re.MULTILINE)
    assert count is not None
    assert int(count[1]) >= 45


# -- docs/testing.md -------------------------------------------------------------------------------

SETTINGS = """
    DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}
    ROOT_URLCONF = "site_urls"
    MIDDLEWARE = []
"""
URLS = """
    from django.http import HttpResponse
    from django.urls import path
    urlpatterns = [path("hello/", lambda request: HttpResponse("hello"))]
"""


def test_the_examples_of_the_document_do_what_it_says(tmp_path: Path) -> None:
    # Given
    text = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL)
    expected = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert expected is not None
    files = {"site_urls.py": URLS, "tests/__init__.py": "", **dict(blocks)}
    migration = """
        from django.db import migrations, models

        class Migration(migrations.Migration):
            operations = [migrations.CreateModel("Account", [
                ("id", models.AutoField(primary_key=True)),
                ("balance", models.IntegerField(default=0)),
            ])]
    """
    files["shelf/migrations/0001_initial.py"] = textwrap.dedent(migration)
    project = make_project(tmp_path, "", settings=SETTINGS, files=files)
    # When
    done = subprocess.run(
        [sys.executable, "-m", "django", "test", "tests"],
        cwd=project,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "PYTHONPATH": f"{project}{os.pathsep}{ROOT}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # Then the one that is to fail fails, as shown
    assert "FAILED (failures=1)" in done.stderr, done.stderr
    assert "FAIL: test_withdraw (tests.test_account.AccountTest" in done.stderr
    assert expected[1] in done.stderr
