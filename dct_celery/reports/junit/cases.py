"""What a JUnit document says of each verdict and failed fixture: one case with at most one failure,
error or skip.

A red run never becomes a green document: what has no verdict is an error, and a test is only shown
as skipped for a failed fixture if that fixture has a case of its own. No XML in here, and no text
is cleaned or cut yet.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from dct_celery.core.model import (
    BAD_OUTCOMES,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Outcome,
    RunReport,
    Verdict,
    worst,
)
from dct_celery.reports.artifacts import relative_path


@dataclass(frozen=True, slots=True)
class Result:
    """The failure, error or skip of a case; `body` is its full text without the message."""

    #: failure, error or skipped.
    tag: str
    type: str
    #: One line.
    message: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Rerun:
    """An attempt that failed and was followed by another one."""

    #: `result.tag` is flakyFailure or flakyError where a later attempt passed, else rerunFailure or
    #: rerunError.
    result: Result
    output: str = ""


class Case(NamedTuple):
    """One testcase: class, name and what belongs to it.

    There is one for each test; a tuple is made in a third of the time of a frozen dataclass.
    """

    cls: str
    name: str
    result: Result | None
    seconds: float = 0.0
    file: str | None = None
    line: int | None = None
    worker: str | None = None
    slot: int | None = None
    attempt: int | None = None
    tags: tuple[str, ...] = ()
    output: str = ""
    sql: str = ""
    reruns: tuple[Rerun, ...] = ()
    #: How it depends on the order of tests; empty if it does not.
    order: str = ""
    #: Paths below the folder of --artifacts.
    artifacts: tuple[str, ...] = ()
    #: What it has used, see core.metrics.
    measured: str = ""

    @property
    def red(self) -> bool:
        return self.result is not None and self.result.tag != "skipped"

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Characters of (failure text, outputs) of each result; nothing for a plain pass."""
        own = ((len(self.result.body), len(self.output) + len(self.sql)),) if self.result else ()
        return own + tuple((len(rerun.result.body), len(rerun.output)) for rerun in self.reruns)


def cases_of(report: RunReport) -> Iterator[Case]:
    """Every case of the document: the verdicts in manifest order, failed fixtures after them.

    A run that is red although no test is, or that ended without results, gets a case `run` of its
    own.
    """
    red = report.exit_code in (0, 5)  # and so needs no red case
    for case in itertools.chain(_verdict_cases(report), _fixture_cases(report)):
        red = red or case.red
        yield case
    if report.error or not red:
        yield _run_case(report)


def _verdict_cases(report: RunReport) -> Iterator[Case]:
    fixtures = _fixture_index(report)
    for verdict in report.verdicts:
        by = verdict.covered_by
        fixture = (
            fixtures.get((by, verdict.entry.index)) or fixtures.get((by, None)) if by else None
        )
        yield _verdict_case(verdict, _result(verdict, fixture))


def _fixture_cases(report: RunReport) -> Iterator[Case]:
    return (
        _fixture_case(fixture, report)
        for fixture in report.fixtures
        if fixture.outcome in BAD_OUTCOMES
    )


def _fixture_index(report: RunReport) -> dict[tuple[FixtureRef, int | None], FixtureVerdict]:
    """(fixture, covered index or None for any) -> the worst such fixture that explains why a test
    did not run.
    """
    found: dict[tuple[FixtureRef, int | None], FixtureVerdict] = {}
    for fixture in report.fixtures:
        if fixture.outcome not in BAD_OUTCOMES and fixture.outcome is not Outcome.SKIPPED:
            continue
        for index in (None, *fixture.covers):
            other = found.setdefault((fixture.fixture, index), fixture)
            if worst((fixture.outcome, other.outcome)) is not other.outcome:
                found[fixture.fixture, index] = fixture
    return found


def _verdict_case(verdict: Verdict, result: Result | None) -> Case:
    entry = verdict.entry
    file, line = verdict.place
    case = Case(
        cls=entry.cls or entry.module,
        name=entry.name,
        result=result,
        seconds=verdict.seconds,
        file=file,
        line=line,
        worker=verdict.worker,
        slot=verdict.slot,
        attempt=None if verdict.worker is None else verdict.attempt,
        tags=entry.tags,
        order=str(verdict.order) if verdict.order else "",
        measured=verdict.measured,
    )
    if verdict.artifacts:
        paths = tuple(relative_path(entry, artifact) for artifact in verdict.artifacts)
        case = case._replace(artifacts=paths)
    if case.red:
        case = case._replace(output=verdict.output, sql=verdict.sql)
    if verdict.earlier:
        prefix = "flaky" if verdict.flaky else "rerun"
        case = case._replace(reruns=tuple(_rerun(earlier, prefix) for earlier in verdict.earlier))
    return case


