"""Turns what a backend reports into the records that leave the process. Knows no framework.

For each test of a chunk, in order, a backend calls

    begin(test, index, scopes, fixtures=…)
        fixture(ref)                              a fixture of the class or module begins,
        fixture_finished(ref, outcome, …)         and has failed or skipped
        fixture(None)                             the test itself is next
        started(test)                             it does run
        event(outcome, failure, …)                anything but a plain pass, as often as it happens
    end(seconds)

A test that ends without `started` and without an event is covered by the fixture that failed for
one of its scopes. `flush` comes before whatever may take long; `abort` and `cover` come after a
BaseException that nothing below the backend has caught. `start_chunk` and `finish` enclose it all.

`test` can be any object: it is compared by identity, and never called.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from dct_celery.core.metrics import FixtureUse, packed
from dct_celery.core.model import BAD_OUTCOMES, Failure, FixtureRef, Outcome, worst
from dct_celery.testproc import coverage
from dct_celery.testproc.channel import Channel
from dct_celery.testproc.clock import now
from dct_celery.testproc.failures import failure_of
from dct_celery.testproc.isolation.leaks import LeakDetector
from dct_celery.testproc.isolation.output import OutputFile
from dct_celery.testproc.meter import OUTPUT, Meter, Used, together
from dct_celery.wire import messages

#: Bound at import, as tests patch it.
_exit = os._exit
#: Seconds of a fixture that did nothing else below which it is not reported.
_LEAST_FIXTURE = 0.0005
#: The names of a test's class and module, in this order, by which its fixtures are named.
Scopes = tuple[str, ...]


class Recorder:
    """Collects the events of one test or fixture at a time and sends a record when it ends."""

    def __init__(
        self, channel: Channel, output: OutputFile, leaks: LeakDetector, root: str
    ) -> None:
        """`root`: top of the tree; paths below it are reported relative to it."""
        self._channel = channel
        self._output = output
        self._leaks = leaks
        self.root = root + os.sep
        self.records = 0
        #: When each test of the chunk began, in seconds of `now()`.
        self.began: list[float] = []
        self._class_seconds: dict[str, float] = defaultdict(float)
        self._chunk = self._artifacts = ""
        self._current: object = None
        self._index = -1
        self._scopes: Scopes = ()
        self._started = False
        self._events: list[tuple[Outcome, Failure | None, str, str]] = []
        self._captured = self._reports = ""
        #: Scope -> the failed fixture that prevents its tests.
        self._blocked: dict[str, FixtureRef] = {}
        #: The running fixture.
        self._inside: FixtureRef | None = None
        self._stops: frozenset[int] = frozenset()
        #: A test or fixture of the chunk has failed.
        self._bad = False
        #: None: nothing is measured.
        self.meter: Meter | None = None
        #: What the current test has used so far, apart from fixtures that are not its own.
        self._used: Used | None = None
        #: Names of the fixtures that are running, the innermost last, and since when what is used
        #: is that of the last one.
        self._fixtures: list[str] = []
        self._charged_at = 0.0
        #: Seconds and use of each fixture of the chunk, by name.
        self._uses: dict[str, tuple[float, Used | None]] = {}

    # -- the chunk ---------------------------------------------------------------------

    def start_chunk(self, chunk: str, artifacts: str = "", stops: Iterable[int] = ()) -> None:
        """`artifacts`: folder for the whole output of tests that fail; empty where none is kept.
        `stops`: indices before which the chunk ends if something in it has failed.
        """
        self._stops, self._bad = frozenset(stops), False
        self._chunk, self.records, self.began = chunk, 0, []
        self._artifacts = artifacts
        self._class_seconds = defaultdict(float)
        self._current, self._scopes, self._inside = None, (), None
        self._fixtures, self._uses = [], {}
        self._leaks.begin()
        self._charge()
        self._used = None

    def finish(
        self, left: Iterable[int] = (), stopped: Literal["", "failfast", "aborted"] = ""
    ) -> messages.ChunkFinished:
        """Ends the chunk. `left`: indices that did not run, because it stopped early."""
        last = self._scopes[0] if self._scopes else self._chunk
        self._charge()
        return messages.ChunkFinished(
            self._chunk,
            self.records,
            dict(self._class_seconds),
            tuple(left),
            stopped,
            tuple(self._leaks.end(last)),
            tuple(round(second, 4) for second in self.began),
            fixtures=tuple(self._fixture_uses()),
        )

    def _fixture_uses(self) -> Iterator[FixtureUse]:
        for name, (seconds, used) in self._uses.items():
            text = packed(used) if used is not None else ""
            if text or seconds >= _LEAST_FIXTURE:
                yield name, round(seconds, 6), text

    def goes_on(self, index: int) -> bool:
        """Whether the chunk is to go on with this test; else it, and what follows, is left."""
        return not (self._bad and index in self._stops)

    def class_over(self, cls: str) -> None:
        """The class has been torn down: what it has left in the process is attributed to it."""
        self._leaks.check(cls)
        if measurement := coverage.current():
            measurement.class_over()

    def keeps_state(self) -> None:
        """What the process is like now stays for its later tests: a fixture of the session has
        been set up.
        """
        self._leaks.accept()

    def class_took(self, cls: str, seconds: float) -> None:
        """A fixture of the class, or of its module before it, took that long."""
        self._class_seconds[cls] += seconds

    # -- one test ----------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a test or a fixture is running."""
        return self._current is not None or self._inside is not None

    def begin(self, test: object, index: int, scopes: Scopes, *, fixtures: bool) -> None:
        """A test begins. `fixtures`: a fixture is reported first, and the start goes with it."""
        self._current, self._index, self._scopes = test, index, scopes
        self._started, self._inside, self._events = False, None, []
        self._captured = self._reports = ""
        self._used = None
        self._channel.hold(messages.started(index))
        if not fixtures:
            self._channel.flush()
        self.began.append(now())

    def begin_again(self) -> float:
        """The time since `begin` was an earlier tear-down; returns the time now."""
        self.began[-1] = now()
        return self.began[-1]

    def started(self, test: object) -> None:
        if test is self._current:
            self._started = True

    def event(
        self, outcome: Outcome, failure: Failure | None = None, reason: str = "", sql: str = ""
    ) -> None:
        """An event of the current test; the worst one decides its outcome."""
        self._events.append((outcome, failure, reason, sql))

    def end(self, seconds: float, *, output: str = "", reports: str = "") -> None:
        """Sends the record of the current test.

        `output`: what the framework has captured of it; `reports`: see `Verdict.reports`.
        """
        if self._current is None:
            return
        self._charge()
        self._captured, self._reports = output, reports
        bad = any(event[0] in BAD_OUTCOMES for event in self._events)
        self._leave_if_forked(bad=bad)
        self._bad |= bad
        self._current = None
        if self._started or self._events:
            self._finish(seconds)
        else:
            blocker = self._blocker(self._scopes)
            reason = "" if blocker else "never started"
            self._used = None
            self._send(Outcome.NOT_RUN, 0.0, reason=reason, covered_by=blocker)

    def _finish(self, seconds: float) -> None:
        if not self._events:
            output = self._taken()
            if not output and not self._reports:
                self.records += 1
                measured = packed(self._used) if self._used is not None else ""
                self._channel.hold(messages.passed(self._index, max(seconds, 0.0), measured))
                return
            self._send(Outcome.PASSED, seconds, output=output)
            return
        failures = tuple(failure for _, failure, _, _ in self._events if failure is not None)
        reason = next((reason for _, _, reason, _ in self._events if reason), "")
        self._send(
            worst(outcome for outcome, _, _, _ in self._events),
            seconds,
            failures=failures,
            reason=reason,
            sql="\n".join(sql for _, _, _, sql in self._events if sql),
        )

    def _send(
        self, outcome: Outcome, seconds: float, *, output: str | None = None, **extra: Any
    ) -> None:
        self.records += 1
        if self._artifacts and outcome in BAD_OUTCOMES:
            extra["artifacts"] = self._output.keep(self._artifacts)
        printed = self._taken() if output is None else output
        record = messages.TestFinished(
            self._index,
            outcome,
            max(seconds, 0.0),
            output=printed,
            reports=self._reports,
            measured=self._measured(),
            **extra,
        )
        self._channel.hold(record.encode())

    def _measured(self) -> str:
        """What the current test has used, its output included."""
        if self._used is None:
            return ""
        captured = len(self._captured.encode(errors="replace")) if self._captured else 0
        self._used[OUTPUT] = self._output.taken + captured
        return packed(self._used)

    def _taken(self) -> str:
        """What was printed, and before it what the framework had captured."""
        return self._captured + self._output.take()

    def flush(self) -> None:
        """Sends the last record now: what follows may take long or end the process."""
        self._channel.flush()

    # -- fixtures ----------------------------------------------------------------------

    def fixture(self, fixture: FixtureRef | None) -> None:
        """A fixture begins; None says that the test itself is next."""
        self._charge()
        self._inside = fixture
        self._fixtures = [] if fixture is None else [str(fixture)]
        self._channel.send(messages.FixtureStarted(fixture))

    def fixture_over(self) -> None:
        """A fixture has ended and none follows at once; the worker need not know yet."""
        self._charge()
        self._inside = None
        self._fixtures = []

    def enter_fixture(self, name: str) -> None:
        """A fixture of a class, a module or the session begins as a part of the current test, which
        is not charged for it. They may be nested; each ends with `leave_fixture`.
        """
        self._charge()
        self._fixtures.append(name)

    def leave_fixture(self, name: str) -> None:
        """It has ended, and what it had not left before, too."""
        self._charge()
        if name in self._fixtures:
            del self._fixtures[self._fixtures.index(name) :]

    def _charge(self) -> None:
        """What was used since the last time is that of the fixture or test that was running."""
        at = now()
        took, self._charged_at = at - self._charged_at, at
        used = None if self.meter is None else self.meter.cut(at)
        if self._fixtures:
            name = self._fixtures[-1]
            seconds, before = self._uses.get(name, (0.0, None))
            self._uses[name] = (seconds + took, before if used is None else together(before, used))
        elif used is not None:
            self._used = together(self._used, used)

    def fixture_finished(
        self, fixture: FixtureRef, outcome: Outcome, failure: Failure | None, reason: str = ""
    ) -> None:
        """It failed or skipped. A set-up prevents the tests that name it among their scopes."""
        if fixture.sets_up:
            self._blocked[fixture.name] = fixture
        self._leave_if_forked(bad=outcome in BAD_OUTCOMES)
        self._bad |= outcome in BAD_OUTCOMES
        failures = () if failure is None else (failure,)
        output = self._output.take()
        self._channel.send(messages.FixtureFinished(fixture, outcome, failures, reason, output))

    def _blocker(self, scopes: Scopes) -> FixtureRef | None:
        return next((self._blocked[name] for name in scopes if name in self._blocked), None)

    # -- early ends --------------------------------------------------------------------

    def abort(self, error: BaseException, outside: FixtureRef) -> bool:
        """A BaseException escaped from the current test, or from the running fixture.

        `outside`: what to blame if neither was running. True if the current test has its record
        now.
        """
        failure = failure_of(error, self.root)
        if self._inside or self._current is None:
            self.fixture_finished(self._inside or outside, Outcome.ERROR, failure)
            self._inside = None
            return False
        self.event(Outcome.ERROR, failure)
        self.end(0.0)
        return True

    def cover(self, tests: Iterable[tuple[int, Scopes]]) -> list[int]:
        """Records the tests that a fixture prevents; returns the indices of the others."""
        left = []
        for index, scopes in tests:
            if blocker := self._blocker(scopes):
                self._index, self._used = index, None
                self._captured = self._reports = ""
                self._send(Outcome.NOT_RUN, 0.0, covered_by=blocker)
            else:
                left.append(index)
        return left

    def _leave_if_forked(self, *, bad: bool) -> None:
        """Ends a child that a test forked and that returned from the test.

        Its parent records the test, and runs the rest.
        """
        if not self._channel.owned:
            self._output.flush()
            _exit(int(bad))
