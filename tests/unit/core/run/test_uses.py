"""Claims about `core.run.uses`: what fixtures and workers have used, summed."""

from __future__ import annotations

from dct_celery.core.metrics import FixtureMetrics, TestMetrics
from dct_celery.core.model import Outcome, RunReport, Verdict
from dct_celery.core.run import uses
from dct_celery.core.run.uses import FixtureUses, worker_metrics
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, finished

SET_UP = "setUpClass (a.T)"
MANIFEST = make_manifest(group("a.T", count=4))


def test_a_fixture_is_summed_over_all_that_ran_it_on_a_worker() -> None:
    # Given
    run = Run(MANIFEST)
    lease = run.claim()
    run.record(lease, *map(finished, range(4)))
    # When
    run.complete(lease, fixtures=((SET_UP, 1.0, "3,,2"), ("other", 0.5, "")))
    run.machine.fixture_uses.add("build-a", [(SET_UP, 2.0, "4")])
    run.machine.fixture_uses.add("build-b", [(SET_UP, 1.5, "5")])
    # Then
    assert run.machine.fixture_uses.metrics() == (
        FixtureMetrics("other", "build-a", 1, 0.5, TestMetrics()),
        FixtureMetrics(SET_UP, "build-a", 2, 3.0, TestMetrics(queries=7, writes=2)),
        FixtureMetrics(SET_UP, "build-b", 1, 1.5, TestMetrics(queries=5)),
    )


def test_more_fixtures_than_anybody_reads_are_one() -> None:
    # Given
    found = FixtureUses()
    # When
    found.add("w", ((f"f{n}", 1.0, "1") for n in range(uses.MOST_FIXTURES + 5)))
    # Then
    named = {one.name: one for one in found.metrics()}
    assert len(named) == uses.MOST_FIXTURES + 1
    assert (named[uses.OTHERS].times, named[uses.OTHERS].metrics.queries) == (5, 5)


def test_a_worker_has_its_slots_its_tests_and_what_they_and_fixtures_used() -> None:
    # Given
    verdicts = (
        Verdict(MANIFEST[0], Outcome.PASSED, 1.0, "build-a", 0, measured="3,1,,500,,,40"),
        Verdict(MANIFEST[1], Outcome.FAILED, 2.0, "build-a", 1, measured="2,,,250,,,90"),
        Verdict(MANIFEST[2], Outcome.SKIPPED, 0.0, "build-b", 0),
        Verdict(MANIFEST[3], Outcome.NOT_RUN),
    )
    slots = (
        {"worker": "build-a", "slot": 0, "busy_seconds": 3.0, "chunks": 2},
        {"worker": "build-a", "slot": 1, "busy_seconds": 4.0, "chunks": 1},
        {"worker": "build-b", "slot": 0, "busy_seconds": 1.0, "chunks": 1},
    )
    fixtures = (FixtureMetrics(SET_UP, "build-a", 1, 0.5, TestMetrics(queries=10)),)
    # When
    report = RunReport("r", verdicts, (), 1, slots=slots, fixture_metrics=fixtures)
    first, second = worker_metrics(report)
    # Then
    assert (first.worker, first.slots, first.chunks, first.busy_seconds) == ("build-a", 2, 3, 7.0)
    assert (first.tests, first.failed, first.skipped, first.test_seconds) == (2, 1, 0, 3.0)
    assert first.metrics == TestMetrics(15, 1, 0, 0.00075, rss_peak=90 * 1024)
    assert (second.worker, second.tests, second.skipped) == ("build-b", 1, 1)
