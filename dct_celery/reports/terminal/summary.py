"""The summary at the end of a run: failures in full, tests not run, times, slots, the outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from dct_celery.core.model import (
    BAD_OUTCOMES,
    Failure,
    FixtureRef,
    FixtureVerdict,
    OrderKind,
    OrderNote,
    Outcome,
    RunReport,
    Verdict,
)
from dct_celery.core.plan.limits import NEAR
from dct_celery.core.text import one_line, plural, visible
from dct_celery.reports.terminal.screen import Style, cells, cut
from dct_celery.reports.terminal.wording import HEADINGS, full_name, reruns, where

_DOUBLE, _SINGLE = "=" * 70, "-" * 70
#: Ids shown of each group that was not run, below verbosity 2.
_FEW = 3
#: Most lines of the short list of failures.
_SHORT_LIST = 20
#: Least columns to which such a line is cut.
_LEAST_LINE = 80
#: With more slots than this, they are shown by worker.
_MANY_SLOTS = 16
#: Durations below this are hidden below verbosity 2, as unittest does.
_SHORT = 0.001
#: unittest's order of the blocks.
_ORDER = (Outcome.ERROR, Outcome.FAILED, Outcome.XPASSED)
_HEADS = {
    0: ("OK", "green"),
    1: ("FAILED", "red"),
    2: ("INTERRUPTED", "red"),
    5: ("NO TESTS RAN", "yellow"),
}


class Summary:
    """Renders a report as lines; `rerun` gives the command that runs one test again."""

    def __init__(
        self,
        report: RunReport,
        *,
        style: Style,
        width: int,
        line: int,
        verbosity: int,
        rerun: Callable[[Verdict], str],
    ) -> None:
        """`width`: columns of what stands side by side; `line`: the most that one line about a
        failure takes.
        """
        self._report = report
        self._style = style
        self._width = width
        self._line = line
        self._verbosity = verbosity
        self._rerun = rerun

    def lines(self, *, durations: int | None, timing: bool) -> Iterator[str]:
        """All of it. `durations`: how many of the slowest tests to list; 0: all; None: no list."""
        yield from self._failures()
        yield from self._fixtures()
        yield from self._not_run()
        yield from self._flaky()
        yield from self._order_dependent()
        yield from self._near_limits()
        if durations is not None:
            yield from self._slowest(durations)
        if timing:
            yield from self._timing()
        if self._verbosity >= 1:
            yield from self._slots()
        yield from self._short_list()
        yield _SINGLE
        yield self._ran()
        yield ""
        yield from self._end()

    # -- what went wrong
    # ---------------------------------------------------------------------------------------------

    def _failures(self) -> Iterator[str]:
        for v in self._bad():
            yield from self._block(v, full_name(v))
            yield self._style.dim("re-run: ") + one_line(self._rerun(v))
            yield ""

    def _fixtures(self) -> Iterator[str]:
        for f in self._report.fixtures:
            if f.outcome in BAD_OUTCOMES:
                yield from self._block(f, one_line(f.id))
                if f.covers:
                    yield f"It kept {plural(len(f.covers), 'test')} from running."
                    yield ""

    def _block(self, v: Verdict | FixtureVerdict, name: str) -> Iterator[str]:
        yield _DOUBLE
        yield f"{self._style.bold_red(HEADINGS[v.outcome] + ':')} {self._style.bold(name)}"
        if facts := self._circumstances(v):
            yield self._style.dim(facts)
        yield _SINGLE
        if not v.failures:
            yield visible(v.reason) or _without_traceback(v.outcome)
            yield ""
        for failure in v.failures:
            yield from self._failure(failure, alone=len(v.failures) == 1)
        yield from self._attached("Captured output:", v.output)
        yield from self._attached("SQL:", v.sql if isinstance(v, Verdict) else "")

    def _circumstances(self, v: Verdict | FixtureVerdict) -> str:
        facts = [where(v)]
        if isinstance(v, Verdict):
            facts += [
                f"{v.seconds:,.2f} s",
                f"attempt {v.attempt}" if v.attempt > 1 else "",
                reruns(v),
            ]
        return ", ".join(filter(None, facts))

    def _failure(self, failure: Failure, *, alone: bool) -> Iterator[str]:
        if failure.subtest or not alone:
            kind = "ERROR" if failure.kind == "error" else "FAIL"
            subtest = f" in subtest {one_line(failure.subtest)}" if failure.subtest else ""
            yield self._style.red(f"{kind}{subtest}:")
        yield visible(failure.text).rstrip("\n") or one_line(f"{failure.type}: {failure.message}")
        yield ""

    def _attached(self, title: str, text: str) -> Iterator[str]:
        if text.strip():
            yield self._style.bold(title)
            yield visible(text).strip("\n")
            yield ""

    def _short_list(self) -> Iterator[str]:
        """One line per failure, where several are so long that the first has scrolled away."""
        found = [(HEADINGS[v.outcome], v.entry.id, v.message) for v in self._bad()]
        found += [
            (HEADINGS[f.outcome], f.id, _message_of(f))
            for f in self._report.fixtures
            if f.outcome in BAD_OUTCOMES
        ]
        if len(found) < 2:
            return
        yield self._style.bold_red("Failed:")
        for heading, name, message in found[:_SHORT_LIST]:
            first = one_line(message.strip().partition("\n")[0])
            line = f"  {heading} {one_line(name)}" + (f"  {first}" if first else "")
            yield cut(line, max(self._line, _LEAST_LINE))
        if len(found) > _SHORT_LIST:
            yield self._style.dim(f"  and {len(found) - _SHORT_LIST:,} more")
        yield ""

    def _bad(self) -> list[Verdict]:
        bad = [v for v in self._report.verdicts if v.outcome in BAD_OUTCOMES]
        return sorted(bad, key=lambda v: _ORDER.index(v.outcome))

    def _not_run(self) -> Iterator[str]:
        groups = self._not_run_by_reason()
        if not groups:
            return
        yield self._style.bold_red(f"Not run: {plural(sum(map(len, groups.values())), 'test')}")
        for reason, ids in groups.items():
            shown = ids if self._verbosity >= 2 else ids[:_FEW]
            # Why the run as a whole ended is in its last line.
            below = self._explains and reason == one_line(self._report.note)
            yield f"  {len(ids):,}: {'see below' if below else reason}"
            yield from (f"      {one_line(id_)}" for id_ in shown)
            if len(ids) > len(shown):
                yield self._style.dim(f"      and {len(ids) - len(shown):,} more")
        yield ""

    def _not_run_by_reason(self) -> dict[str, list[str]]:
        # Tests that a failed fixture covers are in the fixture's own block; those that a fixture
        # skips count as skipped, as in unittest.
        failed = {f.fixture for f in self._report.fixtures if f.outcome in BAD_OUTCOMES}
        explained = failed | self._skipping
        groups: dict[str, list[str]] = {}
        for v in self._report.verdicts:
            if v.outcome is Outcome.NOT_RUN and v.covered_by not in explained:
                reason = v.reason or (
                    f"kept by {v.covered_by}" if v.covered_by else "no verdict came"
                )
                groups.setdefault(one_line(reason), []).append(v.entry.id)
        return groups

    @property
    def _skipping(self) -> set[FixtureRef]:
        return {f.fixture for f in self._report.fixtures if f.outcome is Outcome.SKIPPED}

    def _flaky(self) -> Iterator[str]:
        flaky = [v for v in self._report.verdicts if v.flaky]
        if not flaky:
            return
        yield self._style.yellow(
            f"Flaky: {plural(len(flaky), 'test')} failed, and passed when run again"
        )
        for v in flaky:
            yield f"  {one_line(v.entry.id)}"
            yield from (f"      {where(e)}: {one_line(_first_line(e))}" for e in v.earlier)
            yield self._style.dim(f"      {where(v)}: passed")
        yield ""

    def _order_dependent(self) -> Iterator[str]:
        """By class: tests that depend on what ran before them, and what is not settled."""
        settled: Counter[tuple[str, OrderNote, str]] = Counter()
        unsettled: Counter[tuple[str, OrderNote, str]] = Counter()
        for v in self._report.verdicts:
            if v.order is not None:
                bad = "fails" if v.outcome in BAD_OUTCOMES else "passes"
                note = replace(v.order, failed_with="")
                (settled if note.proven else unsettled)[v.entry.cls, note, bad] += 1
        for f in self._report.fixtures:
            if f.order is not None:
                note = replace(f.order, failed_with="")
                (settled if note.proven else unsettled)[f.id, note, "fails"] += 1
        if settled:
            many = plural(sum(settled.values()), "test")
            yield self._style.yellow(f"Order-dependent: {many}")
            yield from self._notes(settled)
            yield ""
        if unsettled:
            many = plural(sum(unsettled.values()), "failure")
            yield self._style.yellow(
                f"Not settled: {many} may be due to the order of tests (--settle)"
            )
            yield from self._notes(unsettled)
            yield ""

    def _notes(self, found: Counter[tuple[str, OrderNote, str]]) -> Iterator[str]:
        shown = list(found.items())
        if self._verbosity < 2:
            shown = shown[:_SHORT_LIST]
        for (name, note, verdict), count in shown:
            tests = f" ({plural(count, 'test')})" if count > 1 else ""
            yield f"  {one_line(name)}{tests} {one_line(str(note))}"
            if note.kind in (OrderKind.BRITTLE, OrderKind.VICTIM) and note.proven:
                yield self._style.dim(f"      in the order of the sequential run it {verdict}")
        if len(found) > len(shown):
            yield self._style.dim(f"  and {len(found) - len(shown):,} more")

    def _near_limits(self) -> Iterator[str]:
        near = self._report.near_limits
        if not near:
            return
        many = "1 thing" if len(near) == 1 else f"{len(near):,} things"
        yield self._style.yellow(f"Near a time limit: {many} took {NEAR:.0%} of it or more")
        shown = near if self._verbosity >= 2 else near[:_SHORT_LIST]
        yield from (f"  {one_line(str(one))}" for one in shown)
        if len(near) > len(shown):
            yield self._style.dim(f"  and {len(near) - len(shown):,} more")
        yield ""

    # -- where the time went -----------------------------------------------------------

    def _slowest(self, count: int) -> Iterator[str]:
        ran = [v for v in self._report.verdicts if v.outcome is not Outcome.NOT_RUN]
        slowest = sorted(ran, key=lambda v: v.seconds, reverse=True)[: count or None]
        shown = [v for v in slowest if v.seconds >= _SHORT or self._verbosity >= 2]
        yield self._style.bold("Slowest test durations")
        yield from (f"{v.seconds:9,.3f} s  {full_name(v)}" for v in shown)
        if len(shown) < len(slowest):
            yield self._style.dim(
                f"(durations < {_SHORT} s were hidden; use -v 2 to show these durations)"
            )
        yield ""

    def _timing(self) -> Iterator[str]:
        yield self._style.bold("Timing")
        for part in ("collect", "snapshot", "wait", "run", "finish", "wall"):
            if part in self._report.seconds:
                yield f"  {part:<8} {self._report.seconds[part]:9,.2f} s"
        yield from self._databases()
        yield ""

    def _databases(self) -> Iterator[str]:
        """What the databases cost: how each worker came by its templates, what clones took, and how
        long slots waited.
        """
        use = self._report.databases
        if not use:
            return
        for worker, how in sorted(use["workers"].items()):
            steps = ", ".join(
                f"{name} {seconds:,.2f} s" for name, seconds in how["seconds"].items()
            )
            yield f"  {one_line(worker)}: templates {how['templates'] or 'unknown'}; {steps}"
        if saved := use.get("saved_seconds"):
            yield f"  templates were there already, which saved {saved:,.2f} s"
        made = [
            f"{plural(use['cloned'], 'clone')} in {use['clone_seconds']:,.2f} s",
            f"{use['healed']} healed in {use['heal_seconds']:,.2f} s" if use["healed"] else "",
            f"{use['adopted']} taken over from earlier runs" if use["adopted"] else "",
            f"slots waited {use['waited_seconds']:,.2f} s",
        ]
        yield f"  databases: {', '.join(part for part in made if part)}"
        yield (
            f"  connections: {use['opened']} opened, {use['recycled']} recycled, {use['failed']}"
            f" failed, {use['statements']:,} statements"
        )

    def _slots(self) -> Iterator[str]:
        if not self._report.slots:
            return
        by_worker = len(self._report.slots) > _MANY_SLOTS
        items = self._workers_busy() if by_worker else self._slots_busy()
        yield from _flow("workers: " if by_worker else "slots: ", items, min(self._width, 120))
        yield ""

    def _slots_busy(self) -> list[str]:
        return [
            f"{one_line(str(s['worker']))}/{s['slot']} {self._busy([s])}"
            for s in sorted(self._report.slots, key=lambda s: (str(s["worker"]), int(s["slot"])))
        ]

    def _workers_busy(self) -> list[str]:
        workers: dict[str, list[dict[str, Any]]] = {}
        for slot in self._report.slots:
            workers.setdefault(str(slot["worker"]), []).append(slot)
        return [
            f"{one_line(w)} {plural(len(of), 'slot')} {self._busy(of)}"
            for w, of in sorted(workers.items())
        ]

    def _busy(self, slots: list[dict[str, Any]]) -> str:
        """`58.1 s busy (95%), 12 chunks` of one slot or of a worker's slots together."""
        seconds = sum(float(s["busy_seconds"]) for s in slots)
        chunks = plural(sum(int(s["chunks"]) for s in slots), "chunk")
        run = self._report.seconds.get("run", 0.0) * len(slots)
        share = f" ({min(1.0, seconds / run):.0%})" if run else ""
        return f"{seconds:,.1f} s busy{share}, {chunks}"

    # -- the final lines ---------------------------------------------------------------

    def _ran(self) -> str:
        slots = self._report.slots
        count = sum(1 for v in self._report.verdicts if v.outcome is not Outcome.NOT_RUN)
        seconds = self._report.seconds
        text = f"Ran {plural(count, 'test')} in {seconds.get('wall', 0.0):,.1f} s"
        if slots:
            workers = plural(len({s["worker"] for s in slots}), "worker")
            text += f" on {plural(len(slots), 'slot')} ({workers})"
        if "first_failure" in seconds:
            text += f"; first failure after {seconds['first_failure']:,.1f} s"
        return text

    @property
    def _explains(self) -> bool:
        """The final line says more than how the run ended."""
        return self._report.note.lower() != _HEADS.get(self._report.exit_code, ("",))[0].lower()

    def _end(self) -> Iterator[str]:
        head, colour = _HEADS.get(self._report.exit_code, ("INCOMPLETE", "red"))
        paint = {
            "green": self._style.bold_green,
            "red": self._style.bold_red,
            "yellow": self._style.yellow,
        }[colour]
        first, _, more = visible(self._report.note).strip().partition("\n")
        first = "" if first.lower() == head.lower() else first
        counts, flaky = self._counts(), self._report.totals()["flaky"]
        numbers = (f", {flaky:,} flaky" if flaky else "") + (f" ({counts})" if counts else "")
        if flaky and colour == "green":
            paint = self._style.yellow
        yield paint(head + numbers) + (f": {first}" if first else "")
        if more:
            yield more

    def _counts(self) -> str:
        fixtures, totals, skipping = self._report.fixtures, self._report.totals(), self._skipping
        with_fixture = sum(
            1
            for v in self._report.verdicts
            if v.outcome is Outcome.NOT_RUN and v.covered_by in skipping
        )
        counts = {
            "failures": totals[Outcome.FAILED],
            # unittest counts a fixture that raises as an error, and one that skips as one skip.
            "errors": totals[Outcome.ERROR] + totals["fixtures"],
            "skipped": (
                totals[Outcome.SKIPPED] + sum(1 for f in fixtures if f.outcome is Outcome.SKIPPED)
            ),
            "expected failures": totals[Outcome.XFAILED],
            "unexpected successes": totals[Outcome.XPASSED],
            "not run": totals[Outcome.NOT_RUN] - with_fixture,
        }
        return ", ".join(f"{name}={count:,}" for name, count in counts.items() if count)


def _message_of(f: FixtureVerdict) -> str:
    return f"{f.failures[0].type}: {f.failures[0].message}" if f.failures else f.reason


def _first_line(v: Verdict) -> str:
    """What went wrong, with file and line if they are known."""
    place = next((f"{f.file}:{f.line}" for f in v.failures if f.file and f.line), "")
    message = v.message.partition("\n")[0] or HEADINGS[v.outcome]
    return f"{message} ({place})" if place else message


def _without_traceback(outcome: Outcome) -> str:
    if outcome is Outcome.XPASSED:
        return "It passed, but is marked as an expected failure."
    return "It gave no traceback."


def _flow(head: str, items: Iterable[str], width: int) -> Iterator[str]:
    """Items side by side, as many to a line as fit in `width` columns."""
    line = head
    for item in items:
        if line.strip() and line != head and cells(line) + cells(item) > width:
            yield line.rstrip()
            line = " " * len(head)
        line += item + "; "
    yield line.removesuffix("; ")
