"""The benchmark report: what a run came to, and what its tests and databases took, in figures.

Headings are those of the report of django-concurrent-test; every figure is measured. For people
(`lines`), printed behind the summary, and for programs (`to_dict`, see docs/metrics.md).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from dct_celery import __version__
from dct_celery.core.metrics import TestMetrics, WorkerMetrics, total
from dct_celery.core.model import BAD_OUTCOMES, Outcome, RunReport, SequentialTime, Verdict
from dct_celery.core.run.uses import worker_metrics
from dct_celery.core.text import one_line, plural
from dct_celery.ports.reporting import Finished, ReportEvent, Started
from dct_celery.reports import masked
from dct_celery.security import masking

VERSION = 1
_RULE = "=" * 60
#: Type of the failure of a test that went beyond its time limit.
_TIMED_OUT = "dct.TimedOut"


@dataclass(frozen=True, slots=True)
class Spread:
    """Some durations in seconds; all 0 where there are none."""

    total: float
    mean: float
    median: float
    p95: float
    min: float
    max: float
    #: Population variance, in square seconds.
    variance: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        ordered = sorted(values)
        # The least value that 95 % of all do not exceed.
        p95 = ordered[-(-95 * len(ordered) // 100) - 1]
        return cls(
            total=sum(ordered),
            mean=statistics.fmean(ordered),
            median=statistics.median(ordered),
            p95=p95,
            min=ordered[0],
            max=ordered[-1],
            variance=statistics.pvariance(ordered),
        )


class Figures:
    """The figures of one report."""

    def __init__(self, report: RunReport) -> None:
        self._report = report
        ran = [v for v in report.verdicts if v.outcome is not Outcome.NOT_RUN]
        self.tests = len(report.verdicts)
        self.passed = sum(v.outcome in (Outcome.PASSED, Outcome.XFAILED) for v in ran)
        self.timed_out = sum(map(_timed_out, ran))
        self.failed = sum(v.outcome in BAD_OUTCOMES for v in ran) - self.timed_out
        self.skipped = sum(v.outcome is Outcome.SKIPPED for v in ran)
        self.not_run = self.tests - len(ran)
        #: Seconds of the tests, and seconds that each slot was busy.
        self.durations = Spread.of([_sane(v.seconds) for v in ran])
        self.busy = Spread.of([_sane(float(slot["busy_seconds"])) for slot in report.slots])
        self.fixture_seconds = sum(one.seconds for one in report.fixture_metrics)
        self.of_tests: TestMetrics = total(v.measured for v in ran)
        self.of_all: TestMetrics = total(
            [self.of_tests.packed(), *(one.metrics.packed() for one in report.fixture_metrics)]
        )
        self.workers: tuple[WorkerMetrics, ...] = worker_metrics(report)
        self.wall = _sane(report.seconds.get("wall", 0.0))
        self.run = _sane(report.seconds.get("run", 0.0))

    @property
    def slots(self) -> int:
        return len(self._report.slots)

    @property
    def utilisation(self) -> float:
        """Share of the slots' time, between first and last test, in which they were busy."""
        return min(_share(self.busy.total, self.run * self.slots), 1.0)

    @property
    def speed_up(self) -> float:
        """Times as fast as the tests and their fixtures one after the other."""
        return _share(self.durations.total + self.fixture_seconds, self.wall)

    @property
    def sequential(self) -> SequentialTime | None:
        return self._report.sequential

    @property
    def speed_up_measured(self) -> float | None:
        """Times as fast as one process, by the last `dct try` of these tests; None without one."""
        return None if self.sequential is None else _share(self.sequential.seconds, self.wall)

    @property
    def error_rate(self) -> float:
        return _share(self.of_all.errors, self.of_all.queries)

    @property
    def write_ratio(self) -> float:
        return _share(self.of_tests.writes, self.of_tests.queries)

    @property
    def databases(self) -> dict[str, Any]:
        """What workers did on database servers beside the tests: see docs/json.md."""
        names = ("opened", "reused", "recycled", "failed")
        return {name: self._report.databases.get(name, 0) for name in names}


def lines(report: RunReport) -> Iterator[str]:
    """The report for people."""
    figures = Figures(report)
    yield _RULE
    yield "Benchmark Report"
    yield _RULE
    yield from _execution(figures)
    yield from _workers(figures)
    yield from _operations(figures)
    yield from _metrics(figures)
    yield from _connections(figures)
    yield _RULE


def _execution(figures: Figures) -> Iterator[str]:
    yield "Test Execution:"
    yield f"  Total tests: {figures.tests:,}"
    yield f"  Workers used: {len(figures.workers)} ({plural(figures.slots, 'slot')})"
    yield f"  Total duration: {figures.wall:,.2f}s ({figures.run:,.2f}s of it running tests)"
    yield f"  Worker utilization: {figures.utilisation:.1%}"
    alone = figures.durations.total + figures.fixture_seconds
    yield (
        f"  Speed-up: {figures.speed_up:.2f} times as fast as its tests and fixtures one after the"
        f" other ({alone:,.2f}s)"
    )
    if figures.sequential is not None and figures.speed_up_measured is not None:
        day = datetime.fromtimestamp(figures.sequential.at, UTC)
        yield (
            f"  Speed-up, measured: {figures.speed_up_measured:.2f} times as fast as one process"
            f" ({figures.sequential.seconds:,.2f}s, dct try of {day:%Y-%m-%d})"
        )
    else:
        yield "  Speed-up, measured: not known; dct try measures these tests in one process"


