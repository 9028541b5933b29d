"""A terminal to test on: two strings, a clock that is moved by hand, and verdicts to show."""

from __future__ import annotations

import io
import re
from typing import Any

from dct_celery.core.model import Entry, Failure, FixtureVerdict, Outcome, Phase, RunReport, Verdict
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.view import BusySlot, RunView
from dct_celery.ports.reporting import (
    Finished,
    FixtureJudged,
    Started,
    TestJudged,
    Ticked,
    WorkersChanged,
)
from dct_celery.reports.terminal.terminal import Terminal
from dct_celery.settings import Settings

TRACEBACK = "Traceback (most recent call last):\n  ...\nAssertionError: 1 != 2\n"
FAILURE = Failure("failure", "AssertionError", "1 != 2", TRACEBACK)


class Scene:
    """A terminal on two strings, with a clock that is moved by hand."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.out, self.err = io.StringIO(), io.StringIO()
        given: dict[str, Any] = {
            "tty": False,
            "colour": False,
            "width": 80,
            "verbosity": 1,
            **options,
        }
        self.terminal = Terminal(
            given.pop("out", self.out), self.err, clock=lambda: self.now, **given
        )
        self.view = RunView()

    def start(self, total: int = 1, **settings: Any) -> None:
        self.view.total, self.view.began = total, self.now
        started = Started(
            self.view,
            Settings(**settings),
            lambda v: f"dct run {v.entry.id}",
            lambda: RunReport("r", (), (), 7),
        )
        self.terminal.take(started)

    def slots(self, busy: int, connected: int, names: tuple[str, ...] = (), **more: Any) -> None:
        self.view.busy = {
            f"c{n}": BusySlot(LeaseRef(f"c{n}", 1, n + 1, "build-a", n), 1.0, heard=self.now)
            for n in range(busy)
        }
        self.view.connected = connected
        self.terminal.take(WorkersChanged(names, connected, **more))

    def verdict(self, v: Verdict) -> None:
        self.view.judge(v, self.now)
        self.terminal.take(TestJudged(v))

    def fixture(self, f: FixtureVerdict) -> None:
        self.view.judge_fixture(f)
        self.terminal.take(FixtureJudged(f))

    def remaining(self, seconds: float) -> None:
        self.view.plan(seconds, 0.0)

    def finish(self, report: RunReport) -> None:
        self.terminal.take(Finished(report))

    def wait(self, seconds: float) -> None:
        """Time passes, with a tick every tenth of a second."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.terminal.take(Ticked(self.view))

    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def screen(self) -> list[str]:
        """What a terminal shows after all that was written: our few codes, interpreted."""
        rows = [""]
        column = 0
        for token in re.findall(r"\x1b\[[?\d;]*[a-zA-Z]|.|\n", self.out.getvalue()):
            if token == "\n":
                rows.append("")
                column = 0
            elif token == "\r":
                column = 0
            elif token in ("\x1b[K", "\x1b[J"):
                rows[-1] = rows[-1][:column]
            elif not token.startswith("\x1b"):
                rows[-1] = rows[-1][:column] + token + rows[-1][column + 1 :]
                column += 1
        return rows


def verdict(
    name: str = "test_x",
    outcome: Outcome = Outcome.PASSED,
    index: int = 0,
    seconds: float = 0.12,
    **fields: Any,
) -> Verdict:
    cls = "app.tests.T"
    entry = Entry(index, f"{cls}.{name}", cls, "app.tests", Phase.ISOLATED)
    if outcome in (Outcome.FAILED, Outcome.ERROR):
        fields.setdefault("failures", (FAILURE,))
    return Verdict(entry, outcome, seconds, "build-a", 0, **fields)
