"""Fixtures of pytest for the tests of a project's own tools. In the topmost conftest.py:

    pytest_plugins = ["dct_celery.testing.fixtures"]

See docs/utilities.md. `template_db` wants pytest-django.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dct_celery.core.databases.names import MAX_BYTES

if TYPE_CHECKING:
    from dct_celery.core.model import RunReport

_SLOTS = 2
#: Any moment: what is compared with files must not change.
_WHEN = 1_700_000_000.0


@pytest.fixture(scope="session")
def template_db(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a copy of the test database of `default`, made once and dropped in the end.

    It is as the test database was when it was first asked for: migrated, as a rule. Nothing is
    connected to it, so that it can be cloned. Of SQLite it is the path of a file.
    """
    request.getfixturevalue("django_db_setup")
    unblocked = request.getfixturevalue("django_db_blocker").unblock
    from django.db import connection

    creation: Any = connection.creation
    if connection.vendor == "sqlite":
        name = str(tmp_path_factory.mktemp("template") / "template.sqlite3")
        with unblocked(), contextlib.closing(sqlite3.connect(name)) as copy:
            connection.ensure_connection()
            connection.connection.backup(copy)
        yield name
        return
    suffix = f"t{secrets.token_hex(3)}"
    name = creation.get_test_db_clone_settings(suffix)["NAME"]
    if len(name) > MAX_BYTES:
        pytest.fail(f"{name!r} is longer than {MAX_BYTES} bytes: give TEST a shorter NAME")
    with unblocked():
        creation.clone_test_db(suffix, verbosity=0)
    yield name
    with unblocked():
        creation._destroy_test_db(name, 0)


class ConcurrentRunner:
    """Runs tests of a project on slots of this machine, as `dct run --local` does."""

    #: Of the last run, with a verdict for every test.
    report: RunReport | None = None

    def run_tests(
        self,
        test_labels: str | Iterable[str] = (),
        project_dir: str | os.PathLike[str] = ".",
        **settings: object,
    ) -> int:
        """Runs them and returns the exit code, 0 if all passed.

        `settings`: by the names of `dct config`, with underscores. Raises DctError, as
        `dct_celery.api.run`.
        """
        from dct_celery import api

        given = {"local": _SLOTS, **settings, "labels": test_labels}
        loaded, origins = api.load_with_origins(project_dir, **given)
        self.report = api.run(loaded, origins=origins)
        return self.report.exit_code


@pytest.fixture
def concurrent_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConcurrentRunner:
    """A runner on two slots of this machine. It keeps what it writes in folders of this test.

    It wants `dct_celery[embedded]`, as `dct run --local`.
    """
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return ConcurrentRunner()


@pytest.fixture
def sample_timings() -> dict[str, dict[str, Any]]:
    """Timings of four tests, as django-concurrent-test wrote them: fast, slow, failed and skipped.

    `duration` and `timestamp` are seconds.
    """
    durations = {
        "shop.tests.test_cart.CartTests.test_total": (0.02, "passed"),
        "shop.tests.test_cart.CartTests.test_discount": (1.5, "failed"),
        "shop.tests.test_search.SearchTests.test_index": (7.25, "passed"),
        "shop.tests.test_search.SearchTests.test_typos": (0.0, "skipped"),
    }
    return {
        name: {"duration": seconds, "status": status, "timestamp": _WHEN}
        for name, (seconds, status) in durations.items()
    }


@pytest.fixture
def timing_file(tmp_path: Path, sample_timings: dict[str, dict[str, Any]]) -> Path:
    """A file `test_timings.json` with `sample_timings`."""
    path = tmp_path / "test_timings.json"
    path.write_text(json.dumps(sample_timings, indent=2) + "\n", encoding="utf-8")
    return path
