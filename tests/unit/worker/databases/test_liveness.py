"""Claims about `worker.databases.liveness`: a run's databases do not look abandoned while the
worker is busy.
"""

from __future__ import annotations

import pytest

from dct_celery.worker.databases.liveness import RENEW_SECONDS, LivenessLocks
from tests.support.fake_clock import FakeClock
from tests.support.memory_database import MemoryDatabases, MemoryServer


class Scene:
    def __init__(self) -> None:
        self.clock, self.world = FakeClock(0.0), MemoryDatabases()
        self.liveness = LivenessLocks(self.clock)
        self.liveness.give("default", MemoryServer(self.world).liveness_lock("owner"))

    def live_for(self, seconds: float) -> None:
        self.clock.at(seconds, self.liveness._stop.set)
        self.liveness._renew()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_no_thread_runs_before_the_start(scene: Scene) -> None:
    assert scene.liveness._thread.ident is None


def test_a_liveness_lock_is_renewed_every_ten_seconds(scene: Scene) -> None:
    # When
    scene.live_for(45.0)
    # Then
    assert scene.clock.waits == [RENEW_SECONDS] * 5


def test_a_server_that_is_away_does_not_keep_other_locks_from_being_renewed(scene: Scene) -> None:
    # Given
    other = MemoryDatabases()
    scene.liveness.give("other", MemoryServer(other).liveness_lock("owner"))
    scene.world.down = True
    other.time += 1000
    # When
    scene.live_for(15.0)
    # Then
    assert MemoryServer(other).alive(["owner"]) == {"owner"}


def test_a_closed_liveness_lock_is_gone_with_what_it_held(scene: Scene) -> None:
    # Given
    scene.liveness.hold("default", ["test_template"])
    server = MemoryServer(scene.world)
    assert server.in_use("test_template")
    # When
    scene.liveness.close()
    # Then
    assert not server.in_use("test_template")
    assert "default" not in scene.liveness
