"""Claims about `worker.databases.collector_thread`: how often a worker collects garbage, and
where.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dct_celery.core.databases.marks import Mark
from dct_celery.errors import ConfigError, DatabaseError
from dct_celery.ports import DatabaseSpec
from dct_celery.settings import Settings
from dct_celery.worker.databases.collector_thread import (
    EARLY_ROUNDS,
    EARLY_SECONDS,
    LATE_SECONDS,
    CollectorThread,
)
from dct_celery.worker.folders.work_folder import WorkFolder
from tests.support.fake_clock import FakeClock
from tests.support.memory_database import MemoryDatabases, MemoryServer


class Scene:
    """A worker that has used one server."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.world = FakeClock(), MemoryDatabases()
        self.looks: list[float] = []
        #: What each collection on the server raises.
        self.error: Exception | None = None
        services: Any = type("Services", (), {})()
        services.clock, services.folder, services.settings = (
            self.clock,
            WorkFolder(folder),
            Settings(),
        )
        services.server_for, services.resolve = self._server, lambda hosts: {}
        services.folder.remember_servers([DatabaseSpec("default", "postgresql", "shop", "db")])
        self.collecting = CollectorThread(services)

    def _server(self, spec: DatabaseSpec) -> MemoryServer:
        self.looks.append(self.clock.now - 1000.0)
        self.world.time = int(self.clock.wall())
        if self.error:
            raise self.error
        return MemoryServer(self.world)

    def run_for(self, seconds: float) -> None:
        self.clock.at(seconds, self.collecting.stop)
        self.collecting._loop()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_no_thread_runs_before_the_start(scene: Scene) -> None:
    assert scene.collecting._thread is None


def test_collections_are_frequent_at_first_and_then_rare(scene: Scene) -> None:
    # When
    scene.run_for(700.0)
    # Then
    assert EARLY_ROUNDS == 3
    assert scene.looks == [
        0.0,
        EARLY_SECONDS,
        2 * EARLY_SECONDS,
        40 + LATE_SECONDS,
        40 + 2 * LATE_SECONDS,
    ]


def test_a_run_that_begins_brings_the_next_collection_forward(scene: Scene) -> None:
    # Given
    scene.clock.at(100.0, scene.collecting.soon)
    # When
    scene.run_for(150.0)
    # Then
    assert scene.looks == [0.0, 20.0, 40.0, 100.0, 120.0, 140.0]


def test_what_a_dead_owner_left_is_dropped_once_it_was_found_dead_twice(scene: Scene) -> None:
    # Given
    name = "test_dct_x_0123456789abcdef_1"
    scene.world.put(name, Mark("clone", owner="dead"))
    seen: list[bool] = []
    scene.clock.at(10.0, lambda: seen.append(name in scene.world.databases))
    # When
    scene.run_for(30.0)
    # Then
    assert seen == [True]
    assert name not in scene.world.databases


@pytest.mark.parametrize(
    ("error", "warnings"),
    [(ConfigError("is denied"), 1), (DatabaseError("is away"), 0), (ZeroDivisionError(), 0)],
)
def test_a_server_that_cannot_be_asked_ends_nothing_and_a_refusal_is_reported_once(
    scene: Scene, caplog: pytest.LogCaptureFixture, error: Exception, warnings: int
) -> None:
    # Given
    scene.error = error
    # When
    scene.run_for(50.0)
    # Then
    assert len(scene.looks) == 3
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == warnings
