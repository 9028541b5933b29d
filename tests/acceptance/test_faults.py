"""What breaks during a run costs time, never a verdict."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.acceptance.stream import wait_for_records
from tests.support.fleet import Fleet, child_pids, command_of, until
from tests.support.projects import make_project, postgres_settings

_TESTS = """
    import time
    from django.test import TestCase
    from shelf.models import Book
""" + "".join(
    f"""
    class Stored{number:02}(TestCase):
        def test_one(self):
            for title in range(8):
                Book.objects.create(title=str(title))
                time.sleep(0.02)
            self.assertEqual(Book.objects.count(), 8)
"""
    for number in range(30)
)


@pytest.fixture
def own_postgres(tmp_path: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres.start(tmp_path / "postgres")


def test_a_crash_of_the_database_server_costs_no_verdict(
    fleet: Fleet, tmp_path: Path, own_postgres: EmbeddedPostgres
) -> None:
    # Given
    with own_postgres as server:
        project = make_project(tmp_path / "project", _TESTS, settings=postgres_settings(server))
        fleet.worker(slots=2)
        running = fleet.start(project)
        wait_for_records(fleet, running)
        sessions = until_sessions(server)
        # When one of its processes dies, on which it ends all sessions and recovers
        os.kill(sessions[0], signal.SIGKILL)
        finished = running.finish()
    # Then
    assert finished.code == 0, str(finished)
    assert set(finished.outcomes().values()) == {"passed"}


def until_sessions(server: EmbeddedPostgres) -> list[int]:
    """Process ids of sessions on clones, once there are some."""

    def there() -> list[int]:
        return [pid for pid in child_pids(server.pid) if " test_" in command_of(pid)]

    until(there, what="a session on a clone")
    return there()
