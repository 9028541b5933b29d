"""Store and broker as a run and a worker meet them.

What is wrong is one line, soon, and its exit code says whether to retry.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support import strange_servers
from tests.support.fleet import Finished, Fleet, Worker, until, unused_port
from tests.support.projects import make_project, sleeping
from tests.support.rabbitmq import EmbeddedRabbitMQ
from tests.support.redis_server import RedisServer

#: Rights of store and broker on Redis, as docs/security.md has them.
LEAST = Path(__file__).parents[2] / "docs" / "security.md"


def dct(fleet: Fleet, command: str, **environment: str) -> Finished:
    """One of the commands that only read."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dct_celery.cli", *command.split()],
        env=fleet.environment(environment),
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - started, {})


def ended(worker: Worker, seconds: float = 15.0) -> tuple[int, list[str]]:
    """Exit code and log of a worker that ends by itself."""
    code = worker.wait(seconds)
    return code, worker.log.read_text(errors="replace").splitlines()


# -- where no retry helps ----------------------------------------------------------------


@pytest.mark.parametrize("variable", ["DCT_STORE", "DCT_BROKER"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("/5", "/xyz"), "has the database 'xyz', which is not a number"),
        (("/5", "/5?bogus=1"), "has the parameter bogus"),
        (("/5", "/5?socket_timeout=abc"), "has the parameter socket_timeout"),
        (("redis://", "memory://"), "give a URL that starts with redis://"),
        (("redis://", "sentinel://"), "give a URL that starts with redis://"),
        (("redis://", "rediss://"), "does not speak TLS at this port"),
        (("redis://:", "redis://:x"), "refuses the password"),
    ],
)
def test_a_worker_that_no_retry_would_help_ends_with_one_line(
    fleet: Fleet, variable: str, change: tuple[str, str], words: str
) -> None:
    # Given
    started = time.monotonic()
    # When
    servers: dict[str, Any] = {"DCT_BROKER": fleet.store, variable: fleet.store.replace(*change)}
    worker = fleet.worker(wait=False, **servers)
    code, lines = ended(worker)
    # Then
    assert code == 4, lines
    (line,) = [line for line in lines if line.startswith("dct: error: ")]
    assert words in line
    assert variable in line
    assert not any("Traceback" in line or "Unrecoverable" in line for line in lines), lines
    print(f"{time.monotonic() - started:.1f} s")


@pytest.mark.parametrize("flag", ["--store", "--broker"])
def test_tls_at_a_plain_port_ends_a_run_at_once_and_names_the_fix(
    fleet: Fleet, place: Path, flag: str
) -> None:
    # When
    finished = fleet.run(make_project(place), flag, fleet.store.replace("redis://", "rediss://"))
    # Then
    assert finished.code == 4, finished
    assert "does not speak TLS at this port" in finished.error
    assert finished.seconds < 10


def test_every_command_names_a_wrong_password_the_same_way(fleet: Fleet) -> None:
    wrong = fleet.store.replace("redis://:", "redis://:x")
    for command in ("workers", "status", "cancel run-xyz", "attach run-xyz"):
        finished = dct(fleet, command, DCT_STORE=wrong)
        assert finished.code == 4, finished
        assert "refuses the password" in finished.error


# -- where a retry may help --------------------------------------------------------------


