"""Several reporters as one, and a wrapper that masks secrets for reporters that are not ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dct_celery.errors import DctError
from dct_celery.ports.reporting import (
    Failed,
    Finished,
    FixtureJudged,
    Notice,
    PartialReport,
    Reporter,
    ReportEvent,
    Started,
    Stopping,
    TestJudged,
    Warned,
)
from dct_celery.reports import masked
from dct_celery.security.masking import Masker


class Reporters:
    """Passes each event to every reporter, in order.

    A reporter that fails is named in one warning, and left out from then on. A DctError, which says
    that a requested report cannot be written, is raised once all reporters have had the event.
    """

    def __init__(self, reporters: Iterable[Reporter] = ()) -> None:
        self._reporters = list(reporters)

    def add(self, reporter: Reporter) -> None:
        """Adds a reporter, which gets all events from now on."""
        self._reporters.append(reporter)

    def take(self, event: ReportEvent) -> None:
        refused: DctError | None = None
        for reporter in list(self._reporters):
            try:
                reporter.take(event)
            except DctError as error:
                refused = refused or error
            except Exception as error:
                self._reporters.remove(reporter)
                self.take(Warned(_complaint(reporter, event, error)))
        if refused is not None:
            raise refused


def _complaint(reporter: Reporter, event: ReportEvent, error: Exception) -> str:
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (
        f"the reporter {name_of(reporter)} failed at {type(event).__name__} and is left out: {what}"
    )


def name_of(reporter: Reporter) -> str:
    cls = type(reporter.inner if isinstance(reporter, Masked) else reporter)
    return f"{cls.__module__}.{cls.__qualname__}"


class Masked:
    """Passes events to `inner` without secrets. Names and outcomes of tests stay the same."""

    def __init__(self, inner: Reporter, mask: Masker) -> None:
        self.inner = inner
        self._mask = mask

    def take(self, event: ReportEvent) -> None:
        self.inner.take(self._masked(event))

    def _masked(self, event: ReportEvent) -> ReportEvent:
        mask: Any = self._mask
        match event:
            case Notice(text):
                return Notice(mask(text))
            case Warned(text):
                return Warned(mask(text))
            case Stopping(reason):
                return replace(event, reason=mask(reason))
            case Failed(reason):
                return replace(event, reason=mask(reason))
            case TestJudged(verdict):
                return TestJudged(masked.verdict(verdict, mask))
            case FixtureJudged(fixture):
                return FixtureJudged(masked.fixture(fixture, mask))
            case PartialReport(report):
                return PartialReport(masked.report(report, mask))
            case Finished(report):
                return Finished(masked.report(report, mask))
            case Started(_, _, _, so_far):
                return replace(event, so_far=lambda: masked.report(so_far(), mask))
            case _:
                return event