def _workers(figures: Figures) -> Iterator[str]:
    busy = figures.busy
    yield ""
    yield "Worker Performance (seconds that each slot was busy):"
    yield f"  Average worker duration: {busy.mean:,.2f}s"
    yield f"  Min worker duration: {busy.min:,.2f}s"
    yield f"  Max worker duration: {busy.max:,.2f}s"
    deviation = busy.variance**0.5
    yield f"  Duration variance: {busy.variance:,.2f} (standard deviation {deviation:,.2f}s)"
    for one in figures.workers:
        used = one.metrics
        yield (
            f"  {one_line(one.worker)}: {plural(one.tests, 'test')}, {one.failed:,} failed,"
            f" {one.busy_seconds:,.2f}s on {plural(one.slots, 'slot')}, {used.queries:,} queries in"
            f" {used.db_seconds:,.2f}s, peak {used.rss_peak / 2**20:,.0f} MiB"
        )


def _operations(figures: Figures) -> Iterator[str]:
    used = figures.of_all
    yield ""
    yield "Database Operations (tests and fixtures):"
    if used == TestMetrics():
        yield "  Nothing was counted: there are no queries, or --no-metrics was given"
    yield f"  Total operations: {used.queries:,} in {used.db_seconds:,.2f}s"
    yield f"  Total errors: {used.errors:,} ({used.connection_errors:,} of connections)"
    yield f"  Error rate: {figures.error_rate:.2%}"


def _metrics(figures: Figures) -> Iterator[str]:
    used, durations = figures.of_tests, figures.durations
    yield ""
    yield "Test Metrics:"
    yield f"  Average test duration: {durations.mean:.3f}s"
    yield f"  95th percentile duration: {durations.p95:.3f}s"
    yield f"  Total queries: {used.queries:,}"
    yield f"  Total writes: {used.writes:,}"
    yield f"  Total reads: {used.reads:,}"
    yield f"  Write ratio: {figures.write_ratio:.1%}"


def _connections(figures: Figures) -> Iterator[str]:
    yield ""
    yield "Connections:"
    yield f"  Opened by tests: {figures.of_all.connections:,}"
    named = ", ".join(f"{count:,} {name}" for name, count in figures.databases.items())
    yield f"  Of the workers: {named}"


def to_dict(report: RunReport, generated_at: float) -> dict[str, Any]:
    """The report for programs. `generated_at`: Unix seconds."""
    figures = Figures(report)
    durations = figures.durations
    sequential = figures.sequential
    return {
        "summary": {
            "total_tests": figures.tests,
            "passed_tests": figures.passed,
            "failed_tests": figures.failed,
            "timeout_tests": figures.timed_out,
            "skipped_tests": figures.skipped,
            "not_run_tests": figures.not_run,
            "total_duration": round(durations.total, 6),
            "average_duration": round(durations.mean, 6),
            "min_duration": round(durations.min, 6),
            "max_duration": round(durations.max, 6),
            "median_duration": round(durations.median, 6),
            "p95_duration": round(durations.p95, 6),
            "wall_seconds": figures.wall,
            "run_seconds": figures.run,
            "fixture_seconds": round(figures.fixture_seconds, 6),
            "workers": len(figures.workers),
            "slots": figures.slots,
            "utilisation": round(figures.utilisation, 4),
            "speed_up": round(figures.speed_up, 3),
            "sequential_seconds": None if sequential is None else round(sequential.seconds, 3),
            "speed_up_measured": (
                None if figures.speed_up_measured is None else round(figures.speed_up_measured, 3)
            ),
            "write_ratio": round(figures.write_ratio, 4),
            "error_rate": round(figures.error_rate, 4),
        },
        "slots": {name: round(value, 6) for name, value in asdict(figures.busy).items()},
        "workers": [_flat(one) for one in figures.workers],
        "database": asdict(figures.of_all),
        "tests_database": asdict(figures.of_tests),
        "connections": figures.databases,
        "tests": {v.entry.id: _test(v) for v in report.verdicts},
        "metadata": {
            "generated_at": generated_at,
            "version": VERSION,
            "dct": __version__,
            "run": report.run,
            "exit_code": report.exit_code,
            "complete": report.complete,
            "error": report.error,
        },
    }


def _flat(one: WorkerMetrics) -> dict[str, Any]:
    values = asdict(one)
    used = values.pop("metrics")
    return {**values, **used, "test_seconds": round(_sane(one.test_seconds), 6)}


def _test(verdict: Verdict) -> dict[str, Any]:
    status = "timeout" if _timed_out(verdict) else verdict.outcome.value
    duration = round(_sane(verdict.seconds), 6)
    return {"duration": duration, "status": status, **verdict.metrics.used()}


def _timed_out(verdict: Verdict) -> bool:
    return any(failure.type == _TIMED_OUT for failure in verdict.failures)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _sane(seconds: float) -> float:
    return seconds if 0 <= seconds < 1e9 else 0.0


class BenchmarkReporter:
    """Prints the report at the end of a run whose settings ask for it."""

    masks = True

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write`: takes the whole text, with its last line end."""
        self._write = write
        self._wanted = False

    def take(self, event: ReportEvent) -> None:
        match event:
            case Started(_, settings):
                self._wanted = settings.benchmark is not None
            case Finished(report) if self._wanted:
                clean = masked.report(report, masking.PROCESS)
                self._write("\n".join(["", *lines(clean), ""]))
            case _:
                pass