@pytest.fixture
def lost(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server that is not there, in one of three ways."""
    if request.param == "closed":
        yield f"redis://127.0.0.1:{unused_port()}/0"
        return
    with getattr(strange_servers, request.param)() as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.mark.parametrize("lost", ["closed", "dropping", "silent"], indirect=True)
@pytest.mark.parametrize("variable", ["DCT_STORE", "DCT_BROKER"])
def test_a_worker_that_waits_for_a_server_can_be_stopped(
    fleet: Fleet, variable: str, lost: str
) -> None:
    # Given
    servers: dict[str, Any] = {"DCT_BROKER": fleet.store, variable: lost}
    worker = fleet.worker(wait=False, **servers)

    def waiting() -> bool:
        assert worker.process.poll() is None, worker.log.read_text()
        return "waiting for it" in worker.log.read_text()

    until(waiting, 20, what="the worker's waiting")
    time.sleep(3)
    # When
    started = time.monotonic()
    worker.terminate()
    worker.wait(20)
    # Then
    seconds = time.monotonic() - started
    print(f"{variable} {lost}: {seconds:.1f} s")
    assert seconds < 8
    assert "Unrecoverable" not in worker.log.read_text()


# -- another broker ----------------------------------------------------------------------


@pytest.fixture
def other_broker(request: pytest.FixtureRequest, fleet_store: str) -> str:
    if request.param == "rabbitmq":
        return str(request.getfixturevalue("rabbitmq_server").url)
    return f"{fleet_store.rpartition('/')[0]}/7"


@pytest.mark.parametrize("other_broker", ["another database", "rabbitmq"], indirect=True)
def test_workers_at_another_broker_end_a_run_within_seconds_and_are_named(
    fleet: Fleet, place: Path, other_broker: str
) -> None:
    # Given
    fleet.worker(DCT_BROKER=other_broker)
    until(lambda: fleet.registry.workers()[0].broker, 10, what="the worker's word about its broker")
    # When
    finished = fleet.run(make_project(place, sleeping(2, 1, 0.1)))
    # Then
    assert finished.code == 4, finished
    place_there, place_here = (url.rpartition("@")[2] for url in (other_broker, fleet.store))
    assert f"**@{place_there}" in finished.error
    assert f"**@{place_here}" in finished.error
    assert "DCT_BROKER" in finished.error
    print(f"{finished.seconds:.1f} s")
    # And
    looked = dct(fleet, "workers")
    assert "listens to another broker" in looked.out, looked
    doctor = dct(fleet, "doctor")
    assert "1 of 1 worker would get no message from this side" in doctor.out, doctor
    assert doctor.code == 4


def test_a_worker_of_another_broker_is_left_out_where_there_are_others(
    fleet: Fleet, place: Path
) -> None:
    # Given
    fleet.worker("build-a", DCT_BROKER=f"{fleet.store.rpartition('/')[0]}/7")
    fleet.worker("build-b")
    # When
    finished = fleet.run(make_project(place, sleeping(2, 1, 0.1)))
    # Then
    assert finished.code == 0, finished


def test_a_broker_that_lost_its_data_is_still_the_same_for_both_sides(
    tmp_path: Path, fleet_store: str, place: Path
) -> None:
    # Given
    with (
        RedisServer(tmp_path / "redis") as server,
        Fleet(tmp_path / "fleet", fleet_store, broker=server.url) as fleet,
    ):
        fleet.worker()
        until(
            lambda: fleet.registry.workers()[0].broker,
            10,
            what="the worker's word about its broker",
        )
        # When
        server.client().flushall()
        finished = fleet.run(make_project(place, sleeping(2, 1, 0.1)))
        # Then
        assert finished.code == 0, finished


# -- least rights ------------------------------------------------------------------------


def rights(name: str) -> list[str]:
    """The arguments of the line `ACL SETUSER name …` of the docs."""
    (line,) = [
        line for line in LEAST.read_text().splitlines() if line.startswith(f"ACL SETUSER {name} ")
    ]
    return line.split()[3:]


def test_a_user_with_the_least_rights_runs_a_suite_on_store_and_broker(
    tmp_path: Path, place: Path
) -> None:
    # Given
    with RedisServer(tmp_path / "redis") as server:
        words = [">word" if word.startswith(">") else word for word in rights("dct")]
        server.client().execute_command("ACL", "SETUSER", "dct", *words)
        url = f"redis://dct:word@127.0.0.1:{server.port}/0"
        with Fleet(tmp_path / "fleet", url) as fleet:
            worker = fleet.worker(slots=2)
            # When
            finished = fleet.run(make_project(place, sleeping(4, 2, 0.1)), "--chunk-seconds", "0.2")
            # Then
            assert finished.code == 0, finished
            assert dct(fleet, "workers").code == 0
            broker = [line for line in dct(fleet, "doctor").out.splitlines() if "broker" in line]
            assert broker[0].startswith("ok"), broker
            fleet.assert_tidy()
            log = server.client().execute_command("ACL", "LOG")
            assert log == [], log
            assert "NOPERM" not in worker.log.read_text()
            # And: nothing of other people's can be read or emptied
            with redis.Redis.from_url(url) as ours:
                for command in (
                    ("GET", "theirs"),
                    ("FLUSHALL",),
                    ("CONFIG", "GET", "*"),
                    ("KEYS", "*"),
                    ("PUBLISH", "x", "y"),
                ):
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        ours.execute_command(*command)


def test_a_user_of_rabbitmq_with_the_least_rights_runs_a_suite(
    tmp_path: Path, place: Path, fleet_store: str, rabbitmq_server: EmbeddedRabbitMQ
) -> None:
    # Given
    (line,) = [
        line
        for line in LEAST.read_text().splitlines()
        if line.startswith("rabbitmqctl set_permissions ")
    ]
    rabbitmq_server.ctl("add_user", "least", "word")
    rabbitmq_server.ctl("set_permissions", "least", *shlex.split(line)[5:])
    broker = f"amqp://least:word@{rabbitmq_server.url.rpartition('@')[2]}"
    with Fleet(tmp_path / "fleet", fleet_store, broker=broker) as fleet:
        worker = fleet.worker(slots=2)
        # When
        finished = fleet.run(make_project(place, sleeping(4, 2, 0.1)), "--chunk-seconds", "0.2")
        # Then
        assert finished.code == 0, finished
        broker_line = [line for line in dct(fleet, "doctor").out.splitlines() if "broker" in line]
        assert broker_line[0].startswith("ok"), broker_line
        fleet.assert_tidy()
        assert "ACCESS_REFUSED" not in worker.log.read_text()


@pytest.mark.parametrize("missing", ["-xadd", "-evalsha", "resetkeys ~other:*", "-brpop", "-hset"])
def test_a_missing_right_is_named_at_the_start(tmp_path: Path, place: Path, missing: str) -> None:
    # Given
    with RedisServer(tmp_path / "redis") as server:
        words = [">word" if word.startswith(">") else word for word in rights("dct")]
        server.client().execute_command("ACL", "SETUSER", "dct", *words, *missing.split())
        with Fleet(tmp_path / "fleet", f"redis://dct:word@127.0.0.1:{server.port}/0") as fleet:
            # When
            finished = fleet.run(make_project(place))
            code, lines = ended(fleet.worker(wait=False))
    # Then
    assert (finished.code, code) == (4, 4), (finished, lines)
    for line in (finished.error, *[line for line in lines if line.startswith("dct: error: ")]):
        assert (missing[1:].upper() if missing.startswith("-") else "dct:*") in line
        assert '"Least rights" in docs/security.md' in line
