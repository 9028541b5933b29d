"""Messages of workers, about themselves and about the runs that they take part in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from dct_celery.core.codec import AtMost, Count, Seconds
from dct_celery.core.model import Artifact


class RunStage(StrEnum):
    """How far a worker is with a run."""

    PREPARING = "preparing"
    READY = "ready"
    REFUSED = "refused"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as the registry knows it."""

    name: Annotated[str, AtMost(300)]
    host: str
    slots: Count
    version: str
    protocol: Count
    #: Id of the key that it signs with: first 12 hex digits of SHA-256.
    key_id: str
    #: Ids of all keys that it accepts.
    keys: tuple[str, ...] = ()
    runs: dict[str, RunStage] = field(default_factory=dict)
    busy: Count = 0
    #: Why it does not claim chunks at the moment; empty when it does.
    backing_off: str = ""
    #: Its machine's Unix time at this heartbeat, 0 if not given; only shown to people.
    wall: float = 0.0
    #: Facts about its machine, see `worker.host.machine_facts`.
    about: dict[str, str] = field(default_factory=dict)
    #: On the store's clock: no one else can keep the entry of a stopped worker alive.
    expires_ms: Count = 0
    #: Where its messages come from: "<id that lies at the broker>|<its URL, masked>"; empty while
    #: that is not known.
    broker: str = ""
    #: Why the entry is not trusted; empty for one that was signed with our key. Never written.
    foreign: str = ""


@dataclass(frozen=True, slots=True)
class MachineEnvironment:
    """What `dct doctor` compares before a run does.

    Each worker has it in the store as a blob, whose digest is in `WorkerInfo.about`.
    """

    #: Interpreter and packages, see `core.environment`.
    facts: dict[str, str]
    #: Keyed hash of a variable's name -> of its name and value.
    variables: dict[str, str]


#: Largest one, in bytes.
MAX_ENVIRONMENT = 1024 * 1024
#: Maximum length of a report's detail in characters; its beginning is cut away.
MAX_DETAIL = 20_000


@dataclass(frozen=True, slots=True)
class ReadyReport:
    """The worker takes chunks of the run."""

    host: str
    seconds: Seconds
    #: reused | restored | built; empty without databases.
    templates: str = ""
    #: The system checks passed while it prepared.
    checked: bool = False
    #: Seconds of each step.
    steps: dict[str, Seconds] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckedReport:
    """The project's system checks have passed here."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """New use of databases by the worker's main process, see core.databases.usage."""

    use: dict[str, float]


@dataclass(frozen=True, slots=True)
class MeasuredReport:
    """Coverage data of processes that run no tests, such as the one that migrates; in the store.

    `unsent`: number of data files that were too large.
    """

    files: Annotated[tuple[Artifact, ...], AtMost(100)] = ()
    unsent: Count = 0


@dataclass(frozen=True, slots=True)
class ShortReport:
    """Some slots back off, because a database server has no room for them."""

    message: str


@dataclass(frozen=True, slots=True)
class RefusedReport:
    """The worker does not take part.

    `permanent`: no retry can fix it (a key, an environment, a suite that cannot be built).
    """

    message: str
    detail: str = ""
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class FailedReport:
    """The project failed as it would in a sequential run: system checks, migrations."""

    message: str
    detail: str = ""


WorkerReport = (
    ReadyReport
    | CheckedReport
    | UsageReport
    | MeasuredReport
    | ShortReport
    | RefusedReport
    | FailedReport
)
