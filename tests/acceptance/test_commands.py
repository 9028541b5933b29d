"""What the commands beside `dct run` say of a fleet, and do to it, while a run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dct_celery.dispatcher import timing_files
from tests.support.fleet import Fleet, Running, until, unused_port
from tests.support.projects import make_project, sleeping


def dct(
    fleet: Fleet, *args: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dct_celery.cli", *args]
    return subprocess.run(
        command,
        env=fleet.environment(environment),
        cwd=cwd or fleet.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def as_json(fleet: Fleet, *args: str) -> Any:
    done = dct(fleet, *args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def under_way(fleet: Fleet, running: Running) -> bool:
    """`dct status` shows a verdict, a busy slot and a worker that is ready."""
    assert running.process.poll() is None, running.finish()
    return any(
        run["done"] and run["slots"] and "ready" in run["workers"].values()
        for run in as_json(fleet, "status")["runs"]
    )


def test_a_run_can_be_watched_and_cancelled_from_elsewhere(fleet: Fleet, place: Path) -> None:
    # Given
    fleet.worker(slots=2)
    project = make_project(place, sleeping(24, 4, 0.5))
    running = fleet.start(project, "--chunk-seconds", "1")
    until(lambda: under_way(fleet, running), what="a verdict that status shows")
    # Then
    found = as_json(fleet, "status", running.run)
    assert (found["state"], found["announced"], found["total"], found["bad"]) == (
        "open",
        True,
        96,
        0,
    )
    assert 0 < found["acknowledged"] <= found["streamed"]
    assert list(found["workers"].values()) == ["ready"]
    (worker,) = as_json(fleet, "workers")["workers"]
    assert (worker["slots"], worker["runs"], worker["obstacle"]) == (2, {running.run: "ready"}, "")
    assert f"run       {running.run}\nstate     open\n" in dct(fleet, "status", running.run).stdout
    # When
    start = time.monotonic()
    cancelled = dct(fleet, "cancel", running.run, "--reason", "a newer push")
    finished = running.finish()
    # Then
    print(f"ended {time.monotonic() - start:.2f} s after the cancel began")
    assert cancelled.returncode == 0, cancelled.stderr
    assert finished.code == 2, finished
    assert set(finished.outcomes().values()) == {"passed", "not_run"}
    assert finished.messages() == {"cancelled by dct cancel: a newer push"}
    fleet.assert_tidy()
    # What it has measured is kept all the same
    exported = dct(fleet, "timings", "export", "timings.json", cwd=project)
    assert exported.returncode == 0, exported.stderr
    kept = timing_files.read(project / "timings.json")
    passed = [id_ for id_, outcome in finished.outcomes().items() if outcome == "passed"]
    assert {f"t:{id_}" for id_ in passed} <= kept.keys()
    (project / "other.json").write_text('{"shelf.test_it.T.test_other": 7.5}')
    imported = dct(fleet, "timings", "import", "other.json", "timings.json", cwd=project)
    assert "1 timing added to those of runs with the store redis://:**@" in imported.stdout
    assert "7.500      -  shelf.test_it" in dct(fleet, "timings", "show", cwd=project).stdout
    again = dct(fleet, "cancel", running.run)
    assert (again.returncode, again.stderr.count("\n")) == (4, 1), again.stderr
    assert f"run {running.run!r} has ended; no run is active in pool {fleet.name!r}" in again.stderr


def test_commands_about_an_empty_pool_an_unknown_run_and_a_missing_store(fleet: Fleet) -> None:
    # When
    nobody, nothing, unknown = (
        dct(fleet, "workers"),
        dct(fleet, "status"),
        dct(fleet, "status", "nobody-knows-it"),
    )
    # Then
    assert (nobody.returncode, nothing.returncode, unknown.returncode) == (0, 0, 4)
    assert "celery -A dct_celery worker" in nobody.stdout
    assert nothing.stdout == f"no run is active in pool {fleet.name!r}\n"
    assert unknown.stderr.startswith("dct: error: the store knows no run 'nobody-knows-it'; ")
    # When
    away = f"redis://127.0.0.1:{unused_port()}/0"
    project = make_project(fleet.folder / "project")
    for command in (["workers"], ["status"], ["cancel", "one"], ["timings", "show"]):
        done = dct(fleet, *command, cwd=project, DCT_STORE=away)
        # Then
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (7, "", 1), done.stderr
        assert f"{away} (DCT_STORE) cannot be reached" in done.stderr
