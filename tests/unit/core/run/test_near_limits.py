"""Claims about `core.run.near_limits`: what took 80 % of a limit is named, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from dct_celery.core.model import Limited, NearLimit
from dct_celery.core.run import events as ev
from dct_celery.core.run import near_limits
from dct_celery.core.run.near_limits import NearLimits
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, finished

SET_UP = "setUpClass (a.T)"


def run_of(count: int = 3) -> Run:
    return Run(make_manifest(group("a.T", count=count)))


def lines(found: Iterable[str]) -> list[str]:
    return list(found)


@pytest.mark.parametrize(
    ("seconds", "named"), [(47.9, False), (48.0, True), (59.9, True), (60.0, False), (600, False)]
)
def test_a_test_is_named_from_80_percent_of_its_limit_to_the_limit(
    seconds: float, named: bool
) -> None:
    # Given the limit of every test that was timed, and another one for slow tests
    run = run_of()
    [chunk] = run.offers
    limits = {"test_limit": 60.0, "limits": ((1, 900.0),)}
    run.machine._flight.queued[chunk.id].chunk = replace(chunk, **limits)  # type: ignore[arg-type]
    lease = run.claim()
    # When
    run.record(lease, finished(0, seconds=seconds), finished(1, seconds=seconds))
    # Then
    names = [one.name for one in run.machine.near_limits.found]
    assert names == [run.machine.manifest[0].id] * named


def test_a_limit_of_the_runs_own_counts_and_none_is_none() -> None:
    # Given
    run = run_of()
    verdict = finished(0, seconds=9.0).verdict(run.machine.manifest[0], run.claim())
    chunk = run.offers[0]
    # Then
    assert lines(NearLimits(test=10.0).test(verdict, chunk)) == [
        f"near its limit: test {verdict.entry.id}: 9.0 s, 90% of its 10 s"
    ]
    assert lines(NearLimits(test=0.0).test(verdict, chunk)) == []


def test_fixtures_and_chunks_are_named_when_the_chunk_has_ended() -> None:
    # Given
    run = run_of(1)
    run.machine.near_limits = NearLimits(test=10.0, fixture=20.0)
    lease = run.claim()
    run.record(lease, finished(0))
    # When the limit of the chunk is 10 + 2 * 3 * 20 seconds
    of_pytest = ("set-up of rows (module, test_a.py)", 16.0, "")
    run.complete(lease, busy_seconds=110.0, fixtures=(of_pytest, (SET_UP, 16.0, "")))
    # Then
    assert run.machine.near_limits.found == [
        NearLimit(Limited.FIXTURE, SET_UP, 16.0, 20.0),
        NearLimit(Limited.CHUNK, lease.chunk, 110.0, 130.0),
    ]
    assert [one.text for one in run.all(ev.Warn)] == [
        "near its limit: fixture setUpClass (a.T): 16.0 s, 80% of its 20 s",
        f"near its limit: chunk {lease.chunk}: 110.0 s, 85% of its 130 s",
    ]


def test_the_run_is_named_once() -> None:
    # Given
    near = NearLimits()
    # When
    told = [lines(near.run("r1", seconds, 100.0)) for seconds in (79.0, 81.0, 90.0)]
    # Then
    assert told == [[], ["near its limit: run r1: 81.0 s, 81% of its 100 s"], []]


def test_a_thousand_slow_tests_are_kept_and_ten_are_named_on_the_way() -> None:
    # Given
    near, run = NearLimits(test=10.0), run_of()
    verdict = finished(0, seconds=9.0).verdict(run.machine.manifest[0], run.claim())
    # When
    told = [line for _ in range(1200) for line in near.test(verdict, run.offers[0])]
    # Then
    assert (len(near.found), len(told)) == (near_limits.MOST, 10)
