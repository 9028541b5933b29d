"""Records of the stream as verdicts: what one attempt says of a test or a fixture."""

from __future__ import annotations

from typing import Any

from dct_celery.core.events import Lease
from dct_celery.core.model import Entry, Failure, FixtureVerdict, Outcome, Verdict


def verdict_of_test(entry: Entry, record: dict[str, Any], lease: Lease) -> Verdict:
    """`record`: a TestFinished message as a dict. KeyError, TypeError or ValueError for anything else."""
    return Verdict(
        entry=entry,
        outcome=Outcome(record["outcome"]),
        seconds=record["seconds"],
        worker=lease.worker,
        slot=lease.slot,
        attempt=lease.attempt,
        failures=_failures(record),
        reason=record.get("reason", ""),
        output=record.get("output", ""),
        sql=record.get("sql", ""),
        covered_by=record.get("covered_by"),
    )


def verdict_of_fixture(record: dict[str, Any], lease: Lease) -> FixtureVerdict:
    """`record`: a FixtureFinished message as a dict."""
    return FixtureVerdict(
        id=record["id"],
        phase=record["phase"],
        outcome=Outcome(record["outcome"]),
        worker=lease.worker,
        slot=lease.slot,
        failures=_failures(record),
        reason=record.get("reason", ""),
        output=record.get("output", ""),
    )


def _failures(record: dict[str, Any]) -> tuple[Failure, ...]:
    return tuple(Failure.from_dict(failure) for failure in record.get("failures", ()))
