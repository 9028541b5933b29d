"""A worker that gets no messages although some wait for it.

It notices and restarts its consumer, on either broker.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.projects import make_project, sleeping


@pytest.fixture(params=["redis", "rabbitmq"])
def either_fleet(
    request: pytest.FixtureRequest, tmp_path: Path, fleet_store: str
) -> Iterator[Fleet]:
    broker = request.getfixturevalue("rabbitmq_server").url if request.param == "rabbitmq" else ""
    with Fleet(tmp_path / "fleet", fleet_store, broker=broker) as fleet:
        yield fleet


def test_a_consumer_that_fell_silent_is_restarted_and_the_run_ends(
    either_fleet: Fleet, place: Path
) -> None:
    # Given a worker whose consumer ends silently at its first message
    worker = either_fleet.worker(
        app="tests.support.deaf_worker", PYTHONPATH=str(Path(__file__).parents[2])
    )
    # When
    finished = either_fleet.run(make_project(place, sleeping(4, 2, 0.1)), "--chunk-seconds", "0.2")
    # Then
    log = worker.log.read_text()
    print(f"the run took {finished.seconds:.1f} s")
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 8
    assert log.count("the consumer restarts") == 2, (
        log
    )  # the warning, and what Celery says of the reset
    assert worker.process.poll() is None
