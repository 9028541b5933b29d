"""The promise: verdicts, fixture events and exit code of the sequential run.

It holds however many slots and workers there are.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.support.compare import differences
from tests.support.fleet import Fleet
from tests.support.mariadb import EmbeddedMariaDB

PROJECT = Path(__file__).parents[1] / "torture" / "project"
ORACLE = PROJECT.parent / "oracle.py"
#: (slots, workers) of a run. Each vendor has one of them here, beside the pair of workers; with
#: TORTURE_ALL=1 it has all.
COMBINATIONS = [(1, 1), (4, 1), (2, 2)]
#: Words for manage.py, and the same for dct.
SELECTIONS: dict[str, tuple[list[str], list[str]]] = {
    "all": ([], []),
    "reversed": (["--reverse"], ["--reverse"]),
    "shuffled": (
        ["--shuffle=42", "--exclude-tag=no_shuffle"],
        ["--shuffle", "42", "--exclude-tag", "no_shuffle"],
    ),
    "buffered": (
        ["--buffer", "--exclude-tag=no_buffer"],
        ["--buffer", "--exclude-tag", "no_buffer"],
    ),
    "some": (["-k", "Order", "-k", "test_1"], ["-k", "Order", "-k", "test_1"]),
    "a label that does not exist": (["outcomes", "nosuch"], ["outcomes", "nosuch"]),
    "another runner": (
        ["--settings=torture.settings_runner", "runnerapp"],
        ["--settings", "torture.settings_runner", "runnerapp"],
    ),
}


def combinations(usual: tuple[int, int]) -> pytest.MarkDecorator:
    wanted = COMBINATIONS if os.environ.get("TORTURE_ALL") else [usual]
    return pytest.mark.parametrize(("slots", "workers"), wanted)


class Torture:
    """The project with its database settings; verdicts of each sequential run are taken once."""

    def __init__(self, folder: Path, environment: dict[str, Any]) -> None:
        self._folder = folder
        self.environment = environment

    @functools.cache  # noqa: B019 - one object per test session
    def sequential(self, selection: str) -> dict[str, Any]:
        out = self._folder / f"{selection}.json"
        inherited = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ
        }
        subprocess.run(
            [sys.executable, str(ORACLE), "--out", str(out), "--", *SELECTIONS[selection][0]],
            cwd=PROJECT,
            env={**inherited, **self.environment},
            check=False,
            capture_output=True,
            timeout=120,
        )
        return dict(json.loads(out.read_text()))


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Torture:
    return Torture(
        tmp_path_factory.mktemp("sqlite"), {"TORTURE_DB": "sqlite", "TORTURE_FIXED_PORT": "18714"}
    )


@pytest.fixture(scope="module")
def on_postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres
) -> Torture:
    server = postgres_server
    place = {
        "HOST": server.host,
        "PORT": str(server.port),
        "USER": server.user,
        "PASSWORD": server.password,
    }
    environment = {f"TORTURE_DB{name}": value for name, value in place.items()}
    return Torture(
        tmp_path_factory.mktemp("pg"),
        {"TORTURE_DB": "pg", "TORTURE_FIXED_PORT": "18715", **environment},
    )


@pytest.fixture(scope="module")
def on_mariadb(
    tmp_path_factory: pytest.TempPathFactory, mariadb_server: EmbeddedMariaDB
) -> Torture:
    server = mariadb_server
    place = {
        "HOST": server.host,
        "PORT": str(server.port),
        "USER": server.user,
        "PASSWORD": server.password,
    }
    environment = {f"TORTURE_DB{name}": value for name, value in place.items()}
    return Torture(
        tmp_path_factory.mktemp("mariadb"),
        {"TORTURE_DB": "mysql", "TORTURE_FIXED_PORT": "18716", **environment},
    )


def compare(
    torture: Torture, selection: str, tmp_path: Path, store: str, *, slots: int, workers: int
) -> list[str]:
    with Fleet(tmp_path / "fleet", store) as fleet:
        for number in range(workers):
            fleet.worker(f"build-{number}", slots=slots, **torture.environment)
        return compare_on(fleet, torture, selection)


def compare_on(fleet: Fleet, torture: Torture, selection: str) -> list[str]:
    finished = fleet.run(
        PROJECT, "--env", "TORTURE_*", *SELECTIONS[selection][1], **torture.environment
    )
    assert finished.json, finished
    fleet.assert_tidy()
    return differences(torture.sequential(selection), finished.json)


@combinations((4, 1))
def test_torture_on_postgresql_ends_as_the_sequential_run(
    on_postgres: Torture, tmp_path: Path, fleet_store: str, slots: int, workers: int
) -> None:
    # Given a sequential run / When the same tests run distributed / Then nothing differs
    assert compare(on_postgres, "all", tmp_path, fleet_store, slots=slots, workers=workers) == []


@combinations((2, 2))
def test_torture_on_mariadb_ends_as_the_sequential_run(
    on_mariadb: Torture, tmp_path: Path, fleet_store: str, slots: int, workers: int
) -> None:
    # Given a sequential run / When the same tests run distributed / Then nothing differs
    assert compare(on_mariadb, "all", tmp_path, fleet_store, slots=slots, workers=workers) == []


@combinations((1, 1))
def test_torture_on_sqlite_ends_as_the_sequential_run(
    on_sqlite: Torture, tmp_path: Path, fleet_store: str, slots: int, workers: int
) -> None:
    # Given a sequential run / When the same tests run distributed / Then nothing differs
    assert compare(on_sqlite, "all", tmp_path, fleet_store, slots=slots, workers=workers) == []


@pytest.mark.parametrize("selection", [*SELECTIONS, pytest.param("all", id="all again")])
def test_every_selection_and_order_ends_as_the_sequential_run(
    pair: Fleet, on_postgres: Torture, selection: str
) -> None:
    # Given a sequential run of a selection / When it runs on workers that may have run it before
    # Then nothing differs
    assert compare_on(pair, on_postgres, selection) == []


def test_the_comparison_sees_a_verdict_that_differs(on_sqlite: Torture) -> None:
    # Given the sequential verdicts
    sequential = on_sqlite.sequential("some")
    ours = json.loads(json.dumps(sequential))
    # When one of them is another
    ours["tests"][0]["outcome"] = "error" if ours["tests"][0]["outcome"] != "error" else "passed"
    # Then it is named
    assert sequential["tests"][0]["id"] in " ".join(differences(sequential, ours))
