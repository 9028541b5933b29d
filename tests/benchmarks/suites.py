"""Owns the suites that benchmarks run.

Public ones from a folder of the user's, and the project's own torture suite.

The public ones stand as NAME/venv (an environment with the suite's requirements) and NAME/src/*
(its unpacked sdist). What a run needs is copied into a folder of its own, settings included,
because workers get the code from there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.common import Project

HERE = Path(__file__).parent
DJANGO_LABELS = (
    "auth_tests",
    "admin_views",
    "queries",
    "model_forms",
    "forms_tests",
    "test_client",
    "transactions",
    "test_utils",
)
NAMES = ("django", "simple-history", "import-export", "torture")


def prepare(
    name: str,
    suites: Path | None,
    base: Path,
    labels: tuple[str, ...] = (),
    *,
    mariadb: bool = False,
) -> Project:
    """The suite as a project in a folder below `base`, on PostgreSQL or MariaDB.

    Raises SystemExit where it is not installed.
    """
    if name == "torture":
        project = _torture(base, labels)
        return replace(project, environment={"TORTURE_DB": "mysql"}) if mariadb else project
    if suites is None:
        raise SystemExit(f"--suites names the folder where the suite {name} is installed")
    make = {"django": _django, "simple-history": _simple_history, "import-export": _import_export}[
        name
    ]
    project = make(suites, base, labels)
    engine = {"SUITE_DBENGINE": f"django.db.backends.{'mysql' if mariadb else 'postgresql'}"}
    return replace(project, environment={**project.environment, **engine})


def _django(suites: Path, base: Path, labels: tuple[str, ...]) -> Project:
    folder = _copy(_source(suites / "django", "?jango-*") / "tests", base / "django-tests")
    shutil.copy(HERE / "django_settings" / "dct_django_settings.py", folder)
    labels = labels or DJANGO_LABELS
    return Project(
        "django", folder, _python(suites / "django"), labels, "dct_django_settings",
        {"DJANGO_SUITE_LABELS": " ".join(labels)}, ("SUITE_*",),
    )  # fmt: skip


def _simple_history(suites: Path, base: Path, labels: tuple[str, ...]) -> Project:
    home = suites / "simple-history"
    folder = _copy(_source(home, "django?simple?history-*"), base / "simple-history")
    (folder / "dct_suite_settings.py").write_text(
        "import runtests\n\nglobals().update(runtests.DEFAULT_SETTINGS)\n"
        + _databases("default", "other")
    )
    return Project(
        "simple-history",
        folder,
        _python(home),
        labels or ("simple_history.tests",),
        "dct_suite_settings",
        {},
        ("SUITE_*",),
    )


def _import_export(suites: Path, base: Path, labels: tuple[str, ...]) -> Project:
    home = suites / "django-import-export"
    root = _copy(_source(home, "django?import?export-*"), base / "import-export")
    folder = root / "tests"
    (folder / "dct_suite_settings.py").write_text(
        "from settings import *\n\nIMPORT_EXPORT_USE_TRANSACTIONS = True\n" + _databases("default")
    )
    # The root of the snapshot is the top of a checkout; the package lies beside the folder with the
    # tests.
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    environment = {"PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore"}
    return Project(
        "import-export",
        folder,
        _python(home),
        labels or ("core",),
        "dct_suite_settings",
        environment,
        ("SUITE_*",),
    )


def _torture(base: Path, labels: tuple[str, ...]) -> Project:
    folder = _copy(HERE.parent / "torture" / "project", base / "torture")
    return Project(
        "torture",
        folder,
        sys.executable,
        labels,
        None,
        {"TORTURE_DB": "pg"},
        ("TORTURE_*",),
        database_variables="TORTURE_DB",
    )


def _databases(*aliases: str) -> str:
    """Python text: DATABASES on the server that SUITE_DB* names."""
    return f"""
import os

DATABASES = {{
    alias: {{
        "ENGINE": os.environ["SUITE_DBENGINE"],
        "NAME": os.environ["SUITE_DBNAME"] + ("" if alias == "default" else "_" + alias),
        **{{key: os.environ["SUITE_DB" + key] for key in ("HOST", "PORT", "USER", "PASSWORD")}},
    }}
    for alias in {aliases!r}
}}
"""


def _source(home: Path, glob: str) -> Path:
    found = [path for path in (home / "src").glob(glob) if path.is_dir()]
    if not found:
        raise SystemExit(f"no source {glob} in {home / 'src'}")
    return found[0]


def _python(home: Path) -> str:
    return str(home / "venv" / "bin" / "python")


def _copy(source: Path, target: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".git")
    return Path(shutil.copytree(source, target, ignore=ignored, symlinks=True))
