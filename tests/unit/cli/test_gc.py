"""Claims about `dct gc`: a table of what became of each database, and an exit code that says
whether all went well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from dct_celery.cli import gc
from dct_celery.settings import Settings
from dct_celery.worker.databases import garbage_collector
from dct_celery.worker.databases.garbage_collector import Swept
from tests.unit.cli import roots

Wait = Callable[[int, int], object]
DROPPED = garbage_collector.Result(
    "test_orphan_1", "dropped", "its owner is gone: made by run a", 8_200_000
)
LEFT = garbage_collector.Result("test_x", "left", "carries no mark of ours")
DOUBTFUL = garbage_collector.Result(
    "test_y", "again", "may still be being built; will be checked again"
)
FAILED = garbage_collector.Result("test_z", "failed", "z is being accessed by other users")


class Root:
    """A composition root that gives the answers of the test."""

    def __init__(self) -> None:
        self.answer: list[Swept] = []
        self.settings: Settings | None = None
        self.dry_run: bool | None = None
        self.waits: list[tuple[int, int]] = []

    def collect_garbage(
        self, settings: Settings, origins: dict[str, str], *, dry_run: bool, wait: Wait
    ) -> list[Swept]:
        self.settings, self.dry_run = settings, dry_run
        for doubtful in self.waits:
            wait(*doubtful)
        return self.answer


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Root:
    root = Root()
    roots.replace_root(monkeypatch, tmp_path, collect_garbage=root.collect_garbage)
    return root


def run(*args: str) -> Result:
    return roots.run(gc.command, *args)


def test_each_database_is_a_row_with_its_reason(root: Root) -> None:
    # Given
    root.answer = [Swept("postgresql at db:5432", (DROPPED, LEFT, DOUBTFUL))]

    # When
    result = run()

    # Then
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "postgresql at db:5432:",
        "  test_orphan_1  dropped  8 MB  its owner is gone: made by run a",
        "  test_x         left        -  carries no mark of ours",
        "  test_y         left        -  may still be being built; will be checked again",
        "  1 dropped, 2 left",
    ]


def test_a_dry_run_says_would(root: Root) -> None:
    # Given
    root.answer = [Swept("db", (DROPPED,))]

    # When
    result = run("--dry-run")

    # Then
    assert root.dry_run is True
    assert "would drop" in result.stdout
    assert "dropped" not in result.stdout
    assert run("-n").stdout == result.stdout


def test_without_the_flag_it_is_for_real(root: Root) -> None:
    run()
    assert root.dry_run is False


@pytest.mark.parametrize(
    "swept", [Swept("db", (DROPPED, FAILED)), Swept("db", (), "cannot be reached")]
)
def test_what_could_not_be_done_is_exit_7(root: Root, swept: Swept) -> None:
    # Given
    root.answer = [Swept("other", (DROPPED,)), swept]

    # When
    result = run()

    # Then
    assert result.exit_code == 7
    assert "failed" in result.stdout


def test_the_second_check_is_announced_before_it_is_waited_for(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    root.waits = [(1, 16), (3, 16)]

    # When
    result = run()

    # Then
    assert slept == [16, 16]
    assert "1 database looks abandoned; checking again in 16 s" in result.stderr
    assert "3 databases look abandoned; checking again in 16 s" in result.stderr


def test_a_project_without_servers_gets_a_line(root: Root) -> None:
    assert "no database server" in run().stdout


def test_settings_come_from_every_place(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setenv("DCT_TEMPLATES_KEPT", "3")

    # When
    run("--settings", "a.b")

    # Then
    assert root.settings is not None
    assert (root.settings.settings, root.settings.templates_kept) == ("a.b", 3)
