"""What a run tells while it goes on: events for whoever reports it, and the Protocol of a reporter.

A reporter is an object with one method, `take`, which is called in one thread, in the order in
which things happen:

    RunBegan · (Notice | Warned)* · Started · (TestJudged | FixtureJudged | ArtifactArrived | WorkersChanged | Stopping | PartialReport |
    Ticked | Notice | Warned)* · Finished | Failed · Closed

More kinds of events may come; pass over those that you do not know. An exception of a reporter ends
neither the run nor the other reporters: it is told once as a warning, and that reporter hears
nothing more. Only a DctError ends the run, as when a report that was asked for cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dct_celery.core.model import Artifact, FixtureVerdict, RunReport, Verdict
from dct_celery.core.run.view import RunView
from dct_celery.settings import Settings


@dataclass(frozen=True, slots=True)
class RunBegan:
    """The first event: from now on no report of an earlier run may pass for this one's."""

    #: Its id where one was chosen; else it is made later, and `Started` has it.
    run: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for people: "collected 1,234 tests in 2.1 s"."""

    text: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that is no verdict and that people should know. Its first line stands alone."""

    text: str


@dataclass(frozen=True, slots=True)
class Started:
    """The tests are known, and slots may run them. `view` goes on to change as the run does."""

    view: RunView
    #: The run's own, which an attach has from its first dispatcher.
    settings: Settings
    #: The command that runs one test again, without workers.
    rerun: Callable[[Verdict], str]
    #: The report as it is at the moment of the call.
    so_far: Callable[[], RunReport]
    #: Id of the run.
    run: str = ""


@dataclass(frozen=True, slots=True)
class TestJudged:
    """A test has its final verdict."""

    __test__ = False

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class FixtureJudged:
    """A fixture of a class, a module or the session did not simply pass; told once for each
    outcome.
    """

    fixture: FixtureVerdict


@dataclass(frozen=True, slots=True)
class ArtifactArrived:
    """A file that the attempt behind a verdict has left, whole and without secrets. Only with
    `--artifacts`.
    """

    verdict: Verdict
    artifact: Artifact
    content: bytes


@dataclass(frozen=True, slots=True)
class WorkersChanged:
    """Other workers than before can take part: their names, and the number of their slots."""

    workers: tuple[str, ...]
    slots: int
    #: Those that are connected, the ones that cannot take part included.
    present: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stopping:
    """The run ends before all tests have run. `running`: slots that run a test at this moment; a
    verdict of theirs may still come.
    """

    reason: str
    running: int


@dataclass(frozen=True, slots=True)
class Ticked:
    """Some ten times a second. For what shows the time; all else has an event of its own."""

    view: RunView


@dataclass(frozen=True, slots=True)
class PartialReport:
    """The report so far, now and then: often enough to be of use, seldom enough to cost nothing."""

    report: RunReport


@dataclass(frozen=True, slots=True)
class Finished:
    """The run has come to its end, and this is what there is to say of it."""

    report: RunReport


@dataclass(frozen=True, slots=True)
class Failed:
    """The run has ended without results."""

    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The last event, on every way out. The only one behind which there is neither Finished nor
    Failed is that of a run that goes on under another dispatcher.
    """


ReportEvent = (
    RunBegan
    | Notice
    | Warned
    | Started
    | TestJudged
    | FixtureJudged
    | ArtifactArrived
    | WorkersChanged
    | Stopping
    | Ticked
    | PartialReport
    | Finished
    | Failed
    | Closed
)


class Reporter(Protocol):
    """Folds the events of a run into what people or programs read."""

    def take(self, event: ReportEvent) -> None:
        """Raises DctError to end the run."""
