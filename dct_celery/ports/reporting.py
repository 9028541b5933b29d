"""What a run reports as it goes on: the events, and the Protocol of a reporter.

A reporter is an object with one method, `take`, which is called in one thread, in the order in
which things happen:

    RunBegan (a new run) · (Notice | Warned)* ·
    Started · (TestJudged | FixtureJudged | ArtifactArrived | WorkersChanged | Stopping |
               PartialReport | Ticked | Notice | Warned)* · FileArrived* ·
    (Finished [· CoverageArrived]) | Failed · Closed

New kinds of events may be added; ignore those that you do not know. An exception of a reporter ends
neither the run nor the other reporters: it is reported once as a warning, and that reporter gets no
more events. Only a DctError ends the run, as when a requested report cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dct_celery.core.model import Artifact, FixtureVerdict, KeptFile, RunReport, Verdict
from dct_celery.core.run.view import RunView
from dct_celery.settings import Settings


@dataclass(frozen=True, slots=True)
class RunBegan:
    """The first event: from now on no report of an earlier run may be taken for this one's."""

    #: Its id if the user chose one; otherwise `Started` has it.
    run: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for people: "collected 1,234 tests in 2.1 s"."""

    text: str


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning, which is not a verdict. Its first line can stand alone."""

    text: str


@dataclass(frozen=True, slots=True)
class Started:
    """The tests are known, and slots may run them. `view` changes as the run goes on."""

    view: RunView
    #: The settings of the run; `dct attach` gets them from the run's first dispatcher.
    settings: Settings
    #: The command that runs one test again, without workers.
    rerun: Callable[[Verdict], str]
    #: The report as it is at the moment of the call.
    so_far: Callable[[], RunReport]
    #: Id of the run.
    run: str = ""
    #: What the framework has reported while it collected: text of the backend, see
    #: wire.messages.Loaded.
    session: str = ""
    #: Their ids, in order.
    ids: Callable[[], list[str]] = list


@dataclass(frozen=True, slots=True)
class TestJudged:
    """A test has its final verdict."""

    __test__ = False

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class FixtureJudged:
    """A fixture of a class, a module or the session did not simply pass.

    Sent once for each outcome.
    """

    fixture: FixtureVerdict


@dataclass(frozen=True, slots=True)
class ArtifactArrived:
    """A file that the attempt behind a verdict left, whole and masked. Only with `--artifacts`."""

    verdict: Verdict
    artifact: Artifact
    content: bytes


@dataclass(frozen=True, slots=True)
class CoverageArrived:
    """What was measured of the project's code, after `Finished`. Only where something is measured.

    `folder` has a data file for each accepted attempt, as `reports.coverage_data` reads them, and
    is removed afterwards; `root`: top of the tree on this machine.
    """

    folder: Path
    root: Path


@dataclass(frozen=True, slots=True)
class FileArrived:
    """A file that tests wrote where --artifact-path says, whole and masked. Before `Finished`.

    `place`: path below `root`, the top of the tree on this machine, where it is to be written.
    """

    root: Path
    place: str
    file: KeptFile
    content: bytes


@dataclass(frozen=True, slots=True)
class WorkersChanged:
    """The workers that can take part have changed: their names, and the number of their slots."""

    workers: tuple[str, ...]
    slots: int
    #: All connected workers, including those that cannot take part.
    present: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stopping:
    """The run ends before all tests have run.

    `running`: slots that are running a test; their verdicts may still come.
    """

    reason: str
    running: int


@dataclass(frozen=True, slots=True)
class Ticked:
    """Sent about ten times a second, for what shows the time; all else has its own event."""

    view: RunView


@dataclass(frozen=True, slots=True)
class PartialReport:
    """The report so far, from time to time."""

    report: RunReport


@dataclass(frozen=True, slots=True)
class Finished:
    """The run has ended, and this is its report."""

    report: RunReport


@dataclass(frozen=True, slots=True)
class Failed:
    """The run has ended without results."""

    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The last event, always sent.

    Neither Finished nor Failed comes before it only if the run goes on under another dispatcher.
    """


ReportEvent = (
    RunBegan
    | Notice
    | Warned
    | Started
    | TestJudged
    | FixtureJudged
    | ArtifactArrived
    | CoverageArrived
    | FileArrived
    | WorkersChanged
    | Stopping
    | Ticked
    | PartialReport
    | Finished
    | Failed
    | Closed
)


class Reporter(Protocol):
    """Folds the events of a run into what people or programs read.

    Events come without secrets, which costs a copy of each. A reporter with the attribute
    `masks = True` gets them as they are, and masks what it shows or writes.
    """

    def take(self, event: ReportEvent) -> None:
        """Raises DctError to end the run."""
