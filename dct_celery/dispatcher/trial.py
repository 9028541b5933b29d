"""`dct try`: one suite in one process and on all slots, side by side.

What is compared are outcomes, test by test. The seconds of the project's own command are those of
the parts that it has, too: its start, its databases and its tests.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dct_celery.core.model import (
    BAD_OUTCOMES,
    FLAKY,
    Bisection,
    FixtureVerdict,
    OrderKind,
    Outcome,
    RunReport,
    Verdict,
)
from dct_celery.core.text import first_of, one_line, plural

#: Times as fast from which it is worth the trouble.
_WORTH = 1.2
#: Most names of a kind on the screen; --json has all.
_MOST = 8
#: Share of the whole time from which settling failures is what makes it slow.
_SETTLED = 0.25
#: Share of the time of running from which one class is said to bound it.
_BOUNDS = 0.7


@dataclass(frozen=True, slots=True)
class Difference:
    """A test or fixture that ended otherwise when it was distributed."""

    name: str
    #: Outcomes; "passed" for a fixture that no report names.
    sequential: str
    distributed: str
    #: One line: what it failed with, or why it was skipped.
    message: str = ""
    #: How that comes about; empty where it was not found out.
    cause: str = ""
    command: str = ""
    #: Where it was bad, for `dct bisect`; empty where that has nothing to go on.
    run: str = ""
    unit: str = ""

    @property
    def open(self) -> bool:
        """A bisection may still find the cause."""
        return not self.cause and bool(self.run)


def unfinished(report: RunReport) -> bool:
    """It has no verdicts to compare: what a failed system check keeps from running has none,
    although the exit code is 1.
    """
    return report.exit_code not in (0, 1) or any(
        verdict.outcome is Outcome.NOT_RUN and verdict.covered_by is None and not verdict.left_out
        for verdict in report.verdicts
    )


def differences(sequential: RunReport, distributed: RunReport) -> list[Difference]:
    """What ended otherwise, in the order of the suite, fixtures last."""
    found = []
    others = _by_name(distributed.verdicts)
    for name, verdict in _by_name(sequential.verdicts).items():
        other = others.pop(name, None)
        if other is None:
            found.append(Difference(name[0], verdict.outcome, "missing", unit=verdict.entry.unit))
        elif verdict.outcome is not other.outcome:
            found.append(_difference(verdict, other, sequential.run, distributed.run))
    found += [
        Difference(name[0], "missing", verdict.outcome, unit=verdict.entry.unit)
        for name, verdict in others.items()
    ]
    return [*found, *_fixtures(sequential.fixtures, distributed.fixtures)]


def _by_name(verdicts: Iterable[Verdict]) -> dict[tuple[str, int], Verdict]:
    """Ids need not be unique: each with its number among its namesakes."""
    count: Counter[str] = Counter()
    named = {}
    for verdict in verdicts:
        named[verdict.entry.id, count[verdict.entry.id]] = verdict
        count[verdict.entry.id] += 1
    return named


def _difference(verdict: Verdict, other: Verdict, sequential: str, distributed: str) -> Difference:
    bad = verdict.bad
    note = other.order
    settled = note is not None and note.proven and note.kind is OrderKind.FLAKY
    return Difference(
        verdict.entry.id,
        verdict.outcome,
        other.outcome,
        message=one_line(other.message if other.bad else verdict.message or other.message),
        cause=str(note) if note is not None and settled else "",
        run="" if bad == other.bad else sequential if bad else distributed,
        unit=verdict.entry.unit,
    )


def _fixtures(
    sequential: Sequence[FixtureVerdict], distributed: Sequence[FixtureVerdict]
) -> list[Difference]:
    sides = [
        {one.id: one for one in fixtures if one.outcome in BAD_OUTCOMES}
        for fixtures in (sequential, distributed)
    ]
    first, second = sides
    found = []
    for name in dict.fromkeys([*first, *second]):
        if (name in first) != (name in second):
            one = first.get(name) or second[name]
            message = one.failures[0].message if one.failures else one.reason
            before, after = (
                side[name].outcome.value if name in side else "passed" for side in sides
            )
            found.append(Difference(name, before, after, message=one_line(message)))
    return found


def answered(difference: Difference, found: Bisection | str) -> Difference:
    """The difference with what a bisection of it has found out, or why it could not."""
    if isinstance(found, str):
        return replace(difference, cause=f"not found out: {one_line(found)}")
    if found.kind is OrderKind.FLAKY:
        cause = f"{FLAKY}: it failed and passed after the same classes"
    elif found.kind is None:
        cause = f"it {found.proven_by}" if found.fails else f"{found.proven_by}, as tried again"
    elif found.kind is OrderKind.VICTIM:
        cause = f"polluted by {found.partner}: it {found.proven_by}"
    elif found.kind is OrderKind.BRITTLE:
        cause = f"needs {found.partner} before it: it {found.proven_by}"
    else:
        cause = f"not settled: it {found.proven_by}"
    shows = found.shown_after and found.proven
    return replace(difference, cause=cause, command=found.command if shows else "")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one run, by part."""

    #: Until the tests were known.
    collect: float
    #: From then until the first test began.
    wait: float
    run: float
    #: The part of `run` in which only failures were settled (see docs/order.md).
    settle: float
    finish: float
    wall: float
    #: Making databases, which a worker does while it prepares; 0 where they were there already.
    databases: float

    @classmethod
    def of(cls, report: RunReport) -> Times:
        seconds = report.seconds
        built = [
            steps.get("seconds", {}).get("templates", 0.0)
            for steps in report.databases.get("workers", {}).values()
            if steps.get("templates") == "built"
        ]
        return cls(
            collect=seconds.get("collect", 0.0),
            wait=seconds.get("wait", 0.0),
            run=seconds.get("run", 0.0),
            settle=seconds.get("settle", 0.0),
            finish=seconds.get("finish", 0.0),
            wall=seconds.get("wall", 0.0),
            databases=max(built, default=0.0),
        )

    @property
    def own_command(self) -> float:
        """What the project's own command takes for these: it has no workers to wait for."""
        return self.collect + self.databases + self.run


