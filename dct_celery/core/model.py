"""The nouns of a run: manifest, entry, chunk, outcome, verdict. Frozen, without behaviour beyond their own invariants."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from dct_celery.core.leaks import Leak


class Phase(StrEnum):
    """What a test needs of its database and what it leaves behind; the bins of Django's own ordering, told apart finer."""

    #: `unittest.loader._FailedTest`: an import error that stands for a module. Needs no database.
    LOAD_FAILED = "load_failed"
    #: `django.test.TestCase`: rolls back, so it needs a pristine clone and leaves it pristine.
    ISOLATED = "isolated"
    #: `SimpleTestCase` without databases.
    NO_DATABASE = "no_database"
    #: `TransactionTestCase`, live servers: flushes, so the clone is spent for ISOLATED tests.
    TRANSACTIONAL = "transactional"
    #: Plain `unittest.TestCase`, doctests, functions: nothing keeps them from the database.
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
    #: Never ran: cancelled, lost beyond its attempts, or covered by a fixture that failed (then `covered_by` is set).
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

    index: int
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
    serialized_rollback: bool = False
    #: `SerializeMixin.lockfile`, relative to the root where it lies inside.
    lock_file: str | None = None
    #: Fixed live-server port, if any.
    port: int | None = None
    tags: tuple[str, ...] = ()
    #: The module has setUpModule, tearDownModule or load_tests: its tests of one phase stay together.
    keep_module: bool = False
    #: Its tear-down flushes its `databases`: a TransactionTestCase that is not skipped by decoration.
    flushes: bool = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Entry:
        """Inverse of `to_dict`; raises TypeError or ValueError for anything else."""
        return cls(
            **{
                **data,
                "phase": Phase(data["phase"]),
                "databases": tuple(data.get("databases", ())),
                "tags": tuple(data.get("tags", ())),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The ordered list of everything that must get a disposition. Its digest is its identity."""

    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the ordered identities; equal digests mean that an index names the same test."""
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
    #: What the second transactional test of a sequential run sees: emptied, post_migrate signals sent.
    FLUSHED = "flushed"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work under one lease: indices into the manifest, in canonical order."""

    id: str
    indices: tuple[int, ...]
    phase: Phase
    need: Need
    attempt: int = 1
    #: Aliases that the sequential run would have flushed before it came here; need is FLUSHED where there are any.
    flushed: tuple[str, ...] = ()
    #: Aliases that its own tests flush.
    flushes: tuple[str, ...] = ()
    #: Names of things only one chunk of the run may hold at a time (lock files, fixed ports).
    locks: tuple[str, ...] = ()
    #: Predicted seconds, class fixtures included.
    estimate: float = 0.0
    #: Run in a fork that nothing ran in before (a retry, a suspect).
    fresh: bool = False
    #: Worker that should leave it to others for a while, because a test of it failed or died there; empty for none.
    avoid: str = ""
    #: Seconds that one test may take, (index, seconds) of those that may take longer, and the seconds for a class fixture
    #: (0: the usual). See core.limits.
    test_limit: float = 60.0
    limits: tuple[tuple[int, float], ...] = ()
    fixture_limit: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Chunk:
        """Inverse of `to_dict`; raises TypeError, KeyError or ValueError for anything else."""
        return cls(
            **{
                **data,
                "indices": tuple(data["indices"]),
                "phase": Phase(data["phase"]),
                "need": Need(data["need"]),
                **{name: tuple(data.get(name, ())) for name in ("flushed", "flushes", "locks")},
                "limits": tuple((index, seconds) for index, seconds in data.get("limits", ())),
            }
        )


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

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Failure:
        return cls(**data)


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
    #: Id of the fixture event that kept it from running, e.g. "setUpClass (app.tests.T)".
    covered_by: str | None = None
    #: What the attempts before this one said, oldest first: failures that --reruns did not take for the last word.
    earlier: tuple[Verdict, ...] = ()

    @property
    def flaky(self) -> bool:
        """It failed and passed in one run."""
        return self.outcome is Outcome.PASSED and bool(self.earlier)

    @property
    def message(self) -> str:
        """One line for lists: the first failure's message or the reason."""
        if self.failures:
            first = self.failures[0]
            return f"{first.type}: {first.message}" if first.message else first.type
        return self.reason


@dataclass(frozen=True, slots=True)
class FixtureVerdict:
    """A class or module fixture that did not simply pass: `setUpClass (app.tests.T)` and its kin."""

    id: str
    #: setUpClass, tearDownClass, setUpModule, tearDownModule.
    phase: str
    outcome: Outcome
    worker: str | None = None
    slot: int | None = None
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    output: str = ""
    #: Manifest indices that it kept from running.
    covers: tuple[int, ...] = ()


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
    #: One line: why there are no results at all. Empty for a run that had some.
    error: str = ""
    #: Facts for the properties of the report: python, django, seed, commit and so on.
    properties: dict[str, str] = field(default_factory=dict)
    #: False while the run goes on (a partial report).
    complete: bool = True
    #: What was done with database servers: see core.databaseuse.
    databases: dict[str, Any] = field(default_factory=dict)
    #: What tests left behind.
    leaks: tuple[Leak, ...] = ()

    def totals(self) -> dict[str, int]:
        """Count of entries by outcome, plus `tests` (all entries), `flaky` (some of the passed ones) and `fixtures` (failed)."""
        counts = {outcome.value: 0 for outcome in Outcome}
        for verdict in self.verdicts:
            counts[verdict.outcome.value] += 1
        bad = sum(1 for f in self.fixtures if f.outcome in BAD_OUTCOMES)
        flaky = sum(1 for verdict in self.verdicts if verdict.flaky)
        return {"tests": len(self.verdicts), **counts, "flaky": flaky, "fixtures": bad}
