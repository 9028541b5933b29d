"""The messages between worker and user's process: frozen, named, versioned, JSON.

    worker ──▶ loader          Load, MigrateAgain
    loader ──▶ worker          Loaded [Entries…], MigratedAgain | Fatal
    slot   ──▶ loader          (a path on the fork FIFO, naming a file with a ForkOrder)
    slot   ──▶ test process    Attach | Build | Check | Flush | Serialize | WriteSuite | RunChunk
                               | TearDown | Goodbye
    test process ──▶ slot      Attached | Built | Checked | Flushed | Serialized | SuiteWritten
                               | TornDown | Fatal
                               TestStarted, FixtureStarted, TestFinished, FixtureFinished …,
                               ChunkFinished

Durations are seconds (float) measured by the sender's CLOCK_MONOTONIC. An unknown kind or field is
a ProtocolError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from dct_celery.core import codec
from dct_celery.core.codec import AtMost, Count, Seconds
from dct_celery.core.metrics import FixtureUse
from dct_celery.core.model import MAX_KEPT, Entry, Failure, FixtureRef, KeptFile, Outcome
from dct_celery.core.run.leaks import LeakRecord
from dct_celery.core.run.records import (
    PASSED,
    PASSED_FORM,
    PASSED_MEASURED,
    FixtureRecord,
    TestRecord,
)
from dct_celery.errors import ProtocolError

#: Exit status of a test process whose channel a test has closed: its only way to report that.
CHANNEL_CLOSED = 87

#: Reasons of a Fatal that concern loading the project. A test process has them where the project
#: has threads, so that it is not forked.
LOADING = frozenset({"command", "backend", "settings", "labels", "collection", "coverage"})

_KINDS: dict[str, type[Message]] = {}
M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages; `kind` is the class name on the wire."""

    kind: ClassVar[str] = ""

    def encode(self) -> bytes:
        """JSON, ASCII only, so that lone surrogates in a test's output survive.

        Fields with their default value are left out.
        """
        return codec.dumps({"kind": self.kind, **codec.encode(self)}).encode("ascii")


def message(cls: type[M]) -> type[M]:
    """Class decorator: registers a message under its class name."""
    cls.kind = cls.__name__
    _KINDS[cls.kind] = cls
    return cls


def prepare() -> None:
    """Makes all decoders: later, tests may have patched what making them needs."""
    for cls in _KINDS.values():
        codec.decoder(cls)  # type: ignore[arg-type]  # every type is hashable


def decode(payload: bytes) -> Message:
    """The message in a frame: one line of ASCII.

    Raises ProtocolError, with the raw bytes, for anything else.
    """
    if plain := _PLAIN.fullmatch(payload):
        begun, index, seconds, measured = plain.groups()
        if begun:
            return TestStarted(int(begun))
        used = measured.decode() if measured else ""
        return TestFinished(int(index), Outcome.PASSED, float(seconds), measured=used)
    if b"\n" in payload or b"\r" in payload:  # a spool has one record per line
        raise ProtocolError("not a message of ours: it has more than one line", payload[:4096])
    try:
        data = codec.loads(payload.decode("ascii"))
        read = codec.decoder(_KINDS[data.pop("kind")])  # type: ignore[arg-type]  # hashable
        found: Message = read(data)
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"not a message of ours: {error}"[:300], payload[:4096]) from error


@message
@dataclass(frozen=True, slots=True)
class Load(Message):
    """Import the project and build its suite, as the project's own command does."""

    #: Name of the backend that does it, see core.backends.
    backend: str
    #: The arguments that choose and order the tests.
    arguments: tuple[str, ...]
    #: Absolute path of the root of the tree.
    root: str
    #: Working directory, relative to the root.
    directory: str
    #: Absolute paths to put in front of sys.path, in this order.
    sys_path: list[str]
    #: Send the Entries and exit (collect), or stay and fork test processes (loader).
    collect_only: bool
    #: FIFO that brings fork orders (loader only).
    fork_fifo: str = ""
    #: Globs below `directory`: files that data migrations read (loader only).
    template_depends: list[str] = field(default_factory=list)
    #: For hashes of the variables' values, which leave the process instead of them.
    environment_key: str = ""
    #: Path of the ForkOrder of a slot: serve it instead of forking. From a loader that cannot fork.
    fork_order: str = ""
    #: Folder that has the loader's TMPDIR; each fork has what lies there for itself.
    temporary: str = ""
    #: Digest of the manifest that this suite must have (with `fork_order`).
    digest: str = ""
    #: The project's own command, what stands behind `python`: see core.command. Empty for a backend
    #: that has none.
    command: tuple[str, ...] = ()
    #: Measure coverage of the project's code.
    coverage: bool = False


