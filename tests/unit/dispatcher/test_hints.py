"""Claims about `dispatcher.hints`: what a failure misses is said at its end."""

from __future__ import annotations

import pytest

from dct_celery.core.model import Failure, FixtureRef, Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import FixtureRecord, TestRecord
from dct_celery.dispatcher import hints
from dct_celery.protocol.workers import FailedReport, ReadyReport, RefusedReport

LEASE = LeaseRef("c1", 1, 1, "build-a@host", 0)
FAILURE = Failure("failure", "AssertionError", "no", "Traceback\nAssertionError: no\n")


def hint(text: str) -> str:
    return "include x.mo" if "no" in text else ""


def recorded(*records: TestRecord | FixtureRecord) -> ev.Recorded:
    return ev.Recorded(LEASE, len(records), records)


def test_a_failure_ends_with_the_hint() -> None:
    # Given
    fixture = FixtureRef.parse("setUpClass (app.T)")
    event = recorded(
        TestRecord(0, Outcome.FAILED, 0.1, (FAILURE,)),
        FixtureRecord(fixture, Outcome.ERROR, (FAILURE,)),
    )
    # When
    found = hints.of_records(event, hint)
    # Then
    for record in found.records:
        assert record.failures[0].text == "Traceback\nAssertionError: no\n\ninclude x.mo\n"
        assert record.failures[0].message == "no; include x.mo"
    assert (found.lease, found.seq) == (LEASE, 2)


@pytest.mark.parametrize("outcome", [Outcome.PASSED, Outcome.XFAILED, Outcome.SKIPPED])
def test_what_is_no_failure_is_left_as_it_is(outcome: Outcome) -> None:
    # Given
    event = recorded(TestRecord(0, outcome, 0.1, (FAILURE,)))
    # Then
    assert hints.of_records(event, hint) is event


def test_of_a_batch_only_the_failures_are_explained() -> None:
    # Given
    expected = TestRecord(1, Outcome.XFAILED, 0.1, (FAILURE,))
    event = recorded(TestRecord(0, Outcome.FAILED, 0.1, (FAILURE,)), expected)
    # Then
    assert hints.of_records(event, hint).records[1] == expected


def test_a_failure_without_a_hint_is_left_as_it_is() -> None:
    # Given
    plain = Failure("failure", "AssertionError", "x", "Traceback\n")
    # Then
    event = recorded(TestRecord(0, Outcome.FAILED, 0.1, (plain,)))
    assert hints.of_records(event, hint) == event


def test_a_worker_that_cannot_take_part_says_it_too() -> None:
    assert hints.of_report(RefusedReport("refused", "no"), hint) == RefusedReport(
        "refused; include x.mo", "no"
    )
    assert hints.of_report(FailedReport("no"), hint) == FailedReport("no; include x.mo")
    for report in (RefusedReport("refused"), ReadyReport("no host", 1.0, "built")):
        assert hints.of_report(report, hint) is report
