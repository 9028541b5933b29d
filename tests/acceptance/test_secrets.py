"""Secrets that a test was given and prints appear in no output of a run.

Nor are they on the dispatcher's disk; also covers outputs that are not read.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.projects import make_project

TOKEN = "correct/horse battery"
TELLTALE = """
    import os, unittest

    class Telltale(unittest.TestCase):
        def test_it_tells(self):
            print("::error::", os.environ["API_TOKEN"])
            self.fail(f"no access with {os.environ['API_TOKEN']}: redis://u:pw@h")
"""


def test_a_variable_reaches_the_tests_and_no_output(busy_fleet: Fleet, place: Path) -> None:
    # Given
    project = make_project(place, TELLTALE)
    # When
    finished = busy_fleet.run(
        project, "--env", "API_TOKEN", "--buffer", "--junit-xml", "junit.xml", API_TOKEN=TOKEN
    )
    # Then
    assert finished.code == 1, finished
    (test,) = finished.json["tests"]
    assert test["message"] == "AssertionError: no access with **: redis://u:**@h"
    written = [
        finished.out,
        finished.err,
        (project / "junit.xml").read_text(),
        json.dumps(finished.json),
    ]
    written += [
        path.read_text() for path in (busy_fleet.folder / "state").rglob("*") if path.is_file()
    ]
    written += [worker.log.read_text() for worker in busy_fleet.workers]
    assert len(written) > 5
    assert not [text for text in written if TOKEN in text or "redis://u:pw" in text]
    assert not [line for line in finished.out.splitlines() if line.lstrip().startswith("::")]


def test_a_reader_of_stdout_that_goes_away_costs_neither_reports_nor_exit_code(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    project = make_project(place, TELLTALE)
    command = (
        f"({sys.executable} -m dct_celery.cli run -v 2 --junit-xml junit.xml --json run.json; "
        "echo $? > code) | head -n 0"
    )
    # When
    done = subprocess.run(
        ["sh", "-c", command],
        env=busy_fleet.environment({}),
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Then
    assert (project / "code").read_text() == "1\n", done.stderr
    assert done.stderr == ""
    assert json.loads((project / "run.json").read_text())["totals"]["error"] == 1
    assert "KeyError" in (project / "junit.xml").read_text()


def test_what_the_worker_says_of_a_project_that_it_cannot_load_has_no_secret(
    fleet: Fleet, place: Path
) -> None:
    # Given settings that fail on the worker alone, with a password in the traceback
    settings = """
    if os.environ.get("ON_WORKER"):
        raise RuntimeError(f"cannot connect with {os.environ['DB_PASSWORD']} to redis://u:pw@h")
    """
    worker = fleet.worker(ON_WORKER="1", DB_PASSWORD=TOKEN)
    # When
    finished = fleet.run(make_project(place, settings=textwrap.dedent(settings)), DB_PASSWORD=TOKEN)
    # Then
    assert finished.code != 0
    log = worker.log.read_text()
    assert "cannot connect with ** to redis://u:**@h" in finished.out + finished.err
    for text in (finished.out, finished.err, log, json.dumps(finished.json)):
        assert TOKEN not in text
        assert "u:pw@" not in text
