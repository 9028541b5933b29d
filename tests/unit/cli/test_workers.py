"""Claims about `dct workers`: a row per worker with what it does, and a fix when none is
there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from dct_celery.cli.workers import command, table
from dct_celery.inspect.status import WorkerStatus
from dct_celery.ports import WorkerInfo
from dct_celery.protocol.workers import RunStage
from dct_celery.settings import Settings
from tests.unit.cli import roots

IDLE = WorkerInfo("build-a@h1", "h1", 12, "0.1.0", 2, "abc")
BUSY = replace(
    IDLE,
    name="b@h2",
    host="h2",
    slots=4,
    busy=3,
    runs={"two": RunStage.PREPARING, "one": RunStage.READY},
)
OLD = replace(IDLE, name="c@h3", host="h3", slots=1, version="0.0.9")


class Root:
    """A composition root that lists the workers of the test."""

    def __init__(self) -> None:
        self.seen: list[WorkerStatus] = []
        self.settings: Settings | None = None

    def status_of_workers(self, settings: Settings, origins: dict[str, str]) -> list[WorkerStatus]:
        self.settings = settings
        return self.seen


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Root:
    root = Root()
    roots.replace_root(monkeypatch, tmp_path, status_of_workers=root.status_of_workers)
    return root


def run(*args: str) -> Result:
    return roots.run(command, *args)


def test_each_worker_is_a_row_with_what_it_does(root: Root) -> None:
    # Given
    root.seen = [
        WorkerStatus(IDLE, ""),
        WorkerStatus(BUSY, ""),
        WorkerStatus(OLD, "runs 0.0.9: install the same"),
    ]

    # When
    result = run()

    # Then
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "WORKER      HOST  SLOTS  VERSION  STATE",
        "build-a@h1  h1       12  0.1.0    idle",
        "b@h2        h2        4  0.1.0    busy 3, one ready, two preparing",
        "c@h3        h3        1  0.0.9    runs 0.0.9: install the same",
        "3 workers with 17 slots in pool 'default', 3 busy",
    ]


@pytest.mark.parametrize(
    ("args", "start"),
    [
        ((), ": celery -A dct_celery worker"),
        (("--pool", "ci"), ": DCT_POOL=ci celery -A dct_celery worker"),
    ],
)
def test_an_empty_pool_says_how_to_start_a_worker(
    root: Root, args: tuple[str, ...], start: str
) -> None:
    # When
    result = run(*args)

    # Then
    assert result.exit_code == 0
    assert result.stdout.startswith("no worker is connected to pool ")
    assert result.stdout.endswith(f"{start}\n")


def test_json_has_every_worker(root: Root) -> None:
    # Given
    root.seen = [WorkerStatus(BUSY, "has another key")]

    # Then
    assert json.loads(run("--json", "--pool", "ci").stdout) == {
        "pool": "ci",
        "workers": [
            {
                "name": "b@h2", "host": "h2", "slots": 4, "busy": 3,
                "runs": {"two": "preparing", "one": "ready"},
                "version": "0.1.0", "protocol": 2, "obstacle": "has another key",
            }
        ],
    }  # fmt: skip


def test_store_and_pool_come_from_every_place(
    root: Root, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given
    (tmp_path / "pyproject.toml").write_text('[tool.dct]\npool = "from-file"\n')
    monkeypatch.setenv("DCT_STORE", "redis://from-variable/1")

    # When
    run()

    # Then
    assert root.settings is not None
    assert (root.settings.store, root.settings.pool) == ("redis://from-variable/1", "from-file")

    # When
    run("--store", "redis://from-flag/1", "--pool", "from-flag")

    # Then
    assert (root.settings.store, root.settings.pool) == ("redis://from-flag/1", "from-flag")


def test_foreign_bytes_in_the_store_move_no_cursor_and_show_no_secret() -> None:
    # When
    lines = list(table(("A", "B"), [("\x1b[2J\nredis://:hush@h", 1), ("plain", 22)]))

    # Then
    assert lines == ["A               B", "redis://:**@h   1", "plain          22"]