@message
@dataclass(frozen=True, slots=True)
class Loaded(Message):
    """The suite is built."""

    count: int
    digest: str
    seconds: float
    #: Facts that decide verdicts: see core.environment.
    environment: dict[str, str]
    #: One per test database: see testproc.django.databases.describe.
    databases: list[dict[str, Any]]
    #: What the sequential run does and a distributed one does not: a clause each.
    not_honoured: list[str] = field(default_factory=list)
    #: host:port/db of every Redis that the project itself is configured to use.
    redis_in_use: list[str] = field(default_factory=list)
    #: Hash of everything on this side that decides what a template holds: see
    #: testproc.django.template_key.
    schema: str = ""
    #: Aliases that some test of the selection flushes.
    flushes: list[str] = field(default_factory=list)
    #: One per configured alias, used or not: see security.guards.Configured.
    configured: list[dict[str, Any]] = field(default_factory=list)
    #: Facts for reports and guards: django, python, debug (the project's own DEBUG), settings (the
    #: module's name), and the variables of security.guards.ENVIRONMENT_VARIABLES.
    facts: dict[str, str] = field(default_factory=dict)
    #: Command that re-runs one test, without the test's name, see core.backends.rerun.
    rerun: tuple[str, ...] = ()
    #: The project's own receivers of the signals of `migrate`.
    receivers: list[str] = field(default_factory=list)
    #: Threads of the project that live when its suite is built: it cannot be forked.
    threads: list[str] = field(default_factory=list)
    #: Names of the environment variables that the project has set itself while it was loaded.
    variables: list[str] = field(default_factory=list)
    #: Id of the test that stands for a module that cannot be imported -> why, in one line.
    unimported: dict[str, str] = field(default_factory=dict)
    #: What the framework has reported while it collected: text of the backend.
    session: str = ""
    #: The user's arguments say that the run ends after this many failures; 0: it does not.
    maxfail: Count = 0
    #: The loader has something to tear down when it ends.
    lasting: bool = False
    #: Coverage of the project's code is measured.
    measured: bool = False
    #: Globs of files that come home, by the user's arguments.
    artifact_paths: list[str] = field(default_factory=list)
    #: File of timings that the project's settings name; empty: they name none.
    timings_file: str = ""


@message
@dataclass(frozen=True, slots=True)
class Entries(Message):
    """A part of the manifest, in order (collect only). `last` marks the end."""

    entries: tuple[Entry, ...]
    last: bool


@message
@dataclass(frozen=True, slots=True)
class MigrateAgain(Message):
    """Leave in memory what migrating does: the templates exist, and these are clones of them."""

    databases: dict[str, str]
    #: Primary alias -> identity of the server that it must be on, where that matters.
    servers: dict[str, str] = field(default_factory=dict)


@message
@dataclass(frozen=True, slots=True)
class MigratedAgain(Message):
    seconds: float


@message
@dataclass(frozen=True, slots=True)
class Fatal(Message):
    """The sender cannot do what was asked, and exits.

    `reason` is one of: command, backend, settings, labels, collection, coverage, checks, database,
    template, internal, elsewhere (the project's connections lead to another database than the given
    one).
    """

    reason: str
    message: str
    detail: str = ""
    #: Variables that the project has read in vain while it was imported.
    unset: tuple[str, ...] = ()
    #: As in `Loaded`.
    session: str = ""
    #: As in `errors.CollectionError`.
    status: int | None = None


