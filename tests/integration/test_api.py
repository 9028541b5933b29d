"""Whole runs through `dct_celery.api`, on slots of this machine, in the test's process."""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from dct_celery import api, machine
from dct_celery.core.model import RunReport
from dct_celery.errors import CollectionError, NothingSelected
from dct_celery.ports.reporting import (
    Closed,
    Failed,
    Finished,
    RunBegan,
    Started,
    TestJudged,
    Ticked,
)
from tests.support.reporters import Broken, Listener

ROOT = Path(__file__).parents[2]
QUICK = "catalogue.tests.test_isbn"


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sample project, and folders of this test for all that a run keeps."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("DCT_STORE", "DCT_BROKER", "DCT_SIGNING_KEY", "DCT_SIGNING_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Path(shutil.copytree(ROOT / "tests" / "sample_project", tmp_path / "shop"))


def test_the_example_of_the_documentation_runs(
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given
    text = (ROOT / "docs" / "api.md").read_text()
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    junit = tmp_path / "junit.xml"
    for there, here in {
        "path/to/project": str(sample),
        "shop": QUICK,
        "junit.xml": str(junit),
    }.items():
        assert f'"{there}"' in example
        example = example.replace(f'"{there}"', repr(here))
    # When
    exec(compile(example, "api.md", "exec"), {"__name__": "example"})
    # Then: a line for each test and one of the report, and nothing else
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert all(re.fullmatch(rf"passed \d+\.\d\d {QUICK}\.\S+", line) for line in lines[:-1])
    assert lines[-1].startswith("0 {'tests': 15, 'passed': 15,")
    assert junit.read_text().count("<testcase") == 15


def test_a_run_in_a_thread_touches_neither_signals_nor_output_and_reports_events_in_order(
    sample: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Given a reporter that fails, too
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    listener = Listener()
    reports: list[RunReport] = []
    settings = api.load(sample, labels=[QUICK], local="auto")
    # When
    thread = threading.Thread(
        target=lambda: reports.append(
            api.run(settings, reporters=[Broken(ValueError("boom"), TestJudged), listener])
        )
    )
    thread.start()
    thread.join(100)
    # Then
    (report,) = reports
    assert (report.exit_code, report.totals()["passed"]) == (0, 15)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert capfd.readouterr() == ("", "")
    kinds = [type(event) for event in listener.events]
    assert (kinds[0], kinds[-1], kinds.count(TestJudged)) == (RunBegan, Closed, 15)
    assert kinds.index(Started) < kinds.index(TestJudged) < kinds.index(Finished)
    assert Ticked in kinds
    assert listener.notices[0] == f"local: {machine.room().reason}"
    assert [event.run for event in listener.all(Started)] == [report.run]
    assert [line for line in listener.warnings if "Broken" in line] == [
        "the reporter tests.support.reporters.Broken failed at TestJudged and is left out: "
        "ValueError: boom"
    ]


def test_a_run_that_is_interrupted_has_a_report(sample: Path, tmp_path: Path) -> None:
    # Given
    stop = threading.Event()

    class StopAtFirst:
        def take(self, event: Any) -> None:
            if isinstance(event, TestJudged):
                stop.set()

    settings = api.load(sample, local=1, json=str(tmp_path / "run.json"))
    # When
    report = api.run(settings, reporters=[StopAtFirst()], interrupted=stop.is_set)
    # Then
    assert report.exit_code == 2
    assert report.totals()["not_run"] > 0
    assert json.loads((tmp_path / "run.json").read_text())["exit_code"] == 2


def test_a_run_without_a_report_raises_an_error_and_sends_it_to_reporters(sample: Path) -> None:
    for given, error in (
        ({"labels": [QUICK], "k": ("nothing-is-called-so",)}, NothingSelected),
        ({"settings": "no.such.module"}, CollectionError),
    ):
        # Given
        listener = Listener()
        # When
        with pytest.raises(error) as raised:
            api.run(api.load(sample, local=1, **given), reporters=[listener])
        # Then
        (failed,) = listener.all(Failed)
        assert failed.exit_code == raised.value.exit_code
        assert listener.all(Finished) == []
        assert isinstance(listener.events[-1], Closed)
