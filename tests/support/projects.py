"""Small Django projects for acceptance tests.

A settings module, a few test files, SQLite in memory by default.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dct_celery.adapters.embedded import EmbeddedPostgres

_SETTINGS = """
    import os
    SECRET_KEY = "not a secret"
    INSTALLED_APPS = ["shelf"]
    USE_TZ = True
    DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""
_MODELS = """
    from django.db import models

    class Book(models.Model):
        title = models.CharField(max_length=100)
"""
_MIGRATION = """
    from django.db import migrations, models

    class Migration(migrations.Migration):
        operations = [
            migrations.CreateModel(
                "Book",
                [
                    ("id", models.AutoField(primary_key=True)),
                    ("title", models.CharField(max_length=100)),
                ],
            )
        ]
"""
#: Two classes: one with the database, one without.
PASSING = """
    from django.test import SimpleTestCase, TestCase
    from shelf.models import Book

    class Stored(TestCase):
        def test_one(self):
            Book.objects.create(title="one")
            self.assertEqual(Book.objects.count(), 1)

        def test_two(self):
            self.assertEqual(Book.objects.count(), 0)

    class Plain(SimpleTestCase):
        def test_three(self):
            self.assertTrue(True)
"""


def make_project(
    folder: Path,
    tests: str = PASSING,
    *,
    settings: str = "",
    files: Mapping[str, str] | None = None,
    options: str = "",
) -> Path:
    """Writes a project with one app `shelf`, settings `site_settings`, tests in `test_it.py`."""
    texts = {
        "pyproject.toml": f'[tool.dct]\nsettings = "site_settings"\n{options}\n',
        "site_settings.py": _dedent(_SETTINGS) + _dedent(settings),
        "shelf/__init__.py": "",
        "shelf/models.py": _MODELS,
        "shelf/migrations/__init__.py": "",
        "shelf/migrations/0001_initial.py": _MIGRATION,
        "test_it.py": tests,
        **(files or {}),
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_dedent(text))
    return folder


def _dedent(text: str) -> str:
    return textwrap.dedent(text.strip("\n")).rstrip() + "\n"


def postgres_settings(
    server: EmbeddedPostgres, *, user: str = "", password: str = "", port: int = 0
) -> str:
    """Settings text that puts the default database on this server."""
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shelf",
        "HOST": server.host,
        "PORT": port or server.port,
        "USER": user or server.user,
        "PASSWORD": password or server.password,
    }
    return f'DATABASES = {{"default": {database!r}}}\n'


def sleeping(classes: int, tests: int, seconds: float) -> str:
    """Test file with `classes` classes of `tests` tests that each take `seconds`."""
    body = "".join(f"    def test_{t}(self): time.sleep({seconds})\n" for t in range(tests))
    head = "import time\nfrom django.test import TestCase\n\n"
    return head + "\n".join(f"class Sleeps{c:02}(TestCase):\n{body}" for c in range(classes))