@message
@dataclass(frozen=True, slots=True)
class ForkOrder(Message):
    """What a new fork of the loader needs to find its slot: paths that the slot created."""

    inbox: str
    outbox: str
    #: The loader holds its read end: end of file means that the slot died, and the loader kills the
    #: fork.
    lifeline: str
    #: Where standard output and error go.
    log: str
    #: Where faulthandler writes.
    stacks: str
    #: Written by the loader when the fork has ended: "exit N" or "signal N", and in a second line
    #: its peak memory in KiB.
    status: str
    #: Variables set in the fork: DCT_SLOT, DCT_PROCESS (its number, which no other test process of
    #: the run has; 0 if it runs no tests), TMPDIR, XDG_CACHE_HOME, _DCT_FORK.
    environment: dict[str, str]
    #: Folder for what the fork writes into the tree, which it then has for itself; empty for none.
    layer: str = ""
    #: Why the fork shares the tree with other slots, so that what tests write there is watched.
    shared: str = ""
    #: File for coverage data of a fork that runs no tests; written when it ends.
    coverage: str = ""
    #: Globs below the root: files that come home.
    artifact_paths: list[str] = field(default_factory=list)


@message
@dataclass(frozen=True, slots=True)
class Attach(Message):
    """Point the aliases at these databases and run the project's own setup_databases around it."""

    #: Primary alias -> database name, or path of the template file for SQLite in memory.
    databases: dict[str, str]
    #: Primary alias -> file with the serialized contents of the template.
    serialized: dict[str, str]
    #: Aliases to flush after attaching: the project's own setup_databases adds rows that a flush
    #: must remove, or its receivers leave something in memory.
    flush: list[str] = field(default_factory=list)
    #: Primary alias -> identity of the server that it must be on, where that matters.
    servers: dict[str, str] = field(default_factory=dict)
    #: Aliases whose database is a clone of a flushed template.
    flushed: list[str] = field(default_factory=list)


@message
@dataclass(frozen=True, slots=True)
class Attached(Message):
    """The aliases point at the databases."""

    pid: int
    seconds: float
    #: Why the tree is shared with other slots; empty where the fork has it for itself.
    shared: str = ""


@message
@dataclass(frozen=True, slots=True)
class Build(Message):
    """Create and migrate the test databases under these names, then run the system checks.

    Both as Django does.
    """

    databases: dict[str, str]
    #: Primary alias -> connection limit that marks its database as ours from its creation on
    #: (PostgreSQL).
    limits: dict[str, int] = field(default_factory=dict)
    #: Primary alias -> identity of the server that it must be on, where that matters.
    servers: dict[str, str] = field(default_factory=dict)


@message
@dataclass(frozen=True, slots=True)
class Check(Message):
    """Attach to these databases and run the system checks.

    For runs whose templates exist already.
    """

    databases: dict[str, str]
    #: Primary alias -> identity of the server that it must be on, where that matters.
    servers: dict[str, str] = field(default_factory=dict)


@message
@dataclass(frozen=True, slots=True)
class Checked(Message):
    """The system checks found no error."""

    seconds: float


@message
@dataclass(frozen=True, slots=True)
class Built(Message):
    """The databases are created and migrated."""

    seconds: float
    #: What migrate printed.
    output: str


@message
@dataclass(frozen=True, slots=True)
class Flush(Message):
    """Attach to these databases and flush the given aliases as a TransactionTestCase does."""

    databases: dict[str, str]
    aliases: list[str]
    #: Primary alias -> identity of the server that it must be on, where that matters.
    servers: dict[str, str] = field(default_factory=dict)


@message
@dataclass(frozen=True, slots=True)
class Flushed(Message):
    """The aliases are flushed."""

    seconds: float
    #: Why the databases cannot be flushed, for the project's sake: they are as its own flush leaves
    #: them.
    failed: str = ""


@message
@dataclass(frozen=True, slots=True)
class Serialize(Message):
    """Attach to these pristine databases and serialize each alias into its file."""

    databases: dict[str, str]
    files: dict[str, str]
    #: Primary alias -> identity of the server that it must be on, where that matters.
    servers: dict[str, str] = field(default_factory=dict)


@message
@dataclass(frozen=True, slots=True)
class Serialized(Message):
    """The files are written."""

    seconds: float


@message
@dataclass(frozen=True, slots=True)
class WriteSuite(Message):
    """Write the identity of each test into this file: a list of (id, class, phase), as JSON."""

    file: str


