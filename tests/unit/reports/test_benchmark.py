"""Claims about `reports.benchmark`: every figure is measured, and says what of."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.core.metrics import FixtureMetrics, TestMetrics
from dct_celery.core.model import Failure, Outcome, RunReport, SequentialTime, Verdict
from dct_celery.ports.reporting import Finished, Started
from dct_celery.reports.benchmark import BenchmarkReporter, Spread, lines, to_dict
from dct_celery.reports.file_reporters import of_settings
from dct_celery.settings import PRINTED, Settings
from tests.support.factories import group, make_manifest
from tests.support.verdicts import REPORTS

MANIFEST = make_manifest(group("a.T", count=5))
TIMED_OUT = (Failure("error", "dct.TimedOut", "timed out after 4 s", ""),)
SLOTS = (
    {"worker": "build-a", "slot": 0, "busy_seconds": 8.0, "chunks": 2},
    {"worker": "build-a", "slot": 1, "busy_seconds": 4.0, "chunks": 1},
)
REPORT = RunReport(
    "r1",
    (
        Verdict(MANIFEST[0], Outcome.PASSED, 1.0, "build-a", 0, measured="6,2,3,500000,9"),
        Verdict(MANIFEST[1], Outcome.FAILED, 2.0, "build-a", 1, measured="2,1,,250000,,,1024,,1"),
        Verdict(MANIFEST[2], Outcome.ERROR, 4.0, "build-a", 1, failures=TIMED_OUT),
        Verdict(MANIFEST[3], Outcome.SKIPPED, 0.0, "build-a", 0),
        Verdict(MANIFEST[4], Outcome.NOT_RUN),
    ),
    (),
    1,
    {"wall": 5.0, "run": 8.0},
    slots=SLOTS,
    fixture_metrics=(
        FixtureMetrics("setUpClass (a.T)", "build-a", 1, 3.0, TestMetrics(queries=2, writes=2)),
    ),
    databases={"opened": 9, "reused": 3, "recycled": 0, "failed": 1, "workers": {}},
    sequential=SequentialTime(15.0, "d", 1_790_000_000.0),
)


def test_the_report_has_the_familiar_headings_and_true_figures() -> None:
    # When
    text = "\n".join(lines(REPORT))
    # Then
    for line in (
        "Test Execution:",
        "  Total tests: 5",
        "  Workers used: 1 (2 slots)",
        "  Total duration: 5.00s (8.00s of it running tests)",
        "  Worker utilization: 75.0%",
        "  Speed-up: 2.00 times as fast as its tests and fixtures one after the other (10.00s)",
        "  Speed-up, measured: 3.00 times as fast as one process (15.00s, dct try of 2026-09-21)",
        "  Average worker duration: 6.00s",
        "  Min worker duration: 4.00s",
        "  Max worker duration: 8.00s",
        "  Duration variance: 4.00 (standard deviation 2.00s)",
        "  build-a: 4 tests, 2 failed, 12.00s on 2 slots, 10 queries in 0.75s, peak 1 MiB",
        "  Total operations: 10 in 0.75s",
        "  Total errors: 1 (0 of connections)",
        "  Error rate: 10.00%",
        "  Average test duration: 1.750s",
        "  95th percentile duration: 4.000s",
        "  Total queries: 8",
        "  Total writes: 3",
        "  Total reads: 3",
        "  Write ratio: 37.5%",
        "  Of the workers: 9 opened, 3 reused, 0 recycled, 1 failed",
    ):
        assert line in text.splitlines(), line


def test_a_speed_up_that_nobody_measured_is_not_guessed() -> None:
    # When
    text = "\n".join(lines(RunReport("r1", (), (), 5)))
    # Then
    assert "  Speed-up, measured: not known; dct try measures these tests in one process" in text
    assert "  Nothing was counted: there are no queries, or --no-metrics was given" in text


def test_the_object_tells_what_timed_out_from_what_failed() -> None:
    # When
    data = to_dict(REPORT, 1_790_000_001.5)
    # Then
    summary = data["summary"]
    counts = {name: summary[name] for name in summary if name.endswith("_tests")}
    assert counts == {
        "total_tests": 5,
        "passed_tests": 1,
        "failed_tests": 1,
        "timeout_tests": 1,
        "skipped_tests": 1,
        "not_run_tests": 1,
    }
    durations = [summary[f"{name}_duration"] for name in ("total", "min", "median", "max")]
    assert durations == [7.0, 0.0, 1.5, 4.0]
    assert (summary["speed_up"], summary["speed_up_measured"]) == (2.0, 3.0)
    assert data["tests"][MANIFEST[2].id] == {"duration": 4.0, "status": "timeout"}
    assert data["tests"][MANIFEST[0].id]["writes"] == 3
    assert data["metadata"]["generated_at"] == 1_790_000_001.5
    assert (data["metadata"]["version"], data["metadata"]["run"]) == (1, "r1")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_95_percent_of_all_take_no_longer_than_the_95th_percentile(values: list[float]) -> None:
    # When
    p95 = Spread.of(values).p95
    # Then
    assert sum(value <= p95 for value in values) >= 0.95 * len(values)
    assert sum(value < p95 for value in values) < 0.95 * len(values)


@given(REPORTS)
@settings(database=None, deadline=None, max_examples=50)
def test_any_report_can_be_shown_and_written(report: RunReport) -> None:
    assert list(lines(report))
    assert json.dumps(to_dict(report, 0.0), allow_nan=False)


@pytest.mark.parametrize("wanted", [None, PRINTED, "bench.json"])
def test_it_is_printed_where_the_settings_ask_for_it(wanted: str | None) -> None:
    # Given
    printed: list[str] = []
    reporter = BenchmarkReporter(printed.append)
    unused = Mock()
    # When
    reporter.take(Started(unused, Settings(benchmark=wanted), unused, unused))
    reporter.take(Finished(REPORT))
    # Then
    assert len(printed) == (wanted is not None)


def test_it_is_written_where_a_path_is_given(tmp_path: Path) -> None:
    # Given
    own = Settings(project_dir=str(tmp_path), benchmark="out/bench.json")
    # When
    [file] = of_settings(own, lambda: 12.0)
    file.write(REPORT)
    # Then
    data = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert (data["summary"]["total_tests"], data["metadata"]["generated_at"]) == (5, 12.0)
    # And a run without results leaves no figures of another one
    file.fail("no worker", 7)
    data = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert (data["tests"], data["metadata"]["error"]) == ({}, "no worker")
    assert of_settings(Settings(benchmark=PRINTED), lambda: 0.0) == []
