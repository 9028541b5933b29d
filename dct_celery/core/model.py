"""The nouns of a run: manifest, entry, chunk, outcome, verdict.

All are frozen and have no behaviour beyond their own invariants.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Self

from dct_celery.core import ids
from dct_celery.core.codec import Count, Matches, Number, Seconds
from dct_celery.core.metrics import FixtureMetrics, TestMetrics
from dct_celery.core.run.leaks import Leak


class Phase(StrEnum):
    """What a test needs of its database and what it leaves behind.

    A finer division of the classes by which Django orders tests.
    """

    #: `unittest.loader._FailedTest`: an import error that stands for a module. Needs no database.
    LOAD_FAILED = "load_failed"
    #: `django.test.TestCase`: rolls back, so it needs a pristine clone and leaves it pristine.
    ISOLATED = "isolated"
    #: `SimpleTestCase` without databases.
    NO_DATABASE = "no_database"
    #: `TransactionTestCase`, live servers: flushes, so the clone is spent for ISOLATED tests.
    TRANSACTIONAL = "transactional"
    #: Plain `unittest.TestCase`, doctests, functions: may write to the database without rolling
    #: back.
    UNMANAGED = "unmanaged"


class Outcome(StrEnum):
    """The verdict on one entry. Worse comes later (see `worst`)."""

    PASSED = "passed"
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    #: Unexpected success: counts as a failure, as in unittest.
    XPASSED = "xpassed"
    FAILED = "failed"
    ERROR = "error"
    #: Never ran: cancelled, lost beyond its attempts, or covered by a fixture that failed (then
    #: `covered_by` is set).
    NOT_RUN = "not_run"


_BADNESS = {outcome: rank for rank, outcome in enumerate(Outcome)}
#: Outcomes that make a run red.
BAD_OUTCOMES = frozenset({Outcome.XPASSED, Outcome.FAILED, Outcome.ERROR})


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of the given outcomes; PASSED for none."""
    return max(outcomes, key=_BADNESS.__getitem__, default=Outcome.PASSED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One test of the manifest, as the collect process saw it."""

    index: Count
    #: `test.id()`; neither unique nor importable in general.
    id: str
    #: Dotted module and qualified class name (`unittest.util.strclass`).
    cls: str
    module: str
    phase: Phase
    #: POSIX path relative to the root of the snapshot, or None where the source is elsewhere.
    file: str | None = None
    line: int | None = None
    databases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    #: Its tear-down flushes its `databases`: a TransactionTestCase that no decorator skips.
    flushes: bool = False
    #: Names of groups, given by the backend: tests of one phase that share a name stay in one
    #: process, in their order. For example "class:app.tests.T", "module:app.tests",
    #: "file:locks/one".
    keep_with: tuple[str, ...] = ()
    #: Resources that only one process of the run may hold at a time: "port:8081", "file:locks/one".
    locks: tuple[str, ...] = ()
    #: What the project's own command calls it, if not by its id.
    label: str = ""
    #: Digest of the source file where that is not in the tree (`file` is None); empty if unknown.
    code: str = ""

    @property
    def name(self) -> str:
        """What its class or module calls it: "test_x", or of pytest "test_x[a]".

        The whole id where that does not begin with the name of the class.
        """
        file, colons, rest = self.id.partition("::")
        module = file.removesuffix(".py").replace("/", ".")
        if self.cls == module:
            return rest if colons else self.id
        if colons and self.cls.startswith(f"{module}."):
            prefix = self.cls.removeprefix(f"{module}.").replace(".", "::") + "::"
            return rest.removeprefix(prefix)
        prefix = f"{self.cls}."
        inside = self.id.startswith(prefix) and len(self.id) > len(prefix)
        return self.id[len(prefix) :] if inside else self.id

    @property
    def unit(self) -> str:
        """Name of the smallest part of the suite that has it and that no plan takes apart: its
        class, or its id where not even its class stays together (functions of pytest).
        """
        tied = any(name.startswith(("class:", "module:")) for name in self.keep_with)
        return self.cls if tied else self.id


def counted(entries: Iterable[Entry]) -> str:
    """How many units these are of: "2 classes", of pytest also "3 classes or functions"."""
    classes = {entry.unit: entry.unit != entry.id for entry in entries}
    if len(classes) == 1:
        return "1 class" if all(classes.values()) else "1 function"
    return f"{len(classes):,} {'classes' if all(classes.values()) else 'classes or functions'}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The ordered list of the suite. Its digest is its identity.

    Each entry must get a disposition, or each of a part: then length and iteration are those of
    the part, while an index still counts through the suite.
    """

    entries: tuple[Entry, ...]
    #: Indices of the part, ascending; None for the whole suite.
    part: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.entries if self.part is None else self.part)

    def __iter__(self) -> Iterator[Entry]:
        if self.part is None:
            return iter(self.entries)
        return map(self.entries.__getitem__, self.part)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]

    def only(self, indices: Iterable[int]) -> Manifest:
        """The same suite, of which these are to run."""
        return replace(self, part=tuple(sorted(set(indices))))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the ordered identities.

        Equal digests mean that each index names the same test.
        """
        return manifest_digest((e.id, e.cls, e.phase.value) for e in self.entries)


def manifest_digest(identities: Iterable[tuple[str, str, str]]) -> str:
    """Digest of (id, class, phase) triples in manifest order."""
    digest = hashlib.sha256()
    for identity in identities:
        digest.update(json.dumps(identity, ensure_ascii=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()


class Need(StrEnum):
    """State of the clone that a chunk must start from."""

    ANY = "any"
    PRISTINE = "pristine"
    #: What the second transactional test of a sequential run sees: emptied, post_migrate signals
    #: sent.
    FLUSHED = "flushed"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work under one lease: indices into the manifest, in canonical order."""

    id: str
    indices: tuple[Count, ...]
    phase: Phase
    need: Need
    attempt: Number = 1
    #: Aliases that the sequential run has flushed by then; if there are any, need is FLUSHED.
    flushed: tuple[str, ...] = ()
    #: Aliases that its own tests flush.
    flushes: tuple[str, ...] = ()
    #: Resources that only one chunk of the run may hold at a time (lock files, fixed ports).
    locks: tuple[str, ...] = ()
    #: Predicted seconds, class fixtures included.
    estimate: Seconds = 0.0
    #: Needs a fork in which nothing has run yet (a retry, a suspect).
    fresh_process: bool = False
    #: Worker that is refused the chunk for a while, because one of its tests failed or crashed
    #: there; empty for none.
    avoid_worker: str = ""
    #: Seconds that one test may take, see core.plan.limits.
    test_limit: Seconds = 60.0
    #: (index, seconds) of tests that may take longer.
    limits: tuple[tuple[Count, Seconds], ...] = ()
    #: Seconds that a class fixture may take; 0 for the default.
    fixture_limit: Seconds = 0.0
    #: Seconds for which its slot collects records before it sends them: more in a pool of many
    #: slots, see core.run.machine.
    batch_seconds: Seconds = 0.05
    #: Runs before the indices in the same process, which is fresh; its results do not count.
    preamble: tuple[Count, ...] = ()
    #: Its process ends with it if something in it failed, as what fails for reasons of order
    #: often makes all fail that comes after it. Not where one slot runs all.
    ends_if_bad: bool = False
    #: Indices before which that may be: the first of each atom but the first.
    stops: tuple[Count, ...] = ()
    #: A run of a test that has failed, to find out why; its results are no verdicts.
    probe: bool = False


