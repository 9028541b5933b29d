"""What a person sees while a run runs: a live line on a terminal, else plain lines and a heartbeat; then the summary.

stdout has the results, stderr the warnings. Nothing that a test printed reaches the terminal raw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Self, TextIO

from dct_celery.core.model import BAD_OUTCOMES, FixtureVerdict, Outcome, RunReport, Verdict
from dct_celery.core.progress import Progress
from dct_celery.core.text import one_line, strip_ansi, visible
from dct_celery.reports import _masked
from dct_celery.reports import _words as words
from dct_celery.reports._screen import Screen, Style, cells, cut, on, wants_colour
from dct_celery.reports._summary import Summary
from dct_celery.security import masking

#: Seconds between two paintings of the live line, and between two heartbeats.
REPAINT, HEARTBEAT = 0.1, 30.0
#: Columns of a failure's line where it does not go to a terminal, and the least its message keeps on a narrow one.
_WIDE, _LEAST_MESSAGE = 240, 20
#: The last test's name is shown if this many columns are free.
_LEAST_NAME = 12


class Terminal:
    """A fold over a run's events that prints. Not for several threads."""

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
        rerun: Callable[[Verdict], str],
        err_colour: bool | None = None,
        measure: Callable[[], int] | None = None,
        mask: masking.Masker | None = None,
    ) -> None:
        """
        `tty`: paint a live line; `width`: columns; `verbosity`: Django's 0 to 3; `clock`: monotonic seconds;
        `rerun`: the command that runs a test again; `err_colour`: colours on `err`, default as `colour`;
        `measure`: asked for the width anew at each painting, default always `width`; `mask`: takes secrets out of all that
        is printed, default the one of this process.
        """
        self.progress = Progress(0)
        self._screen = Screen(out, err)
        self._style = Style(colour)
        self._err_style = Style(colour if err_colour is None else err_colour)
        self._tty = tty
        self._measure = measure or (lambda: width)
        self._verbosity = verbosity
        self._clock = clock
        self._rerun = rerun
        self._mask = mask or masking.PROCESS
        self._fixtures_failed = 0
        self._names: frozenset[str] | None = None
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
        rerun: Callable[[Verdict], str],
    ) -> Self:
        """A terminal as the streams and the environment ask for: see `wants_colour`; no live line in CI or if dumb."""
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
            rerun=rerun,
        )

    def explain(self, rerun: Callable[[Verdict], str]) -> None:
        """From now on `rerun` says how one test is run alone."""
        self._rerun = rerun

    # -- events ------------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A status line: `collected 1,234 tests in 2.1 s`. Not at verbosity 0."""
        if self._verbosity >= 1:
            self._screen.print(visible(self._mask(strip_ansi(text))))

    def warn(self, text: str) -> None:
        """A warning on stderr, at every verbosity."""
        self._screen.warn(self._err_style.yellow("warning: ") + visible(self._mask(strip_ansi(text))))

    def start(self, total: int) -> None:
        """The run of `total` entries begins: live line and heartbeat from now on."""
        before, now = self.progress, self._clock()
        self.progress = Progress(total, began=now)
        self.progress.slots(before.busy, before.connected)
        self.progress.remaining_seconds = before.remaining_seconds
        self._running = True
        self._shown_at = now
        self._repaint()

    def verdict(self, v: Verdict) -> None:
        """A test has its final verdict."""
        v = _masked.verdict(v, self._mask)
        self.progress.verdict(v, self._clock())
        if self._verbosity >= 2:
            self._screen.print(self._result(words.full_name(v), v.outcome, v.reason, v.attempt, words.reruns(v)))
        elif self._verbosity == 1 and v.outcome in BAD_OUTCOMES:
            facts = ", ".join(filter(None, (words.where(v), f"{v.seconds:,.2f} s", words.reruns(v))))
            self._failed(words.HEADINGS[v.outcome], v.entry.id, v.message, facts)

    def fixture(self, f: FixtureVerdict) -> None:
        """A class or module fixture did not simply pass."""
        f = _masked.fixture(f, self._mask)
        bad = f.outcome in BAD_OUTCOMES
        self._fixtures_failed += bad
        if self._verbosity >= 2:
            self._screen.print(self._result(one_line(f.id), f.outcome, f.reason))
        elif self._verbosity == 1 and bad:
            kept = f"{words.plural(len(f.covers), 'test')} not run" if f.covers else ""
            message = f"{f.failures[0].type}: {f.failures[0].message}" if f.failures else f.reason
            self._failed("ERROR", f.id, message, ", ".join(filter(None, (words.where(f), kept))))

    def slots(self, busy: int, connected: int, names: Iterable[str] = ()) -> None:
        """Slots that run a chunk, slots connected, names of their workers; who joins or leaves mid-run is told."""
        self.progress.slots(busy, connected)
        now = frozenset(names)
        before, self._names = self._names, now
        if before is None or before == now or not self._running:
            return
        change = [f"{one_line(name)} joined" for name in sorted(now - before)]
        change += [f"{one_line(name)} left" for name in sorted(before - now)]
        self.line(f"{', '.join(change)}: {words.plural(connected, 'slot')} connected")

    def remaining(self, seconds: float | None) -> None:
        """Predicted seconds of work still to do, on one slot (for the time left); None: nobody knows."""
        self.progress.remaining_seconds = seconds

    def tick(self) -> None:
        """To be called some ten times a second: repaints the live line or gives the heartbeat when one is due."""
        since = self._clock() - self._shown_at
        if not self._running or self._verbosity < 1:
            return
        if self._tty and since >= REPAINT:
            self._repaint()
        elif not self._tty and since >= HEARTBEAT:
            self._shown_at = self._clock()
            self._screen.print(self._heartbeat())

    def finish(self, report: RunReport, *, durations: int | None = None, timing: bool = False) -> None:
        """The summary; `durations`: how many of the slowest tests (0: all); `timing`: a table of the run's parts."""
        self.close()
        report = _masked.report(report, self._mask)
        summary = Summary(report, style=self._style, width=self._measure(), verbosity=self._verbosity, rerun=self._rerun)
        self._screen.print("\n".join(["", *summary.lines(durations=durations, timing=timing)]))

    def close(self) -> None:
        """Take the live line away. May be called twice; `finish` does it, a run that breaks off must."""
        self._running = False
        self._screen.erase()

    # -- lines that stay ---------------------------------------------------------------------------------------------

    def _result(self, name: str, outcome: Outcome, reason: str, attempt: int = 1, reruns: str = "") -> str:
        paint = {Outcome.PASSED: self._style.green, Outcome.SKIPPED: self._style.yellow}
        facts = ", ".join(filter(None, (f"attempt {attempt}" if attempt > 1 else "", reruns)))
        told = words.result(outcome, reason) + (f" ({facts})" if facts else "")
        colour = self._style.red if outcome in BAD_OUTCOMES else paint.get(outcome, self._style.yellow)
        return f"{name} ... {colour(told)}"

    def _failed(self, heading: str, id_: str, message: str, facts: str) -> None:
        id_, message = one_line(id_), one_line(message.partition("\n")[0])
        facts = f"  ({facts})" if facts else ""
        columns = self._measure() if self._tty else _WIDE
        room = columns - cells(heading + id_ + facts) - 3
        while room < _LEAST_MESSAGE:
            room += max(columns, 1)
        message = cut(message, room, self._ellipsis)
        self._screen.print(f"{self._style.bold_red(heading)} {id_}{'  ' if message else ''}{message}{self._style.dim(facts)}")

    def _heartbeat(self) -> str:
        p, now = self.progress, self._clock()
        rate, eta = p.rate(now), p.eta(now)
        parts = [f"{p.done:,}/{p.total:,} done", f"{self._bad:,} failed"]
        parts += [f"{words.rate(rate)} tests/s"] if rate else []
        parts += [f"about {words.duration(eta)} left"] if eta and p.done < p.total else []
        return ", ".join([*parts, f"{words.plural(p.busy, 'slot')} busy" if p.connected else "no slot connected"])

    # -- the live line -----------------------------------------------------------------------------------------------

    @property
    def _bad(self) -> int:
        return self.progress.failed + self._fixtures_failed

    @property
    def _ellipsis(self) -> str:
        return "…" if self._screen.unicode else "..."

    def _repaint(self) -> None:
        if self._tty and self._verbosity >= 1:
            self._shown_at = self._clock()
            # The last column stays free: a character there leaves some terminals about to wrap.
            self._screen.paint(self._live(self._measure() - 1))

    def _live(self, width: int) -> str:
        """The parts in reading order, as many as fit in `width` columns, the most important ones first."""
        parts = self._parts(bar=20 if width >= 79 else 10)
        shown: list[tuple[int, str]] = []
        free = width
        for place, plain, painted in parts:
            if (need := cells(plain) + (2 if shown else 0)) <= free:
                shown.append((place, painted))
                free -= need
        if free >= _LEAST_NAME + 2 and self.progress.last is not None:
            name = self._screen.encodable(words.short_name(self.progress.last))
            shown.append((9, self._style.dim(cut(name, free - 2, self._ellipsis))))
        return "  ".join(text for _, text in sorted(shown))

    def _parts(self, *, bar: int) -> list[tuple[int, str, str]]:
        """(place, plain, painted) of each part, the most important first. Numbers keep their width: nothing jumps."""
        p, now, style = self.progress, self._clock(), self._style
        total = f"{p.total:,}"
        done, bad = f"{p.done:>{len(total)},}/{total}", f"{self._bad:,} failed"
        slots = f"{p.busy}/{p.connected} {'slot' if p.connected == 1 else 'slots'}"
        eta = p.eta(now)
        left = f"{words.duration(eta)} left" if eta and p.done < p.total else ""
        parts = [
            (1, done, style.bold(done)),
            (2, bad, style.red(bad) if self._bad else style.dim(bad)),
            (4, left, left),
            (0, "-" * bar, self._bar(bar)),
            (5, slots, slots if p.connected else style.yellow(slots)),
            (3, rate := f"{words.rate(p.rate(now)):>3}/s", rate),
        ]
        return [part for part in parts if part[1]]

    def _bar(self, width: int) -> str:
        p = self.progress
        full = width * p.done // p.total if p.total else 0
        done, rest = ("━", "─") if self._screen.unicode else ("#", "-")
        return (self._style.red if self._bad else self._style.green)(done * full) + self._style.dim(rest * (width - full))


def _columns(out: TextIO, env: Mapping[str, str]) -> int:
    """Columns of the window; COLUMNS wins, 80 where there is no window."""
    if env.get("COLUMNS", "").isdecimal() and int(env["COLUMNS"]) > 0:
        return int(env["COLUMNS"])
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
