"""Records: the result of one test or fixture in one attempt, from test process to dispatcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from dct_celery.core.codec import AtMost, Count, Seconds
from dct_celery.core.metrics import MEASURED, Measured
from dct_celery.core.model import (
    Artifact,
    Entry,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Outcome,
    Verdict,
)
from dct_celery.core.run.leases import LeaseRef


@dataclass(frozen=True, slots=True)
class TestRecord:
    """A test of the manifest has ended. `seconds` by the monotonic clock of its host."""

    __test__: ClassVar[bool] = False

    index: Count
    outcome: Outcome
    seconds: Seconds
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    output: str = ""
    sql: str = ""
    covered_by: FixtureRef | None = None
    artifacts: Annotated[tuple[Artifact, ...], AtMost(100)] = ()
    reports: str = ""
    #: What it has used, see core.metrics.
    measured: Measured = ""

    def verdict(self, entry: Entry, lease: LeaseRef) -> Verdict:
        return Verdict(
            entry=entry,
            outcome=self.outcome,
            seconds=self.seconds,
            worker=lease.worker,
            slot=lease.slot,
            attempt=lease.attempt,
            failures=self.failures,
            reason=self.reason,
            output=self.output,
            sql=self.sql,
            covered_by=self.covered_by,
            artifacts=self.artifacts,
            reports=self.reports,
            measured=self.measured,
        )


@dataclass(frozen=True, slots=True)
class FixtureRecord:
    """A class or module fixture has failed or skipped."""

    fixture: FixtureRef
    outcome: Outcome
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    output: str = ""

    def verdict(self, lease: LeaseRef) -> FixtureVerdict:
        return FixtureVerdict(
            self.fixture,
            self.outcome,
            worker=lease.worker,
            slot=lease.slot,
            failures=self.failures,
            reason=self.reason,
            output=self.output,
        )


Record = TestRecord | FixtureRecord

#: The record, as it travels, of a test that passed without output: nearly all are of this form.
PASSED = '{"kind":"TestFinished","index":%d,"outcome":"passed","seconds":%.6f}'
#: The same where something was measured of it.
PASSED_MEASURED = f'{PASSED[:-1]},"measured":"%s"}}'
#: Matches exactly these forms. What matches is a valid record, and need not be decoded to be
#: accepted.
PASSED_FORM = (
    r'\{"kind":"TestFinished","index":(0|[1-9][0-9]{0,14}),"outcome":"passed",'
    r'"seconds":((?:0|[1-9][0-9]{0,8})\.[0-9]{6})'
    rf'(?:,"measured":"({MEASURED})")?\}}'
)
