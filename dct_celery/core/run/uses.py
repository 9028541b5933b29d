"""What fixtures and workers have used in a run: sums of what test processes have sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dct_celery.core.metrics import FixtureMetrics, FixtureUse, WorkerMetrics, total
from dct_celery.core.model import BAD_OUTCOMES, Outcome, RunReport, Verdict

#: Fixtures that are kept apart on one worker; those beyond are counted as one.
MOST_FIXTURES = 10_000
#: Name of those.
OTHERS = "others"


@dataclass(slots=True)
class _Sum:
    times: int = 0
    seconds: float = 0.0
    texts: list[str] = field(default_factory=list)

    def add(self, seconds: float, measured: str) -> None:
        self.times += 1
        self.seconds += seconds
        if measured:
            self.texts.append(measured)


class FixtureUses:
    """Of all attempts of a run, also of those that were run again."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, dict[str, _Sum]] = defaultdict(dict)

    def add(self, worker: str, uses: Iterable[FixtureUse]) -> None:
        known = self._sums[worker]
        for fixture, seconds, measured in uses:
            name = fixture if fixture in known or len(known) < MOST_FIXTURES else OTHERS
            known.setdefault(name, _Sum()).add(seconds, measured)

    def metrics(self) -> tuple[FixtureMetrics, ...]:
        """By worker and name."""
        return tuple(
            FixtureMetrics(name, worker, one.times, round(one.seconds, 6), total(one.texts))
            for worker, fixtures in sorted(self._sums.items())
            for name, one in sorted(fixtures.items())
        )


def worker_metrics(report: RunReport) -> tuple[WorkerMetrics, ...]:
    """One for each worker that took part, by name."""
    slots: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    for slot in report.slots:
        slots[str(slot["worker"])].append(slot)
    verdicts: defaultdict[str, list[Verdict]] = defaultdict(list)
    for verdict in report.verdicts:
        if verdict.worker is not None:
            verdicts[verdict.worker].append(verdict)
    fixtures: defaultdict[str, list[FixtureMetrics]] = defaultdict(list)
    for one in report.fixture_metrics:
        fixtures[one.worker].append(one)
    return tuple(
        WorkerMetrics(
            worker=name,
            slots=len(slots[name]),
            chunks=sum(int(slot["chunks"]) for slot in slots[name]),
            busy_seconds=sum(slot["busy_seconds"] for slot in slots[name]),
            tests=len(verdicts[name]),
            failed=sum(verdict.outcome in BAD_OUTCOMES for verdict in verdicts[name]),
            skipped=sum(verdict.outcome is Outcome.SKIPPED for verdict in verdicts[name]),
            test_seconds=sum(verdict.seconds for verdict in verdicts[name]),
            metrics=total(
                [
                    *(verdict.measured for verdict in verdicts[name]),
                    *(one.metrics.packed() for one in fixtures[name]),
                ]
            ),
        )
        for name in sorted(slots.keys() | verdicts.keys())
    )