@message
@dataclass(frozen=True, slots=True)
class SuiteWritten(Message):
    seconds: float


@message
@dataclass(frozen=True, slots=True)
class RunChunk(Message):
    """Run these manifest entries in this order."""

    chunk: str
    indices: list[int]
    #: Folder for files that records name as artifacts, each under its digest; empty for none.
    artifacts: str = ""
    #: Indices before which to stop if something of the chunk has failed.
    stops: list[int] = field(default_factory=list)
    #: File for coverage data of the chunk; empty where they do not count, or nothing is measured.
    coverage: str = ""
    #: Folder for files that come home, each under its digest; empty where they do not.
    files: str = ""
    #: Count what tests use, see core.metrics.
    metrics: bool = False


@message
@dataclass(frozen=True, slots=True)
class TestStarted(Message):
    """Sent before the test's class is set up, so that a crash has a suspect."""

    __test__: ClassVar[bool] = False
    index: Count


@message
@dataclass(frozen=True, slots=True)
class TestFinished(TestRecord, Message):
    """One record per entry of the chunk, as it ends."""

    __test__: ClassVar[bool] = False


def started(index: int) -> bytes:
    """`TestStarted(index).encode()`, at a tenth of its cost: one goes out for every test."""
    return _STARTED % index


def passed(index: int, seconds: float, measured: str = "") -> bytes:
    """`TestFinished(index, "passed", seconds, measured=…).encode()`, at a tenth of its cost.

    Most tests pass and print nothing.
    """
    if measured:
        return _PASSED_MEASURED % (index, seconds, measured.encode("ascii"))
    return _PASSED % (index, seconds)


_STARTED = b'{"kind":"TestStarted","index":%d}'
_PASSED = PASSED.encode()
_PASSED_MEASURED = PASSED_MEASURED.encode()
#: Matches what `started` and `passed` write, at a tenth of the cost of decoding it.
_PLAIN = re.compile(
    rb'\{"kind":"TestStarted","index":(0|[1-9][0-9]{0,14})\}|' + PASSED_FORM.encode()
)


@message
@dataclass(frozen=True, slots=True)
class FixtureStarted(Message):
    """Sent before a class or module fixture; None: it is over.

    So a crash or hang in a fixture is not taken for the next test's.
    """

    fixture: FixtureRef | None = None


@message
@dataclass(frozen=True, slots=True)
class FixtureFinished(FixtureRecord, Message):
    """A class or module fixture that failed or skipped."""


@message
@dataclass(frozen=True, slots=True)
class ChunkFinished(Message):
    """The explicit end of a chunk.

    Without it the process has died, whatever its exit status.
    """

    chunk: str
    #: Number of TestFinished records of this chunk.
    records: Count
    #: Seconds of class and module fixtures by class.
    class_seconds: dict[str, Seconds]
    #: Indices that did not run because the process cannot go on (a BaseException escaped); they run
    #: elsewhere.
    left: tuple[Count, ...] = ()
    stopped: Literal["", "failfast", "aborted"] = ""
    #: What tests left in the process. After threads and ports it is not used again; state was put
    #: back.
    leaks: tuple[LeakRecord, ...] = ()
    #: Start of each test that began, in order: seconds of this host's CLOCK_MONOTONIC.
    began: tuple[float, ...] = ()
    #: What tests have written and is to come home, and how many such files were left out.
    files: Annotated[tuple[KeptFile, ...], AtMost(MAX_KEPT)] = ()
    files_left: Count = 0
    #: The process has fixtures of the session to tear down, which TearDown asks for.
    session: bool = False
    #: What fixtures of classes, modules and the session took, apart from the tests.
    fixtures: tuple[FixtureUse, ...] = ()


@message
@dataclass(frozen=True, slots=True)
class TearDown(Message):
    """Tear down the session: no chunk will follow."""


@message
@dataclass(frozen=True, slots=True)
class TornDown(Message):
    """It is torn down; `failures`: what went wrong."""

    failures: tuple[Failure, ...] = ()
    output: str = ""


@message
@dataclass(frozen=True, slots=True)
class Goodbye(Message):
    """Tear down and exit."""
