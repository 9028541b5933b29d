"""What tests use is charged to the test or fixture that was running, and to nothing else."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from dct_celery.core.metrics import TestMetrics
from dct_celery.core.model import Failure, FixtureRef, Outcome
from dct_celery.testproc import meter as module
from dct_celery.testproc import recorder
from dct_celery.testproc.isolation.output import OutputFile
from dct_celery.testproc.meter import QUERIES, Meter
from dct_celery.wire import messages
from tests.support.inprocess import Bench

SET_UP = FixtureRef.parse("setUpClass (app.T)")
TEAR_DOWN = FixtureRef.parse("tearDownClass (app.T)")
FAILURE = Failure("failure", "AssertionError", "1 != 2", "Traceback")


class QuietMeter(Meter):
    """Queries alone: memory comes and goes by itself."""

    def _memory(self) -> tuple[int, int]:
        return 0, 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [100.0]
    monkeypatch.setattr(recorder, "now", lambda: at[0])
    return at


@pytest.fixture
def bench(clock: list[float]) -> Bench:
    bench = Bench()
    bench.recorder.meter = QuietMeter()
    bench.recorder.start_chunk("c1")
    return bench


def ask(bench: Bench, queries: int) -> None:
    assert bench.recorder.meter is not None
    bench.recorder.meter.counts[QUERIES] += queries


def begin(bench: Bench, index: int, *, fixtures: bool = False) -> None:
    test = object()
    bench.recorder.begin(test, index, ("app.T", "app"), fixtures=fixtures)
    bench.recorder.started(test)


def queries(bench: Bench) -> list[int]:
    return [TestMetrics.of(record.measured).queries for record in bench.finished()]


def test_each_test_is_charged_for_what_it_used_itself(bench: Bench) -> None:
    # When
    for index, asked in enumerate((3, 0, 5)):
        begin(bench, index)
        ask(bench, asked)
        bench.recorder.end(0.1)
    # Then
    assert queries(bench) == [3, 0, 5]


def test_what_was_used_before_the_chunk_is_charged_to_nobody(bench: Bench) -> None:
    # Given
    ask(bench, 50)
    # When
    bench.recorder.start_chunk("c2")
    begin(bench, 0)
    bench.recorder.end(0.1)
    # Then
    assert queries(bench) == [0]


def test_fixtures_of_a_class_are_counted_apart_with_their_seconds(
    bench: Bench, clock: list[float]
) -> None:
    # When
    begin(bench, 0, fixtures=True)
    bench.recorder.fixture(SET_UP)
    ask(bench, 7)
    clock[0] += 2.0
    bench.recorder.fixture(None)
    ask(bench, 3)
    bench.recorder.end(0.1)
    bench.recorder.fixture(TEAR_DOWN)
    ask(bench, 2)
    clock[0] += 0.5
    bench.recorder.fixture_over()
    end = bench.recorder.finish()
    # Then
    assert queries(bench) == [3]
    assert end.fixtures == (
        ("setUpClass (app.T)", 2.0, "7"),
        ("tearDownClass (app.T)", 0.5, "2"),
    )


def test_fixtures_within_a_test_are_counted_apart_however_they_are_nested(bench: Bench) -> None:
    # When
    begin(bench, 0)
    ask(bench, 1)
    bench.recorder.enter_fixture("of the session")
    ask(bench, 10)
    bench.recorder.enter_fixture("of the module")
    ask(bench, 20)
    bench.recorder.leave_fixture("of the module")
    ask(bench, 100)
    bench.recorder.leave_fixture("of the session")
    ask(bench, 2)
    bench.recorder.leave_fixture("that never began")
    bench.recorder.end(0.1)
    # Then
    used = {name: measured for name, _, measured in bench.recorder.finish().fixtures}
    assert used == {"of the session": "110", "of the module": "20"}
    assert queries(bench) == [3]


def test_a_failing_test_and_one_that_printed_have_what_they_used_and_its_output(
    bench: Bench,
) -> None:
    # When
    begin(bench, 0)
    ask(bench, 4)
    bench.recorder.event(Outcome.FAILED, FAILURE)
    bench.output.printed, bench.output.taken = "words", 5
    bench.recorder.end(0.1, output="é")
    # Then
    [record] = bench.finished()
    assert TestMetrics.of(record.measured) == TestMetrics(queries=4, output_bytes=7)


def test_a_test_that_did_not_run_has_used_nothing(bench: Bench) -> None:
    # When
    begin(bench, 0, fixtures=True)
    bench.recorder.fixture(SET_UP)
    ask(bench, 9)
    bench.recorder.fixture_finished(SET_UP, Outcome.ERROR, FAILURE)
    bench.recorder.fixture(None)
    bench.recorder.begin(object(), 1, ("app.T", "app"), fixtures=False)
    bench.recorder.end(0.0)
    # Then
    assert bench.finished() == [messages.TestFinished(1, Outcome.NOT_RUN, 0.0, covered_by=SET_UP)]


def test_without_a_meter_fixtures_are_still_timed(clock: list[float]) -> None:
    # Given
    bench = Bench()
    # When
    begin(bench, 0, fixtures=True)
    bench.recorder.fixture(SET_UP)
    clock[0] += 1.0
    bench.recorder.fixture(None)
    bench.recorder.end(0.1)
    # Then
    assert bench.recorder.finish().fixtures == (("setUpClass (app.T)", 1.0, ""),)
    assert [record.measured for record in bench.finished()] == [""]


# -- memory ----------------------------------------------------------------------------------


def test_growth_is_what_resident_memory_grew_by_and_a_peak_is_told_once() -> None:
    # Given a process that may have been larger before
    meter = Meter()
    meter.cut(1000.0)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024
    spare = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident, 0)
    # When
    kept = bytearray(b"x") * (40_000_000 + spare * 1024)
    grown = meter.cut(1001.0)
    again = meter.cut(1002.0)
    # Then
    assert len(kept) >= 40_000_000
    assert 30_000 < grown[5] - spare < 60_000
    assert grown[6] > 30_000
    assert again[6] == 0


def test_memory_is_read_at_most_once_in_two_milliseconds() -> None:
    # Given
    meter = Meter()
    meter.cut(1000.0)
    kept = bytearray(b"x") * 40_000_000
    # When
    soon, later = meter.cut(1000.001), meter.cut(1000.003)
    # Then
    assert kept
    assert soon[5] == 0
    assert later[5] > 30_000


def test_a_descriptor_that_a_test_has_closed_costs_the_growth_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    meter = Meter()
    meter.counts[QUERIES] = 3

    def closed(*_: object) -> bytes:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(module, "_pread", closed)
    # When
    used = meter.cut(1000.0)
    # Then
    assert (used[0], used[5]) == (3, 0)


def test_output_is_counted_whole_where_a_report_has_a_part(tmp_path: Path) -> None:
    # Given
    output = object.__new__(OutputFile)
    with (tmp_path / "log").open("w+b") as file:
        output._fd, output._taken, output._own = file.fileno(), 0, ()  # type: ignore[assignment]
        file.write(b"x" * 1_000_000)
        file.flush()
        # When
        text = output.take()
        # Then
        assert output.taken == 1_000_000 > len(text)
        output.take()
        assert output.taken == 0
