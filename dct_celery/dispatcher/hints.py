"""What failures on workers say about files that only this machine has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dct_celery.core.model import BAD_OUTCOMES, Failure
from dct_celery.core.run import events as ev
from dct_celery.core.run.records import Record
from dct_celery.protocol.workers import FailedReport, RefusedReport, WorkerReport

#: The text of a failure -> a sentence, or "".
Hint = Callable[[str], str]


def of_records(event: ev.Recorded, hint: Hint) -> ev.Recorded:
    """The event, with the hint at the end of message and text of each failure that has one."""
    if not any(record.outcome in BAD_OUTCOMES for record in event.records):
        return event
    return replace(event, records=tuple(_explained(record, hint) for record in event.records))


def of_report(report: WorkerReport, hint: Hint) -> WorkerReport:
    """A report that keeps a worker, or the run, from going on: with the hint in its message."""
    if not isinstance(report, RefusedReport | FailedReport):
        return report
    found = hint(f"{report.message}\n{report.detail}")
    return replace(report, message=f"{report.message}; {found}") if found else report


def _explained(record: Record, hint: Hint) -> Record:
    if record.outcome not in BAD_OUTCOMES:
        return record
    return replace(record, failures=tuple(_failure(one, hint) for one in record.failures))


def _failure(failure: Failure, hint: Hint) -> Failure:
    found = hint(failure.text)
    if not found:
        return failure
    return replace(
        failure,
        message=f"{failure.message}; {found}" if failure.message else found,
        text=f"{failure.text.rstrip()}\n\n{found}\n",
    )