def _rerun(verdict: Verdict, prefix: str) -> Rerun:
    tag = "error" if verdict.outcome is Outcome.ERROR else "failure"
    result = _problem(tag, verdict.failures, verdict.reason or verdict.outcome.value)
    return Rerun(replace(result, tag=prefix + tag.capitalize()), verdict.output)


def _fixture_case(fixture: FixtureVerdict, report: RunReport) -> Case:
    """The synthetic case `setUpClass` in its class's suite (`setUpModule` in one named after the
    module).
    """
    tag = "error" if fixture.outcome is Outcome.ERROR else "failure"
    covered = (
        report.verdicts[i].entry.file for i in fixture.covers if 0 <= i < len(report.verdicts)
    )
    place = next(
        ((f.file, f.line) for f in fixture.failures if f.file),
        (next(filter(None, covered), None), None),
    )
    return Case(
        cls=fixture.fixture.name or fixture.id,
        name=fixture.phase,
        result=_problem(tag, fixture.failures, fixture.reason or f"{fixture.phase} failed"),
        file=place[0],
        line=place[1],
        worker=fixture.worker,
        slot=fixture.slot,
        output=fixture.output,
        order=str(fixture.order) if fixture.order else "",
    )


def _run_case(report: RunReport) -> Case:
    """Stands for a run that is red although no test is."""
    message = report.error or report.note or f"the run ended with exit code {report.exit_code}"
    return Case(cls="dct", name="run", result=Result("error", "dct.Run", _line(message), message))


def _result(verdict: Verdict, fixture: FixtureVerdict | None) -> Result | None:
    match verdict.outcome:
        case Outcome.PASSED:
            return None
        case Outcome.SKIPPED | Outcome.NOT_RUN if fixture:
            return _covered(verdict, fixture)
        case Outcome.SKIPPED:
            return _skipped(verdict.reason or "skipped")
        case Outcome.NOT_RUN if verdict.left_out:
            return _skipped(verdict.reason)
        case Outcome.NOT_RUN:
            return _not_run(verdict)
        case Outcome.XFAILED:
            detail = verdict.reason or "\n".join(f.text for f in verdict.failures)
            return Result("skipped", "expectedFailure", "expected failure", detail)
        case Outcome.XPASSED:
            return Result("failure", "unexpectedSuccess", "unexpected success", verdict.reason)
        case Outcome.FAILED | Outcome.ERROR:
            tag = "error" if verdict.outcome is Outcome.ERROR else "failure"
            return _problem(tag, verdict.failures, verdict.reason or verdict.outcome.value)


def _skipped(reason: str) -> Result:
    return Result("skipped", "", _line(reason) or "skipped", reason)


def _not_run(verdict: Verdict) -> Result:
    by = (
        f"kept from running by {verdict.covered_by}, which has no verdict"
        if verdict.covered_by
        else ""
    )
    reason = verdict.reason or by or "not run"
    return Result("error", "dct.NotRun", _line(reason) or "not run", reason)


def _covered(verdict: Verdict, fixture: FixtureVerdict) -> Result:
    if fixture.outcome is Outcome.SKIPPED:
        return _skipped(fixture.reason or verdict.reason or f"{fixture.id} skipped")
    why = fixture.failures[0].message if fixture.failures else fixture.reason
    return Result("skipped", "", f"{fixture.phase} failed", f"{fixture.id}: {why}")


def _problem(tag: str, failures: tuple[Failure, ...], reason: str) -> Result:
    """One failure or error of everything that went wrong: several subtests, or a test and its
    tearDown.
    """
    if not failures:
        return Result(tag, f"dct.{tag}", _line(reason) or tag, reason)
    lead = next((f for f in failures if f.kind == tag), failures[0])
    message = _line(lead.message) or _line(lead.type) or tag
    if lead.subtest:
        message = f"{lead.subtest} {message}"
    if len(failures) == 1:
        return Result(tag, lead.type or tag, message, lead.text)
    noun = "subtests failed" if all(f.subtest for f in failures) else "failures"
    body = "\n\n".join(f"[{f.subtest or 'test'}] {f.type}: {f.message}\n{f.text}" for f in failures)
    return Result(tag, lead.type or tag, f"{len(failures)} {noun}, first: {message}", body)


def _line(text: str) -> str:
    """The first line that is not blank."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