class FixturePhase(StrEnum):
    SET_UP = "setUp"
    TEAR_DOWN = "tearDown"


class FixtureScope(StrEnum):
    """What a fixture is for: the tests of a class, of a module, or all that its process runs."""

    CLASS = "Class"
    MODULE = "Module"
    SESSION = "Session"


_FIXTURE = re.compile(r"(setUp|tearDown)(Class|Module|Session) \((.*)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FixtureRef:
    """A set-up or tear-down of a class, module or session.

    As text, and in JSON: "setUpClass (app.tests.T)".
    """

    phase: FixturePhase
    scope: FixtureScope
    #: The class (`unittest.util.strclass`) or module.
    name: str

    def __str__(self) -> str:
        return f"{self.kind} ({self.name})"

    @property
    def kind(self) -> str:
        """setUpClass, tearDownModule and so on."""
        return self.phase.value + self.scope.value

    @property
    def sets_up(self) -> bool:
        return self.phase is FixturePhase.SET_UP

    @classmethod
    def parse(cls, text: str) -> Self:
        """Inverse of `str`. Raises ValueError."""
        if (found := _FIXTURE.fullmatch(text)) is None:
            raise ValueError(f"{text[:80]!r} names no fixture")
        return cls(FixturePhase(found[1]), FixtureScope(found[2]), found[3])

    def to_json(self) -> str:
        return str(self)

    from_json = parse

    def keeps(self, entry: Entry) -> bool:
        """Whether the entry depends on this fixture; nothing depends on a tear-down."""
        if not self.sets_up:
            return False
        return self.scope is FixtureScope.SESSION or self.name == (
            entry.cls if self.scope is FixtureScope.CLASS else entry.module
        )


#: The tear-down of pytest's session in one process. In the sequential run it is a part of the last
#: test of the suite, and so it is where that has run; other processes report it by itself.
END_OF_SESSION = FixtureRef(FixturePhase.TEAR_DOWN, FixtureScope.SESSION, "pytest")


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that went wrong in a test or fixture, formatted in the test process."""

    #: "failure" (an assertion of the test's failureException) or "error".
    kind: str
    #: Dotted type of the exception.
    type: str
    #: First line, without the type.
    message: str
    #: The whole formatted traceback.
    text: str
    #: Description of the failing subTest, else empty.
    subtest: str = ""
    file: str | None = None
    line: int | None = None


#: Maximum size of one artifact in bytes.
MAX_ARTIFACT = 16 * 2**20
#: Maximum size of all artifacts of a run in bytes.
MAX_ARTIFACTS = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a test left for the dispatcher.

    The content travels beside the record that names it, and is verified by the digest.
    """

    name: Annotated[str, Matches(ids.ARTIFACT)]
    #: Size in bytes.
    size: Number
    #: Digest of the content, see `core.ids.digest_of`.
    digest: Annotated[str, Matches(ids.DIGEST)]


#: Most files of one chunk that tests left where the dispatcher wants them.
MAX_KEPT = 1000
#: A path below the top of the tree: no part of it is "." or "..".
KEPT_PATH = re.compile(
    r"(?!.{1025})(?:(?!\.{1,2}(?:/|$))[^/\0-\x1f\x7f]{1,255}(?:/|$))+(?<!/)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that tests have written, and that is to come to the same place of the checkout."""

    #: From the top of the tree.
    path: Annotated[str, Matches(KEPT_PATH.pattern)]
    #: Size in bytes; a file may be empty.
    size: Count
    #: Digest of the content, see `core.ids.digest_of`.
    digest: Annotated[str, Matches(ids.DIGEST)]

    @property
    def name(self) -> str:
        return self.path


class OrderKind(StrEnum):
    """How a verdict depends on what ran before the test."""

    #: It fails after another class, its polluter.
    VICTIM = "victim"
    #: It fails unless another class, its state-setter, ran before it.
    BRITTLE = "brittle"
    #: It failed and passed after the same classes.
    FLAKY = "flaky"
    #: It may depend on order; that could not be found out.
    UNPROVEN = "unproven"


#: What a test is that failed and passed after the same classes. Slots that share a server or a
#: folder look just like that.
FLAKY = "flaky, or disturbed by what ran on other slots at the same time"


@dataclass(frozen=True, slots=True)
class OrderNote:
    """What was found out about a test or fixture that failed in one order."""

    kind: OrderKind
    #: Class of the polluter or state-setter; empty where none is known.
    partner: str
    #: How that is known; one clause, to follow "it".
    proven_by: str
    proven: bool = True
    #: What it failed with, if the verdict is that it passes.
    failed_with: str = ""

    def __str__(self) -> str:
        match self.kind:
            case OrderKind.BRITTLE:
                return f"needs {self.partner} before it: it {self.proven_by}"
            case OrderKind.VICTIM:
                return f"polluted by {self.partner}: it {self.proven_by}"
            case OrderKind.FLAKY:
                return f"{FLAKY}: it {self.proven_by}"
            case OrderKind.UNPROVEN:
                return f"not settled: it {self.proven_by}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one manifest entry."""

    entry: Entry
    outcome: Outcome
    seconds: float = 0.0
    worker: str | None = None
    slot: int | None = None
    attempt: int = 1
    failures: tuple[Failure, ...] = ()
    #: Reason of a skip, an expected failure's text, or why it was not run.
    reason: str = ""
    #: What the test printed (stdout and stderr as they came), cut to limits.
    output: str = ""
    #: SQL text of --debug-sql, else empty.
    sql: str = ""
    #: The fixture that kept it from running.
    covered_by: FixtureRef | None = None
    #: Files that this attempt left.
    artifacts: tuple[Artifact, ...] = ()
    #: Earlier attempts, oldest first: failures that --reruns did not accept as final.
    earlier: tuple[Verdict, ...] = ()
    #: How it depends on order, if it does.
    order: OrderNote | None = None
    #: What its framework itself has reported, as text of the backend (see wire.pytest_reports);
    #: empty for one that has nothing of its own.
    reports: str = ""
    #: What it has used, as text; see `metrics`.
    measured: str = ""

    @property
    def metrics(self) -> TestMetrics:
        """What it has used: queries, time in the database, memory, output."""
        return TestMetrics.of(self.measured)

    @property
    def bad(self) -> bool:
        """It failed, or a fixture kept it from running."""
        return self.outcome in BAD_OUTCOMES or self.covered_by is not None

    @property
    def left_out(self) -> bool:
        """A process has called it and says why it did not start: its own code, or a hook, left it
        out. As in the sequential run, this is no failure, and nothing is lost.
        """
        said = self.worker is not None and bool(self.reason)
        return said and self.outcome is Outcome.NOT_RUN and self.covered_by is None

    @property
    def flaky(self) -> bool:
        """It failed and passed in one run."""
        return self.outcome is Outcome.PASSED and bool(self.earlier)

    @property
    def place(self) -> tuple[str | None, int | None]:
        """File and line of the test, or of the failure if the test has none.

        A module that could not be imported has no file of its own.
        """
        if self.entry.file is not None:
            return self.entry.file, self.entry.line
        return next(((f.file, f.line) for f in self.failures if f.file), (None, None))

    @property
    def message(self) -> str:
        """One line for lists: the first failure's message or the reason."""
        if self.failures:
            first = self.failures[0]
            return f"{first.type}: {first.message}" if first.message else first.type
        return self.reason


@dataclass(frozen=True, slots=True)
class FixtureVerdict:
    """A class, module or session fixture that did not simply pass."""

    fixture: FixtureRef
    outcome: Outcome
    worker: str | None = None
    slot: int | None = None
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    output: str = ""
    #: Manifest indices that it kept from running.
    covers: tuple[int, ...] = ()
    #: How it depends on order, if it does.
    order: OrderNote | None = None

    @property
    def id(self) -> str:
        """For people and reports: "setUpClass (app.tests.T)"."""
        return str(self.fixture)

    @property
    def phase(self) -> str:
        """setUpClass, tearDownClass, setUpModule, tearDownModule."""
        return self.fixture.kind


@dataclass(frozen=True, slots=True)
class Bisection:
    """What a bisection has found out about one test."""

    test: str
    #: None where order is not the cause: it fails, or passes, in every order.
    kind: OrderKind | None
    #: Class of the polluter or state-setter; empty where there is none.
    partner: str
    #: One clause, to follow "it".
    proven_by: str
    proven: bool
    #: It fails where all that is before it in the sequential run has run.
    fails: bool
    #: Classes that show it when they run before the test, in this order.
    shown_after: tuple[str, ...] = ()
    #: The project's own command for these classes and the test; empty where there is nothing to
    #: show.
    command: str = ""
    #: How often the test ran, and slot-seconds of that.
    probes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SequentialTime:
    """What a suite took with the project's own command, as `dct try` measured it."""

    #: Its start, its databases where they had to be made, and its tests.
    seconds: float
    #: Digest of the manifest.
    digest: str
    #: When it ended, Unix seconds (UTC).
    at: float


class Limited(StrEnum):
    """What a time limit is for."""

    TEST = "test"
    FIXTURE = "fixture"
    CHUNK = "chunk"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class NearLimit:
    """Something took at least `core.plan.limits.NEAR` of the time that it may take."""

    kind: Limited
    #: Id of the test, fixture or chunk; of the run, its id.
    name: str
    #: What it took; of the run, what it had taken then.
    seconds: float
    limit: float

    def __str__(self) -> str:
        share = f"{self.seconds / self.limit:.0%}" if self.limit else ""
        return f"{self.kind} {self.name}: {self.seconds:,.1f} s, {share} of its {self.limit:g} s"


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything a report needs: one verdict for every manifest entry, in manifest order."""

    run: str
    verdicts: tuple[Verdict, ...]
    fixtures: tuple[FixtureVerdict, ...]
    exit_code: int
    #: Seconds of each part: collect, snapshot, wait, run, finish, wall.
    seconds: dict[str, float] = field(default_factory=dict)
    #: One per slot: worker, slot, busy_seconds, chunks.
    slots: tuple[dict[str, Any], ...] = ()
    #: Unix time (UTC seconds) on the dispatcher's clock.
    started_at: float = 0.0
    #: worker name -> host name.
    hosts: dict[str, str] = field(default_factory=dict)
    #: Text that concerns the run as a whole (why it stopped early), else empty.
    note: str = ""
    #: One line: why there are no results at all. Empty if there are any.
    error: str = ""
    #: Facts for the properties of the report: python, django, seed, commit and so on.
    properties: dict[str, str] = field(default_factory=dict)
    #: False while the run goes on (a partial report).
    complete: bool = True
    #: What was done with database servers: see core.databases.usage.
    databases: dict[str, Any] = field(default_factory=dict)
    #: What tests left behind.
    leaks: tuple[Leak, ...] = ()
    #: What a bisection has found out; None for every other run.
    bisection: Bisection | None = None
    #: What fixtures of classes, modules and sessions took, apart from tests.
    fixture_metrics: tuple[FixtureMetrics, ...] = ()
    #: What the same tests took in one process, in the last `dct try` of them; None: not known.
    sequential: SequentialTime | None = None
    #: What took more than most of its time limit, in the order in which it ended.
    near_limits: tuple[NearLimit, ...] = ()

    def totals(self) -> dict[str, int]:
        """Number of entries by outcome, plus three sums.

        `tests` counts all entries, `flaky` some of the passed ones, `fixtures` the failed fixtures.
        """
        counts = {outcome.value: 0 for outcome in Outcome}
        for verdict in self.verdicts:
            counts[verdict.outcome.value] += 1
        bad = sum(1 for f in self.fixtures if f.outcome in BAD_OUTCOMES)
        flaky = sum(1 for verdict in self.verdicts if verdict.flaky)
        return {"tests": len(self.verdicts), **counts, "flaky": flaky, "fixtures": bad}
