"""Claims about `dct status`: the active runs as a table, one run in detail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from dct_celery.cli.status import command
from dct_celery.core.model import Outcome
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.view import BusySlot, Problem
from dct_celery.inspect.status import RunStatus
from dct_celery.protocol.runs import RunState
from dct_celery.protocol.workers import RunStage
from dct_celery.settings import Settings
from tests.unit.cli import roots

BEGAN = 1_767_225_600.0
SLOT = BusySlot(
    LeaseRef("c7", 1, 9, "build-a@h1", 2), BEGAN + 61, of=12, tests=3, running="app.tests.T"
)
ONE = RunStatus(
    "one", RunState.OPEN, announced=True, total=1200, silence=0.1,
    outcomes={"passed": 1000, "not_run": 2, "failed": 1},
    fixtures=1, streamed=1004, acknowledged=1000, began=BEGAN, last=BEGAN + 70, slots=(SLOT,),
    workers={"build-a@h1": RunStage.READY, "b@h2": RunStage.REFUSED},
    refusals={"b@h2": "has Django 4.2"},
)  # fmt: skip
NEW = replace(
    ONE,
    run="number-two",
    total=None,
    outcomes={},
    fixtures=0,
    began=None,
    slots=(),
    workers={},
    refusals={},
)


class Root:
    """A composition root that knows the runs of the test."""

    def __init__(self) -> None:
        self.runs: list[RunStatus] = []
        self.asked: list[str | None] = []
        self.settings: Settings | None = None

    def watch_runs(
        self, settings: Settings, origins: dict[str, str], run: str | None
    ) -> Iterator[list[RunStatus]]:
        for state in (RunState.OPEN, RunState.CLOSED, RunState.CLOSED):
            yield [replace(one, state=state) for one in self.runs]

    def status_of_runs(
        self, settings: Settings, origins: dict[str, str], run: str | None
    ) -> list[RunStatus]:
        self.settings = settings
        self.asked.append(run)
        return self.runs


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Root:
    root = Root()
    roots.replace_root(
        monkeypatch, tmp_path, status_of_runs=root.status_of_runs, watch_runs=root.watch_runs
    )
    return root


def run(*args: str) -> Result:
    return roots.run(command, *args)


def test_without_a_run_each_active_one_is_a_row(root: Root) -> None:
    # Given
    root.runs = [ONE, NEW]

    # When
    result = run("--pool", "ci")

    # Then
    assert root.asked == [None]
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "RUN         STATE  TESTS           FAILED  BUSY  BEGAN",
        "one         open   1,003 of 1,200       2     1  2026-01-01 00:00:00 UTC",
        "number-two  open   0 of ?               0     0  not yet",
    ]


def test_a_pool_without_runs_says_so(root: Root) -> None:
    assert run("--pool", "ci").stdout == "no run is active in pool 'ci'\n"


def test_one_run_is_described_with_what_each_slot_runs(root: Root) -> None:
    # Given
    root.runs = [ONE]

    # When
    result = run("one")

    # Then
    assert root.asked == ["one"]
    assert result.stdout.splitlines() == [
        "run       one",
        "state     open",
        "began     2026-01-01 00:00:00 UTC",
        "tests     1,003 of 1,200: 1 failed, 2 not run, 1,000 passed",
        "fixtures  1 failed",
        "records   1,004 streamed, 1,000 acknowledged",
        "workers   b@h2 refused, build-a@h1 ready",
        "          b@h2: has Django 4.2",
        "",
        "WORKER      SLOT  CHUNK  ATTEMPT  TESTS    SINCE                    RUNNING",
        "build-a@h1     2  c7           1  3 of 12  2026-01-01 00:01:01 UTC  app.tests.T",
        "1 slot busy",
    ]


def test_a_run_of_another_pool_is_said_to_be_none_of_this_one(root: Root) -> None:
    # Given
    root.runs = [replace(NEW, announced=False)]
    # When
    lines = run("number-two").stdout.splitlines()
    # Then
    assert (
        lines[1]
        == "state     open, but it is not announced in pool 'default': it belongs to another pool"
    )


def test_a_run_without_a_dispatcher_is_said_to_have_none(root: Root) -> None:
    # Given
    root.runs = [replace(NEW, silence=75.4, note="the manifest carries another signature")]

    # When
    lines = run("number-two").stdout.splitlines()

    # Then
    assert (
        lines[1]
        == "state     open, but its dispatcher has been silent for 75 s: dct attach number-two goes"
        " on with it"
    )
    assert lines[2:4] == ["began     not yet", "tests     0 of ?"]
    assert lines[-2:] == ["workers   none", "note      the manifest carries another signature"]


def test_a_run_that_is_over_needs_no_dispatcher(root: Root) -> None:
    root.runs = [replace(NEW, state=RunState.CLOSED, announced=False)]
    assert "state     closed\n" in run("number-two").stdout


def test_json_is_a_list_of_runs_or_the_one_run(root: Root) -> None:
    # Given
    root.runs = [ONE]

    # When
    listed, single = json.loads(run("--json").stdout), json.loads(run("one", "--json").stdout)

    # Then
    assert listed == {"pool": "default", "runs": [single]}
    assert (single["run"], single["done"], single["bad"], single["total"]) == ("one", 1003, 2, 1200)
    assert single["slots"][0]["worker"] == "build-a@h1"


def test_what_a_run_waits_for_what_is_left_and_what_failed_is_shown(root: Root) -> None:
    # Given
    problems = tuple(Problem(f"app.T.test_{i}", Outcome.FAILED, "1 != 2") for i in range(12))
    root.runs = [replace(NEW, waiting="waiting for build-a to begin", left=61.4, problems=problems)]

    # When
    lines = run("number-two").stdout.splitlines()

    # Then
    assert lines[4:6] == ["waiting   waiting for build-a to begin", "left      about 61 s"]
    assert "failed    app.T.test_0  1 != 2" in lines
    assert len([line for line in lines if line.startswith("failed")]) == 10


def test_watching_a_run_ends_with_it(root: Root) -> None:
    # Given
    root.runs = [ONE]

    # When
    text = run("one", "--watch", "0.2").stdout

    # Then
    assert [line for line in text.splitlines() if line.startswith("state")] == [
        "state     open",
        "state     closed",
    ]


def test_a_pause_that_is_no_number_is_refused(root: Root) -> None:
    # When
    ended = run("--watch", "nan")

    # Then
    assert ended.exit_code != 0
    assert "'nan' is not a number of seconds" in ended.output