@dataclass(frozen=True, slots=True)
class Trial:
    """Two runs of one suite, compared."""

    sequential: RunReport
    distributed: RunReport
    differences: tuple[Difference, ...]
    #: Seconds from the start of the distributed run's command to its end.
    wall: float

    @property
    def ended(self) -> RunReport | None:
        """The run that did not come to its end, if one did not."""
        runs = (self.sequential, self.distributed)
        return next((one for one in runs if unfinished(one)), None)

    @property
    def parity(self) -> bool:
        return not self.differences and self.ended is None

    @property
    def exit_code(self) -> int:
        if self.ended is not None:
            return self.ended.exit_code
        return 0 if self.parity else 1

    @property
    def slots(self) -> int:
        return len(self.distributed.slots)

    @property
    def factor(self) -> float:
        """Times as fast as the project's own command."""
        return Times.of(self.sequential).own_command / self.wall if self.wall else 0.0

    @property
    def busy_share(self) -> float:
        """Of the slots' time between first and last test."""
        run = Times.of(self.distributed).run * max(self.slots, 1)
        busy = sum(slot.get("busy_seconds", 0.0) for slot in self.distributed.slots)
        return min(busy / run, 1.0) if run else 0.0

    @property
    def longest(self) -> tuple[str, float]:
        """The class whose tests took longest, and their seconds."""
        seconds: defaultdict[str, float] = defaultdict(float)
        for verdict in self.distributed.verdicts:
            seconds[verdict.entry.cls] += verdict.seconds
        cls = max(seconds, key=seconds.__getitem__, default="")
        return cls, seconds.get(cls, 0.0)

    @property
    def failing_in_both(self) -> list[str]:
        """Ids of tests."""
        first = {name for name, one in _by_name(self.sequential.verdicts).items() if one.bad}
        second = _by_name(self.distributed.verdicts)
        return [name[0] for name, one in second.items() if one.bad and name in first]

    def order_dependent(self) -> list[tuple[str, str]]:
        """(test, how it depends on order), of all that is known of the distributed run."""
        return [
            (verdict.entry.id, str(verdict.order))
            for verdict in self.distributed.verdicts
            if verdict.order is not None
            and verdict.order.kind in (OrderKind.VICTIM, OrderKind.BRITTLE)
        ]

    # -- the screen --------------------------------------------------------------------

    def lines(self, command: Sequence[str]) -> Iterator[str]:
        """One screen. `command`: the words of a `dct run` with the same options."""
        if self.ended is not None:
            yield self._why()
            return
        yield self._parity()
        if both := self.failing_in_both:
            yield f"  failing in both: {first_of(both, 3)}"
            yield (
                "    if one of them passes with the project's own command, the slots lack a file, a"
                " variable or a package that it needs"
            )
        for difference in self.differences[:_MOST]:
            yield from _told(difference)
        if len(self.differences) > _MOST:
            yield f"  and {len(self.differences) - _MOST:,} more: --json FILE has them all"
        yield from self._order()
        yield from self._times()
        yield self.advice(command)

    def _why(self) -> str:
        """Why there is no comparison; empty where there is one."""
        if self.ended is None:
            return ""
        which = "first" if self.ended is self.sequential else "distributed"
        why = self.ended.note or self.ended.error or "some tests have no verdict"
        return f"no comparison: the {which} run did not come to its end ({one_line(why)})"

    def _parity(self) -> str:
        count = len(self.sequential.verdicts)
        if not self.differences:
            bad = len(self.failing_in_both)
            failing = f", {bad:,} of them failing in both" if bad else ""
            return f"parity:  the same verdict for all {plural(count, 'test')}{failing}"
        many = plural(len(self.differences), "difference")
        return f"parity:  no, {many} in {plural(count, 'test')}"

    def _order(self) -> Iterator[str]:
        known = self.order_dependent()
        if known:
            verb = "depends" if len(known) == 1 else "depend"
            yield f"order:   {plural(len(known), 'test')} {verb} on order, settled in the run:"
        for test, how in known[:_MOST]:
            yield f"  {test}: {how}"
        if len(known) > _MOST:
            yield f"  and {len(known) - _MOST:,} more"

    def _times(self) -> Iterator[str]:
        own, all_ = Times.of(self.sequential), Times.of(self.distributed)
        yield (
            f"speed:   {own.own_command:,.1f} s in one process, {self.wall:,.1f} s on"
            f" {plural(self.slots, 'slot')}: {self.factor:.1f} times as fast"
        )
        databases = f"{own.databases:.1f} s databases, " if own.databases else ""
        yield (
            f"  one process: {own.collect:.1f} s start, {databases}{own.run:.1f} s tests"
            f"{'' if own.databases else ' (databases were there already)'}"
        )
        settled = f", {all_.settle:.1f} s of them settling failures" if all_.settle else ""
        yield (
            f"  distributed: {all_.collect:.1f} s start, {all_.wait:.1f} s until the first test,"
            f" {all_.run:.1f} s tests (slots {self.busy_share:.0%} busy){settled},"
            f" {self.wall - all_.collect - all_.wait - all_.run:.1f} s for the rest"
        )
        cls, seconds = self.longest
        if cls:
            bound = " and bounds the run" if self._bounded else ""
            yield f"  longest class: {cls}, {seconds:.1f} s{bound}"

    @property
    def _bounded(self) -> bool:
        """More slots would not help: one class takes most of the time."""
        all_ = Times.of(self.distributed)
        return self.slots > 1 and self.longest[1] >= _BOUNDS * (all_.run - all_.settle) > 0

    def advice(self, command: Sequence[str]) -> str:
        """One line: whether to switch."""
        run = shlex.join(command)
        if self.differences:
            verb = "is" if len(self.differences) == 1 else "are"
            return (
                f"advice:  switch when the {plural(len(self.differences), 'difference')}"
                f" {verb} fixed"
            )
        if self.factor >= _WORTH:
            split = f"; to go faster, split {self.longest[0]}" if self._bounded else ""
            return f"advice:  switch: {run}{split}"
        all_ = Times.of(self.distributed)
        beside = self.wall - all_.run
        if self.slots == 1:
            return "advice:  not on one slot: it pays with more (--local N, or more workers)"
        green = Times.of(self.sequential).own_command / max(self.wall - all_.settle, 0.1)
        if all_.settle > _SETTLED * self.wall and green >= _WORTH:
            return (
                f"advice:  not yet: {all_.settle:.1f} s went into settling failures; fix them, and"
                f" it is {green:.1f} times as fast"
            )
        if beside > all_.run:
            why = f"the suite is too short, {beside:.1f} s go by beside the tests"
            return f"advice:  not worth it: {why}"
        if self._bounded:
            return f"advice:  not yet: {self.longest[0]} takes most of the time; split it first"
        return (
            f"advice:  not worth it on these {self.slots} slots, which were busy for"
            f" {self.busy_share:.0%} of the time; try more of them, or more cores"
        )

    def to_dict(self) -> dict[str, Any]:
        """For --json: see docs/try.md."""
        cls, seconds = self.longest
        return {
            "version": 1,
            "exit_code": self.exit_code,
            "error": self._why(),
            "parity": self.parity,
            "tests": len(self.sequential.verdicts),
            "differences": [_object(one) for one in self.differences],
            "failing_in_both": self.failing_in_both,
            "order_dependent": [{"test": test, "how": how} for test, how in self.order_dependent()],
            "sequential": _run(self.sequential),
            "distributed": _run(self.distributed),
            "sequential_seconds": round(Times.of(self.sequential).own_command, 3),
            "distributed_seconds": round(self.wall, 3),
            "factor": round(self.factor, 3),
            "slots": self.slots,
            "busy_share": round(self.busy_share, 3),
            "longest_class": {"class": cls, "seconds": round(seconds, 3)},
            "switch": self.parity and self.factor >= _WORTH,
        }


def no_trial(error: str, exit_code: int) -> dict[str, Any]:
    """What replaces the --json file of an earlier comparison where there is none: why."""
    return {
        "version": 1,
        "exit_code": exit_code,
        "error": one_line(error),
        "parity": False,
        "tests": 0,
        "differences": [],
        "switch": False,
    }


def _told(one: Difference) -> Iterator[str]:
    yield f"  {one.name}: {one.sequential} in one process, {one.distributed} distributed"
    ask = f"not found out; see dct bisect {one.run} {one.name}" if one.run else "not bisected"
    yield f"    {one.cause or ask}"
    if one.command:
        yield f"    {one.command}"
    elif not one.cause and one.message:
        yield f"    {one.message}"


def _object(one: Difference) -> Mapping[str, str]:
    return {name: text for name, text in asdict(one).items() if name != "unit"}


def _run(report: RunReport) -> dict[str, Any]:
    times = {name: round(value, 3) for name, value in asdict(Times.of(report)).items()}
    return {"run": report.run, "totals": report.totals(), "seconds": times}
