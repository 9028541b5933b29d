"""A dispatcher that dies and a store that forgets.

The run goes on, nothing is lost, nothing is there twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Finished, Fleet, Running, until
from tests.support.projects import make_project
from tests.support.redis_server import RedisServer

#: 60 tests in 30 classes, 6 s on one slot.
_TESTS = "import os, time, pathlib\nfrom django.test import SimpleTestCase\n" + "".join(
    f"""
class Case{number:02}(SimpleTestCase):
    def test_one(self):
        time.sleep(0.1)

    def test_two(self):
        with open(os.environ["LOG_OF_TESTS"], "a") as log:
            log.write("Case{number:02}\\n")
        time.sleep(0.1)
"""
    for number in range(30)
)


class Scene:
    """Two workers of one slot each on a store of their own.

    The project notes which tests ran.
    """

    def __init__(self, folder: Path, store: RedisServer) -> None:
        self.store = store
        self.folder = folder
        self.log = folder / "ran"
        self.fleet = Fleet(folder / "fleet", store.url)
        self.project = make_project(folder / folder.name, _TESTS)

    def workers(self) -> None:
        for name in ("build-a", "build-b"):
            self.fleet.worker(name, DCT_LEASE_SECONDS="4")

    def start(self, *flags: str, **environment: str) -> Running:
        running = self.fleet.start(
            self.project, "--env", "LOG_OF_TESTS", *flags, LOG_OF_TESTS=str(self.log), **environment
        )
        self.until_ran(8)
        return running

    def until_ran(self, count: int) -> None:
        until(
            lambda: self.log.exists() and len(self.log.read_text().splitlines()) >= count,
            what=f"{count} tests",
        )

    def owner(self, running: Running) -> Any:
        return self.fleet.client.hget(f"dct:{{{running.run}}}:run", "owner")

    def ran_twice(self) -> int:
        """How many tests ran more than once."""
        names = self.log.read_text().split()
        return len(names) - len(set(names))

    def finish(self, running: Running) -> Finished:
        finished = running.finish()
        assert finished.code == 0, f"{finished}\n" + "\n".join(
            worker.log.read_text()[-3000:] for worker in self.fleet.workers
        )
        assert len(finished.outcomes()) == 60
        assert set(finished.outcomes().values()) == {"passed"}
        return finished


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with RedisServer(tmp_path / "store") as store:
        scene = Scene(tmp_path, store)
        with scene.fleet:
            scene.workers()
            yield scene


def flush(scene: Scene) -> None:
    scene.store.client().flushall()


def restart(scene: Scene) -> None:
    scene.store.restart()


def fail_over_to_a_replica_that_lags(scene: Scene) -> None:
    """The replica stops to follow half a second before the primary goes, and takes its place."""
    port = scene.store.port
    with RedisServer(scene.folder / "replica", primary=port) as replica:
        replica.client().replicaof("NO", "ONE")
        scene.until_ran(16)
        scene.store.kill()
        replica.move_to(port)
        scene.store.adopt(replica)


@pytest.mark.parametrize("fault", [flush, restart, fail_over_to_a_replica_that_lags])
def test_a_store_that_loses_the_run_costs_no_verdict_and_next_to_no_work(
    scene: Scene, fault: Callable[[Scene], None]
) -> None:
    # Given
    running = scene.start()
    # When
    fault(scene)
    # Then
    finished = scene.finish(running)
    assert "the run goes on in it from the journal" in finished.err
    # What was claimed or ended in the moments that the store forgot may run again: a chunk per
    # slot.
    assert scene.ran_twice() <= 4
    scene.fleet.assert_tidy()


def test_a_dispatcher_that_was_killed_is_replaced_and_nothing_runs_again(scene: Scene) -> None:
    # Given
    report = scene.folder / "junit.xml"
    running = scene.start("--junit-xml", str(report))
    refused = scene.fleet.attach(running.run).finish()
    assert refused.code == 4
    assert "has its dispatcher, which is alive on this machine" in refused.error
    # When
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    attached = scene.fleet.attach(running.run)
    # Then
    finished = scene.finish(attached)
    assert scene.ran_twice() == 0
    assert "of 60 tests had their verdicts" in finished.out
    assert report.read_text().count("<testcase ") == 60
    scene.fleet.assert_tidy()


def test_a_run_survives_a_dead_dispatcher_and_an_emptied_store(scene: Scene) -> None:
    # Given
    running = scene.start()
    # When
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    flush(scene)
    without_values = scene.fleet.attach(running.run).finish()
    attached = scene.fleet.attach(running.run, LOG_OF_TESTS=str(scene.log))
    # Then: values of variables stood in the store alone
    assert without_values.code == 4
    assert without_values.error.endswith(
        "set these as they were when it began, and attach again: LOG_OF_TESTS"
    )
    scene.finish(attached)
    assert scene.ran_twice() <= 4


def test_another_machine_takes_a_run_over_from_the_store_alone(
    scene: Scene, tmp_path: Path
) -> None:
    # Given a dispatcher that sleeps for longer than its lease
    running = scene.start()
    os.kill(running.process.pid, signal.SIGSTOP)
    # When
    attached = scene.fleet.attach(running.run, XDG_STATE_HOME=str(tmp_path / "elsewhere"))
    owner = scene.owner(running)
    until(lambda: scene.owner(running) != owner, what="the adoption")
    os.kill(running.process.pid, signal.SIGCONT)
    # Then the first one leaves it alone when it wakes up
    woken = running.finish()
    assert woken.code == 7
    assert woken.error.endswith(
        "was adopted by another dispatcher (dct attach); this one leaves it alone"
    )
    finished = scene.finish(attached)
    assert "was alive a moment ago; waiting" in finished.out
    assert scene.ran_twice() == 0


def test_an_unknown_run_cannot_be_attached_to(scene: Scene) -> None:
    # When
    refused = scene.fleet.attach("nobody-knows").finish()
    # Then
    assert refused.code == 4
    assert (
        "run nobody-knows is not known, neither to the store nor to this machine's journals"
        in refused.error
    )
