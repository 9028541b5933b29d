"""Owns the projects that benchmarks generate: tests that do nothing, or only sleep."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.common import Project

_MANAGE = """import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench_settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
"""
_POSTGRES = """{
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["SUITE_DBNAME"],
    **{key: os.environ["SUITE_DB" + key] for key in ("HOST", "PORT", "USER", "PASSWORD")},
}"""
_SQLITE = '{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}'
KINDS = ("testcase", "testcase-sqlite", "simple")


def empty_suite(folder: Path, kind: str, classes: int, tests: int) -> Project:
    """A project of `classes` x `tests` empty tests, twenty classes to a module.

    `kind` is one of KINDS.
    """
    base = "SimpleTestCase" if kind == "simple" else "TestCase"
    bodies = "".join(f"    def test_{number}(self):\n        pass\n\n" for number in range(tests))
    modules = [range(start, min(start + 20, classes)) for start in range(0, classes, 20)]
    texts = [
        f"from django.test import {base}\n\n\n"
        + "\n".join(f"class Class{n}Tests({base}):\n{bodies}" for n in numbers)
        for numbers in modules
    ]
    return _project(folder, f"empty-{kind}", _POSTGRES if kind == "testcase" else _SQLITE, texts)


def transactional_suite(
    folder: Path, models: int, classes: int, tests: int, share: float
) -> Project:
    """A project of `models` tables and `classes` x `tests` tests that write rows.

    `share` of the classes are transactional.
    """
    lines = ["from django.db import models", ""]
    for number in range(models):
        foreign = f'models.ForeignKey("Model{number - 1}", models.CASCADE, null=True)'
        lines += [
            "",
            f"class Model{number}(models.Model):",
            "    name = models.CharField(max_length=50, db_index=True)",
        ]
        lines += [f"    parent = {foreign if number else 'models.IntegerField(null=True)'}", ""]
    transactional = round(classes * share)
    text = "from django.test import TestCase, TransactionTestCase\n\nfrom suite import models\n"
    for number in range(classes):
        base = "TransactionTestCase" if number < transactional else "TestCase"
        text += f"\n\nclass Class{number}Tests({base}):\n"
        for test in range(tests):
            model = f"models.Model{(number * tests + test) % models}"
            text += f'    def test_{test}(self):\n        {model}.objects.create(name="a")\n'
            text += f"        self.assertEqual({model}.objects.count(), 1)\n\n"
    project = _project(folder, "transactional", _POSTGRES, [text])
    settings = folder / "bench_settings.py"
    apps = '["django.contrib.contenttypes", "django.contrib.auth", "suite"]'
    settings.write_text(
        settings.read_text().replace('["suite"]', apps)
        + 'DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"\n'
    )
    (folder / "suite" / "models.py").write_text("\n".join(lines))
    return project


def sleeping_suite(folder: Path, classes: int, seconds: float) -> Project:
    """A project of `classes` classes, each with one test that sleeps."""
    text = "import time\n\nfrom django.test import SimpleTestCase\n"
    for number in range(classes):
        text += (
            f"\n\nclass Class{number}Tests(SimpleTestCase):\n    def test_sleep(self):\n       "
            f" time.sleep({seconds})\n"
        )
    return _project(folder, "sleeping", _SQLITE, [text])


def _project(folder: Path, name: str, database: str, modules: list[str]) -> Project:
    (folder / "suite").mkdir(parents=True)
    (folder / "manage.py").write_text(_MANAGE)
    (folder / "bench_settings.py").write_text(
        'import os\n\nSECRET_KEY = "bench"\nINSTALLED_APPS = ["suite"]\nUSE_TZ = True\nDATABASES ='
        f' {{"default": {database}}}\n'
    )
    (folder / "suite" / "__init__.py").touch()
    for number, text in enumerate(modules):
        (folder / "suite" / f"test_{number}.py").write_text(text)
    return Project(name, folder, sys.executable, forwarded=("SUITE_*",))
