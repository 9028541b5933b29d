"""What happens to a run while it goes on.

Workers come and go, the user interrupts, tests misbehave.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.acceptance.stream import Journalled, journalled
from tests.support.fleet import Fleet, Running, Worker, command_of, until
from tests.support.projects import PASSING, make_project, postgres_settings, sleeping

OursGone = Callable[[], list[str]]


def events_of(fleet: Fleet, running: Running, kind: str, worker: str = "") -> list[Journalled]:
    """The events of one kind that the dispatcher has seen, of one worker or of all."""
    journal = fleet.folder / "state" / "dct_celery" / "runs" / f"{running.run}.jsonl"
    return [
        entry
        for entry in journalled(journal)
        if entry.kind == kind and entry.worker.startswith(worker)
    ]


def wait_for_claim(fleet: Fleet, running: Running, worker: str = "") -> float:
    def seen() -> bool:
        assert running.process.poll() is None, running.finish()
        return bool(events_of(fleet, running, "claimed", worker))

    return until(seen, what=f"a claim of {worker or 'any worker'}")


def chunks_of(report: dict[str, Any], worker: str) -> int:
    return sum(
        slot["chunks"] for slot in report["slots"] if slot["worker"].startswith(f"{worker}@")
    )


def cases(path: Path) -> list[str]:
    root = ElementTree.parse(path).getroot()
    return [f"{case.get('classname')}.{case.get('name')}" for case in root.iter("testcase")]


# -- workers come and go ---------------------------------------------------------------


def test_a_worker_that_joins_mid_run_takes_work_at_once(fleet: Fleet, place: Path) -> None:
    # Given
    fleet.worker("build-a")
    running = fleet.start(make_project(place, sleeping(16, 2, 0.3)), "--chunk-seconds", "0.6")
    wait_for_claim(fleet, running)
    # When
    fleet.worker("build-b")
    seconds = wait_for_claim(fleet, running, "build-b")
    # Then
    finished = running.finish()
    print(f"from registration to the first claim: {seconds:.2f} s")
    assert finished.code == 0, finished
    assert seconds < 5, "2 s is the aim; the rest is for a busy machine"
    assert chunks_of(finished.json, "build-b") >= 1
    assert list(finished.outcomes().values()) == ["passed"] * 32
    fleet.assert_tidy()


def test_a_worker_that_is_stopped_drains_and_the_run_goes_on_elsewhere(
    fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres, our_databases: OursGone
) -> None:
    # Given
    leaving, staying = fleet.worker("build-a"), fleet.worker("build-b")
    project = make_project(place, sleeping(18, 2, 0.3), settings=postgres_settings(postgres_server))
    running = fleet.start(project, "--chunk-seconds", "0.6")
    wait_for_claim(fleet, running, "build-a")
    # When
    leaving.terminate()
    start = time.monotonic()
    code = leaving.wait()
    print(f"gone after {time.monotonic() - start:.2f} s")
    mid_run = running.process.poll() is None
    # Then
    assert code == 0
    assert mid_run, "the worker went while the run went on"
    assert leaving.run_folders() == []
    assert not [info.name for info in fleet.registry.workers() if info.name.startswith("build-a@")]
    finished = running.finish()
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 36
    assert staying.process.poll() is None
    fleet.assert_tidy()
    until(lambda: not our_databases(), 10, what="no database of ours")


def test_a_worker_that_may_not_drain_gives_its_chunk_back(fleet: Fleet, place: Path) -> None:
    # Given
    leaving, _ = fleet.worker("build-a", DCT_DRAIN_SECONDS="0"), fleet.worker("build-b")
    running = fleet.start(make_project(place, sleeping(4, 3, 0.4)), "--chunk-seconds", "30")
    wait_for_claim(fleet, running, "build-a")
    # When
    leaving.terminate()
    start = time.monotonic()
    leaving.wait()
    # Then
    print(f"gone after {time.monotonic() - start:.2f} s")
    finished = running.finish()
    assert finished.code == 0, finished
    assert [event.data["why"] for event in events_of(fleet, running, "released", "build-a")] == [
        "drain"
    ]
    assert list(finished.outcomes().values()) == ["passed"] * 12
    fleet.assert_tidy()


def test_a_pool_child_that_is_killed_mid_chunk_costs_no_verdict(fleet: Fleet, place: Path) -> None:
    # Given
    worker = fleet.worker(slots=2, DCT_LEASE_SECONDS="2")
    running = fleet.start(make_project(place, sleeping(8, 2, 0.4)))
    wait_for_claim(fleet, running)
    # When
    until(lambda: worker.clones(), what="a clone")
    os.kill(worker.children()[0], signal.SIGKILL)
    # Then
    finished = running.finish()
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 16
    fleet.assert_tidy()


def test_two_runs_at_once_share_one_fleet(wide_fleet: Fleet, tmp_path: Path) -> None:
    # Given
    projects = [make_project(tmp_path / name, sleeping(4, 2, 0.2)) for name in ("a", "b")]
    # When
    runs = [wide_fleet.start(project) for project in projects]
    finished = [running.finish() for running in runs]
    # Then
    for each in finished:
        assert each.code == 0, each
        assert list(each.outcomes().values()) == ["passed"] * 8
    wide_fleet.assert_tidy()


# -- interrupts and limits -------------------------------------------------------------


def test_an_interrupt_stops_the_fleet_and_still_reports_every_test(
    wide_fleet: Fleet,
    tmp_path: Path,
    place: Path,
    postgres_server: EmbeddedPostgres,
    our_databases: OursGone,
) -> None:
    # Given
    project = make_project(place, sleeping(10, 2, 1.0), settings=postgres_settings(postgres_server))
    junit = tmp_path / "junit.xml"
    running = wide_fleet.start(project, "--junit-xml", str(junit))
    wait_for_claim(wide_fleet, running)
    # When
    time.sleep(1.5)
    start = time.monotonic()
    running.interrupt()
    finished = running.finish()
    # Then
    print(f"ended {time.monotonic() - start:.2f} s after the interrupt")
    assert finished.code == 2, finished
    assert len(set(cases(junit))) == 20
    assert {"passed", "not_run"} == set(finished.outcomes().values())
    assert finished.messages() == {"interrupted"}
    assert wide_fleet.assert_tidy() < 8
    until(lambda: not our_databases(), 10, what="no database of ours")
    again = wide_fleet.run(make_project(tmp_path / "again"))
    assert again.code == 0, again


def test_an_interrupt_reaches_a_slot_whose_tests_are_never_silent(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given one long chunk of tests, each shorter than the pause between two reads of the stop flag
    running = busy_fleet.start(make_project(place, sleeping(1, 1000, 0.008)))
    wait_for_claim(busy_fleet, running)
    # When
    start = time.monotonic()
    running.interrupt()
    finished = running.finish()
    # Then it ends long before the chunk would
    assert finished.code == 2, finished
    assert time.monotonic() - start < 5
    assert "not_run" in finished.outcomes().values()


def test_a_second_interrupt_ends_at_once(fleet: Fleet, place: Path) -> None:
    # Given
    fleet.worker()
    running = fleet.start(make_project(place, sleeping(1, 1, 20)))
    wait_for_claim(fleet, running)
    # When
    running.interrupt()
    time.sleep(0.3)
    start = time.monotonic()
    running.interrupt()
    finished = running.finish()
    # Then
    assert finished.code == 2, finished
    assert time.monotonic() - start < 1
    until(
        lambda: not fleet.workers[0].clones(),
        what="no clone, as the first interrupt had stopped the slots",
    )


def test_an_interrupt_while_collecting_ends_without_waiting_for_the_project(
    fleet: Fleet, place: Path
) -> None:
    # Given
    running = fleet.start(make_project(place, "import time\ntime.sleep(30)\n"))
    until(lambda: fleet.registry.active_runs(), what="the announcement")
    # When
    running.interrupt()
    finished = running.finish(10)
    # Then
    assert finished.code == 2, finished
    assert "nothing ran" in finished.error
    fleet.assert_tidy()


def test_failfast_stops_the_run_and_says_so_for_every_test_left(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    first = (
        "from django.test import TestCase\nclass Bad(TestCase):\n    def test_bad(self):"
        " self.fail('as told')\n"
    )
    project = make_project(place, sleeping(6, 2, 0.3), files={"test_a.py": first})
    # When
    finished = busy_fleet.run(project, "--failfast")
    # Then
    assert finished.code == 1, finished
    assert finished.outcomes()["test_a.Bad.test_bad"] == "failed"
    assert finished.messages() == {"stopped after 1 failure (--failfast)"}
    busy_fleet.assert_tidy()


def test_a_test_that_hangs_is_an_error_with_its_stack(
    busy_fleet: Fleet, tmp_path: Path, place: Path
) -> None:
    # Given
    hangs = """
        import time
        from django.test import TestCase

        def wait_for_godot():
            time.sleep(60)

        class Waits(TestCase):
            def test_a_before(self): pass
            def test_hangs(self): wait_for_godot()
            def test_later(self): pass
    """
    project = make_project(place, files={"test_waits.py": hangs})
    junit = tmp_path / "junit.xml"
    # When
    finished = busy_fleet.run(project, "--test-timeout", "1.5", "--junit-xml", str(junit))
    # Then
    assert finished.code == 1, finished
    outcomes = finished.outcomes()
    assert outcomes.pop("test_waits.Waits.test_hangs") == "error"
    assert list(outcomes.values()) == ["passed"] * 5
    text = junit.read_text()
    assert "timed out after 1.5 s" in text
    assert "wait_for_godot" in text, "the stack of the hanging test"
    busy_fleet.assert_tidy()


@pytest.mark.parametrize(
    ("death", "cause"),
    [("os._exit(1)", "exit 1"), ("ctypes.string_at(0)", "signal 11")],
    ids=["exit", "segfault"],
)
def test_a_test_that_kills_its_process_costs_exactly_one_error(
    busy_fleet: Fleet, place: Path, death: str, cause: str
) -> None:
    # Given
    dies = f"""
        import ctypes, os
        from django.test import TestCase

        class Dies(TestCase):
            def test_before(self): pass
            def test_dies(self): {death}
            def test_later(self): pass
    """
    # When
    finished = busy_fleet.run(make_project(place, files={"test_dies.py": dies}))
    # Then
    assert finished.code == 1, finished
    outcomes = finished.outcomes()
    assert outcomes.pop("test_dies.Dies.test_dies") == "error"
    assert list(outcomes.values()) == ["passed"] * 5
    (message,) = (test["message"] for test in finished.json["tests"] if test["outcome"] == "error")
    assert cause in message
    busy_fleet.assert_tidy()


# -- without a fleet -------------------------------------------------------------------


def local_environment(tmp_path: Path) -> dict[str, str]:
    """Nothing that leads to a server: the store's port is closed, caches are the test's own."""
    return {"DCT_STORE": "redis://127.0.0.1:1/0", "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_local_needs_no_server(fleet: Fleet, tmp_path: Path, place: Path) -> None:
    # When
    finished = fleet.run(make_project(place), "--local", "2", **local_environment(tmp_path))
    # Then
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * PASSING.count("def test_")
    assert fleet.processes() == []


def test_two_local_runs_at_once_do_not_meet(fleet: Fleet, tmp_path: Path, place: Path) -> None:
    # When
    project = make_project(place)
    runs = [fleet.start(project, "--local", "1", **local_environment(tmp_path)) for _ in range(2)]
    # Then
    for running in runs:
        finished = running.finish()
        assert finished.code == 0, finished
    assert fleet.processes() == []


def test_a_local_worker_that_cannot_start_is_noticed_at_once(
    fleet: Fleet, tmp_path: Path, place: Path
) -> None:
    # Given
    other: Worker = fleet.worker("build-a")
    # When
    finished = fleet.run(
        make_project(place),
        "--local",
        "1",
        DCT_WORK_DIR=str(other.folder),
        **local_environment(tmp_path),
    )
    # Then
    assert finished.code == 7, finished
    assert finished.seconds < 20, "not after --queue-timeout"
    assert "the local worker ended by itself (exit 1)" in finished.out + finished.err
    assert f"another worker uses {other.folder}" in finished.err, "its last words"


def test_a_local_fleet_goes_when_its_dispatcher_is_killed(
    fleet: Fleet, tmp_path: Path, place: Path
) -> None:
    # Given
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    running = fleet.start(
        make_project(place, sleeping(2, 1, 100)),
        "--local",
        "1",
        "--run-id",
        f"killed-{secrets.token_hex(3)}",
        TMPDIR=str(temporary),
        **local_environment(tmp_path),
    )
    until(lambda: len(fleet.test_processes()) >= 2, what="loader and test process")
    # When
    running.process.kill()
    running.process.wait()
    # Then
    # Some 5 s, and not as long as a worker waits for a store that may come back.
    try:
        until(lambda: not fleet.processes(), 40, what="no process left")
    except AssertionError:
        commands = [command_of(pid) for pid in fleet.processes()]
        raise AssertionError(f"left behind: {commands}") from None
    assert [path.name for path in temporary.glob("dct-*")] == []


FALLBACK = ("--local-fallback", "1", "--fallback-after", "1")


def test_without_any_worker_slots_of_the_dispatchers_machine_take_the_run(
    fleet: Fleet, place: Path
) -> None:
    # When
    finished = fleet.run(make_project(place), *FALLBACK)
    # Then
    assert finished.code == 0, str(finished)
    assert (
        "no worker was there for 1 s (--fallback-after); one slot of this machine takes the run"
        in finished.err
    )
    assert {test["worker"].partition("-")[0] for test in finished.json["tests"]} == {"fallback"}
    fleet.assert_tidy()


def test_when_the_last_worker_leaves_slots_of_the_dispatchers_machine_take_the_rest(
    fleet: Fleet, place: Path
) -> None:
    # Given
    cases = "".join(
        f"class Case{n}(SimpleTestCase):\n    def test(self): time.sleep(0.3)\n" for n in range(12)
    )
    project = make_project(place, "import time\nfrom django.test import SimpleTestCase\n" + cases)
    worker = fleet.worker()
    running = fleet.start(project, *FALLBACK)
    wait_for_claim(fleet, running)
    # When
    worker.terminate()
    finished = running.finish()
    # Then
    assert finished.code == 0, str(finished)
    assert len(finished.outcomes()) == 12
    assert {test["worker"].partition("-")[0] for test in finished.json["tests"]} == {
        "build",
        "fallback",
    }


def test_a_fallback_of_a_run_that_is_local_anyway_is_refused(fleet: Fleet, place: Path) -> None:
    # When
    refused = fleet.run(make_project(place), "--local=1", *FALLBACK)
    # Then
    assert refused.code == 4
    assert "--local and --local-fallback exclude each other" in refused.error
