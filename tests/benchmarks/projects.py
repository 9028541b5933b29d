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
    """A project of `classes` x `tests` empty tests, twenty classes to a module; `kind` is one of KINDS."""
    base = "SimpleTestCase" if kind == "simple" else "TestCase"
    bodies = "".join(f"    def test_{number}(self):\n        pass\n\n" for number in range(tests))
    modules = [range(start, min(start + 20, classes)) for start in range(0, classes, 20)]
    texts = [
        f"from django.test import {base}\n\n\n" + "\n".join(f"class Class{n}Tests({base}):\n{bodies}" for n in numbers)
        for numbers in modules
    ]
    return _project(folder, f"empty-{kind}", _POSTGRES if kind == "testcase" else _SQLITE, texts)


def sleeping_suite(folder: Path, classes: int, seconds: float) -> Project:
    """A project of `classes` classes, each with one test that sleeps."""
    text = "import time\n\nfrom django.test import SimpleTestCase\n"
    for number in range(classes):
        text += f"\n\nclass Class{number}Tests(SimpleTestCase):\n    def test_sleep(self):\n        time.sleep({seconds})\n"
    return _project(folder, "sleeping", _SQLITE, [text])


def _project(folder: Path, name: str, database: str, modules: list[str]) -> Project:
    (folder / "suite").mkdir(parents=True)
    (folder / "manage.py").write_text(_MANAGE)
    (folder / "bench_settings.py").write_text(
        f'import os\n\nSECRET_KEY = "bench"\nINSTALLED_APPS = ["suite"]\nUSE_TZ = True\nDATABASES = {{"default": {database}}}\n'
    )
    (folder / "suite" / "__init__.py").touch()
    for number, text in enumerate(modules):
        (folder / "suite" / f"test_{number}.py").write_text(text)
    return Project(name, folder, sys.executable, forwarded=("SUITE_*",))
