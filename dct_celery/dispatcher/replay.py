"""`dct replay`: what ran in one test process of an earlier run, run again in one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dct_celery.core import part as parts
from dct_celery.core.model import BAD_OUTCOMES, Outcome, RunReport, counted
from dct_celery.core.part import Part
from dct_celery.core.run.history import Attempt, up_to
from dct_celery.core.text import plural
from dct_celery.dispatcher.past_run import PastRun
from dct_celery.dispatcher.request import Request, forwarded
from dct_celery.errors import UsageError
from dct_celery.settings import INPUTS, OUTPUTS, Settings


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to run again. `target`: index of the test that it ends with; None if a fixture
    failed and no test."""

    past: PastRun
    attempt: Attempt
    indices: tuple[int, ...]
    target: int | None

    @property
    def part(self) -> Part:
        names = parts.names(self.past.entries, self.indices)
        about = None if self.target is None else parts.names(self.past.entries, (self.target,))[0]
        return Part(names, together=True, about=about)

    @property
    def opening(self) -> str:
        """One line: what is replayed."""
        entries = [self.past.entries[index] for index in self.indices]
        where = f"{self.attempt.lease.worker} slot {self.attempt.lease.slot}"
        last = "" if self.target is None else f", up to {self.past.entries[self.target].id}"
        return (
            f"replaying {plural(len(entries), 'test')} in {counted(entries)} that ran in one"
            f" process of {where}{last}"
        )

    def closing(self, report: RunReport) -> str:
        """One line: whether the test did the same."""
        run = f"run {self.past.run}"
        if self.target is None:
            failed = any(fixture.outcome in BAD_OUTCOMES for fixture in report.fixtures)
            return (
                f"a fixture failed, as in {run}"
                if failed
                else f"no fixture failed: one did in {run}"
            )
        entry = self.past.entries[self.target]
        verdict = next((v for v in report.verdicts if v.entry.id == entry.id), None)
        if verdict is None or (verdict.outcome is Outcome.NOT_RUN and not verdict.covered_by):
            return f"{entry.id} did not run"
        bad = verdict.bad
        before = self.target in self.attempt.bad
        if bad == before:
            return f"{entry.id} {'failed' if bad else 'passed'} as in {run}"
        return f"{entry.id} {'failed: it passed' if bad else 'passed: it failed'} in {run}"


def plan_replay(past: PastRun, test: str | None) -> Replay:
    """Raises UsageError if there is nothing to replay."""
    history = past.history
    if test is None:
        attempt = history.first_bad()
        if attempt is None:
            raise UsageError(
                f"nothing failed in run {past.run}; name a test: dct replay {past.run} TEST"
            )
        target = next((index for index in attempt.ran if index in attempt.bad), None)
    else:
        target = past.index(test)
        attempt = history.attempt_of(target)
        if attempt is None:
            raise UsageError(f"{past.entries[target].id} did not run in run {past.run}")
    if attempt.past is None:
        raise UsageError(
            f"what ran before it is not known: {attempt.lease.place} was lost in run {past.run}"
            " before it could say which process that was"
        )
    if target is None:
        return Replay(past, attempt, attempt.process, None)
    unit = past.entries[target].unit
    same = [index for index in attempt.ran if past.entries[index].unit == unit]
    return Replay(past, attempt, up_to(attempt.process, target, same), target)


def settings_again(
    past: PastRun, here: Settings, given: Mapping[str, object], slots: int = 1
) -> Settings:
    """The settings for running something of that run again.

    What selects and configures the tests is the run's own; where it runs and what it writes is
    this command's. `slots`: how many of this machine, if the run was there; 0 for one per core.
    """
    fixed = {*given, *INPUTS, *OUTPUTS, "settle", "failfast", "maxfail", "reruns"}
    settings = past.snapshot.to_settings(here, fixed)
    local = settings.local
    if past.local and not any(name in given for name in ("local", "store", "pool", "broker")):
        local = slots if local is None else local
    return replace(
        settings, failfast=False, maxfail=None, reruns=0, local=local, project_dir=here.project_dir
    )


def request_again(
    past: PastRun, settings: Settings, root: Path, environ: Mapping[str, str]
) -> Request:
    """The run's request for the present tree below `root`.

    Raises UsageError in the folder of another project.
    """
    request = past.snapshot.request
    project = Path(settings.project_dir)
    directory = os.path.relpath(project.resolve(), root.resolve()).replace(os.sep, "/")
    theirs = Path(request.root)
    elsewhere = theirs.is_dir() and not os.path.samefile(theirs, root)
    # On another machine than its dispatcher's, the same project may lie anywhere.
    if (
        elsewhere
        or directory != request.directory
        or (not theirs.is_dir() and theirs.name != root.name)
    ):
        raise UsageError(
            f"run {past.run} is of the project in {theirs / request.directory}, not of the one in"
            f" {project}; go there"
        )
    names = tuple(past.snapshot.spec.environment)
    arguments = tuple(word for word in request.arguments if word != "--failfast")
    return replace(
        request,
        root=str(root),
        arguments=arguments,
        environment=forwarded(environ, (*names, *settings.env)),
    )
