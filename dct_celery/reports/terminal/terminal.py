"""The terminal's reporter: a live line, or plain lines and a heartbeat; then the summary.

stdout has the results, stderr the warnings. Nothing that a test printed reaches the terminal raw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Self, TextIO

from dct_celery.core.model import (
    BAD_OUTCOMES,
    FixtureRef,
    FixtureVerdict,
    Outcome,
    RunReport,
    Verdict,
)
from dct_celery.core.run.view import RunView
from dct_celery.core.text import one_line, plural, strip_ansi, visible
from dct_celery.ports import reporting
from dct_celery.ports.reporting import ReportEvent, WorkersChanged
from dct_celery.reports import masked
from dct_celery.reports.terminal import wording as words
from dct_celery.reports.terminal.screen import Screen, Style, cells, cut, on, wants_colour
from dct_celery.reports.terminal.summary import Summary
from dct_celery.security import masking

#: Seconds between two repaints of the live line.
REPAINT = 0.1
#: Seconds between two heartbeats, where there is no live line.
HEARTBEAT = 30.0
#: Columns of a failure's line where it does not go to a terminal.
_WIDE = 240
#: Columns that the message of a failure keeps on a narrow terminal.
_LEAST_MESSAGE = 20
#: The last test's name is shown if this many columns are free.
_LEAST_NAME = 12


class Terminal:
    """The reporter that prints. Not for several threads."""

    #: See `ports.reporting.Reporter`: it masks the little that it shows.
    masks = True

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        tty: bool,
        colour: bool,
        width: int,
        verbosity: int,
        clock: Callable[[], float],
        err_colour: bool | None = None,
        measure: Callable[[], int] | None = None,
        mask: masking.Masker | None = None,
    ) -> None:
        """Prints to `out`, and warnings to `err`.

        Args:
            tty: Whether to paint a live line.
            width: Columns.
            verbosity: Django's, 0 to 3.
            clock: Monotonic seconds.
            err_colour: Whether to use colours on `err`; default: as `colour`.
            measure: Returns the width at each repaint; default: `width`.
            mask: Masks secrets in all output; default: the masker of this process.
        """
        self._view = RunView()
        self._screen = Screen(out, err)
        self._style = Style(colour)
        self._err_style = Style(colour if err_colour is None else err_colour)
        self._tty = tty
        self._measure = measure or (lambda: width)
        self._verbosity = verbosity
        self._clock = clock
        self._mask = mask or masking.PROCESS
        self._rerun: Callable[[Verdict], str] = lambda verdict: verdict.entry.id
        self._durations: int | None = None
        self._timing = False
        self._names: frozenset[str] | None = None
        #: Fixtures that skipped their tests, and why.
        self._skipped: dict[FixtureRef, str] = {}
        self._running = False
        self._shown_at = 0.0

    @classmethod
    def detect(
        cls,
        env: Mapping[str, str],
        *,
        out: TextIO,
        err: TextIO,
        verbosity: int,
        clock: Callable[[], float],
    ) -> Self:
        """A terminal for these streams and this environment; no live line in CI or if TERM=dumb."""
        tty = out.isatty() and env.get("TERM") != "dumb" and not on(env, "CI")
        return cls(
            out,
            err,
            tty=tty,
            colour=wants_colour(env, isatty=out.isatty()),
            err_colour=wants_colour(env, isatty=err.isatty()),
            width=_columns(out, env),
            measure=lambda: _columns(out, env),
            verbosity=verbosity,
            clock=clock,
        )

    # -- events ------------------------------------------------------------------------

    def take(self, event: ReportEvent) -> None:
        match event:
            case reporting.RunBegan():
                self._names = None  # of the run before this one
            case reporting.Notice(text):
                self.line(text)
            case reporting.Warned(text):
                self.warn(text)
            case reporting.Started(view, settings, rerun):
                self._rerun, self._durations, self._timing = (
                    rerun,
                    settings.durations,
                    settings.timing,
                )
                self.start(view)
            case reporting.TestJudged(verdict):
                self.verdict(verdict)
            case reporting.FixtureJudged(fixture):
                self.fixture(fixture)
            case WorkersChanged():
                self.workers(event)
            case reporting.Stopping(reason, running):
                ending = f"; {plural(running, 'slot')} still running" if running else ""
                self.line(f"stopping: {reason}{ending}")
            case reporting.Ticked():
                self.tick()
            case reporting.Finished(report):
                self.finish(report)
            case reporting.Failed() | reporting.Closed():
                self.close()
            case _:
                pass

    def line(self, text: str) -> None:
        """A status line: `collected 1,234 tests in 2.1 s`. Not at verbosity 0."""
        if self._verbosity >= 1:
            self._screen.print(visible(self._mask(strip_ansi(text))))

    def print(self, text: str) -> None:
        """Lines of a report, at every verbosity; they are clean already."""
        self._screen.print(text)

    def warn(self, text: str) -> None:
        """A warning on stderr, at every verbosity."""
        self._screen.warn(
            self._err_style.yellow("warning: ") + visible(self._mask(strip_ansi(text)))
        )

    def start(self, view: RunView) -> None:
        """The run begins: live line and heartbeat from now on."""
        self._view = view
        self._running = True
        self._shown_at = self._clock()
        self._repaint()

    def verdict(self, v: Verdict) -> None:
        """A test has its final verdict."""
        if self._verbosity < 1 or (self._verbosity == 1 and v.outcome not in BAD_OUTCOMES):
            return
        v = masked.verdict(v, self._mask)
        if self._verbosity >= 2:
            outcome, reason = v.outcome, v.reason
            if v.covered_by in self._skipped:
                outcome, reason = Outcome.SKIPPED, self._skipped[v.covered_by]
            self._screen.print(
                self._result(words.full_name(v), outcome, reason, v.attempt, words.reruns(v))
            )
        else:
            facts = ", ".join(
                filter(None, (words.where(v), f"{v.seconds:,.2f} s", words.reruns(v)))
            )
            self._failed(words.HEADINGS[v.outcome], v.entry.id, v.message, facts)

    def fixture(self, f: FixtureVerdict) -> None:
        """A class or module fixture did not simply pass."""
        f = masked.fixture(f, self._mask)
        if f.outcome is Outcome.SKIPPED:
            self._skipped[f.fixture] = f.reason
        if self._verbosity >= 2:
            self._screen.print(self._result(one_line(f.id), f.outcome, f.reason))
        elif self._verbosity == 1 and f.outcome in BAD_OUTCOMES:
            kept = f"{plural(len(f.covers), 'test')} not run" if f.covers else ""
            message = f"{f.failures[0].type}: {f.failures[0].message}" if f.failures else f.reason
            self._failed("ERROR", f.id, message, ", ".join(filter(None, (words.where(f), kept))))

    def workers(self, event: WorkersChanged) -> None:
        """Names workers that join or leave during the run."""
        now = frozenset(event.workers)
        before, self._names = self._names, now
        if before is None or before == now or not self._running:
            return
        change = [f"{one_line(name)} joined" for name in sorted(now - before)]
        for name in sorted(before - now):
            gone = "takes no part any more" if name in event.present else "left"
            change.append(f"{one_line(name)} {gone}")
        self.line(f"{', '.join(change)}: {plural(event.slots, 'slot')} connected")

    def tick(self) -> None:
        """To be called ten times a second: repaints the live line, or prints a heartbeat if due."""
        since = self._clock() - self._shown_at
        if not self._running or self._verbosity < 1:
            return
        if self._tty and since >= REPAINT:
            self._repaint()
        elif not self._tty and since >= HEARTBEAT:
            self._shown_at = self._clock()
            self._screen.print(self._heartbeat())

    def finish(self, report: RunReport) -> None:
        """Prints the summary, with slowest tests and timing if the settings ask for them."""
        self.close()
        report = masked.report(report, self._mask)
        width = self._measure()
        summary = Summary(
            report,
            style=self._style,
            width=width,
            line=width if self._tty else _WIDE,
            verbosity=self._verbosity,
            rerun=self._rerun,
        )
        self._screen.print(
            "\n".join(["", *summary.lines(durations=self._durations, timing=self._timing)])
        )

    def close(self) -> None:
        """Erases the live line. May be called twice: by `finish`, and when a run breaks off."""
        self._running = False
        self._screen.erase()

    # -- lines that stay ---------------------------------------------------------------

    def _result(
        self, name: str, outcome: Outcome, reason: str, attempt: int = 1, reruns: str = ""
    ) -> str:
        paint = {Outcome.PASSED: self._style.green, Outcome.SKIPPED: self._style.yellow}
        facts = ", ".join(filter(None, (f"attempt {attempt}" if attempt > 1 else "", reruns)))
        result = words.result(outcome, reason) + (f" ({facts})" if facts else "")
        colour = (
            self._style.red if outcome in BAD_OUTCOMES else paint.get(outcome, self._style.yellow)
        )
        return f"{name} ... {colour(result)}"

    def _failed(self, heading: str, id_: str, message: str, facts: str) -> None:
        id_, message = one_line(id_), one_line(message.partition("\n")[0])
        facts = f"  ({facts})" if facts else ""
        columns = self._measure() if self._tty else _WIDE
        room = columns - cells(heading + id_ + facts) - 3
        while room < _LEAST_MESSAGE:
            room += max(columns, 1)
        message = cut(message, room, self._ellipsis)
        self._screen.print(
            f"{self._style.bold_red(heading)}"
            f" {id_}{'  ' if message else ''}{message}{self._style.dim(facts)}"
        )

    def _heartbeat(self) -> str:
        view, now = self._view, self._clock()
        rate, eta = view.rate(now), view.eta(now)
        parts = [f"{view.done:,}/{view.total or 0:,} done", f"{view.bad:,} failed"]
        parts += [f"{view.doubts:,} in doubt"] if view.doubts else []
        if view.waiting:
            return ", ".join([*parts, one_line(view.waiting)])
        parts += [f"{words.rate(rate)} tests/s"] if rate else []
        parts += [f"about {words.duration(eta)} left"] if eta else []
        return ", ".join(
            [
                *parts,
                f"{plural(len(view.busy), 'slot')} busy" if view.connected else "no slot connected",
            ]
        )

    # -- the live line -----------------------------------------------------------------

    @property
    def _ellipsis(self) -> str:
        return "…" if self._screen.unicode else "..."

    def _repaint(self) -> None:
        if self._tty and self._verbosity >= 1:
            self._shown_at = self._clock()
            # The last column stays free: a character there leaves some terminals about to wrap.
            self._screen.paint(self._live(self._measure() - 1))

    def _live(self, width: int) -> str:
        """As many parts as fit in `width` columns, chosen by importance, in reading order."""
        parts = self._parts(bar=20 if width >= 79 else 10)
        shown: list[tuple[int, str]] = []
        free = width
        for place, plain, painted in parts:
            if (need := cells(plain) + (2 if shown else 0)) <= free:
                shown.append((place, painted))
                free -= need
        if (name := self._at_the_end()) and free >= _LEAST_NAME + 2:
            shown.append((9, self._style.dim(cut(name, free - 2, self._ellipsis))))
        return "  ".join(text for _, text in sorted(shown))

    def _at_the_end(self) -> str:
        """What the run waits for, else the test that ended last."""
        if self._view.waiting:
            return self._screen.encodable(one_line(self._view.waiting))
        newest = self._view.newest
        return (
            ""
            if newest is None
            else self._screen.encodable(words.short_name(masked.verdict(newest, self._mask)))
        )

    def _parts(self, *, bar: int) -> list[tuple[int, str, str]]:
        """(place, plain, painted) of each part, the most important first.

        Numbers keep their width, so that nothing jumps.
        """
        view, now, style = self._view, self._clock(), self._style
        total = f"{view.total or 0:,}"
        done, bad = f"{view.done:>{len(total)},}/{total}", f"{view.bad:,} failed"
        slots = f"{len(view.busy)}/{view.connected} {'slot' if view.connected == 1 else 'slots'}"
        eta = view.eta(now)
        left = f"{words.duration(eta)} left" if eta else ""
        rate = "" if view.waiting else f"{words.rate(view.rate(now)):>3}/s"
        doubts = f"{view.doubts:,} in doubt" if view.doubts else ""
        parts = [
            (1, done, style.bold(done)),
            (2, bad, style.red(bad) if view.bad else style.dim(bad)),
            (2, doubts, style.yellow(doubts)),
            (4, left, left),
            (0, "-" * bar, self._bar(bar)),
            (5, slots, slots if view.connected else style.yellow(slots)),
            (3, rate, rate),
        ]
        return [part for part in parts if part[1]]

    def _bar(self, width: int) -> str:
        view = self._view
        full = width * view.done // view.total if view.total else 0
        done, rest = ("━", "─") if self._screen.unicode else ("#", "-")
        return (self._style.red if view.bad else self._style.green)(done * full) + self._style.dim(
            rest * (width - full)
        )


def _columns(out: TextIO, env: Mapping[str, str]) -> int:
    """Columns of the window; COLUMNS wins, 80 where there is no window."""
    if env.get("COLUMNS", "").isdecimal() and int(env["COLUMNS"]) > 0:
        return int(env["COLUMNS"])
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
