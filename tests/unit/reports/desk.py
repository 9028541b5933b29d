"""A terminal to test on: two strings, a clock that is moved by hand, and verdicts to show."""

from __future__ import annotations

import io
import re
from typing import Any

from dct_celery.core.model import Entry, Failure, Outcome, Phase, Verdict
from dct_celery.reports.terminal import Terminal

TRACEBACK = "Traceback (most recent call last):\n  ...\nAssertionError: 1 != 2\n"
FAILURE = Failure("failure", "AssertionError", "1 != 2", TRACEBACK)


class Desk:
    """A terminal on two strings, with a clock that is moved by hand."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.out, self.err = io.StringIO(), io.StringIO()
        given: dict[str, Any] = {"tty": False, "colour": False, "width": 80, "verbosity": 1, **options}
        self.terminal = Terminal(
            given.pop("out", self.out),
            self.err,
            clock=lambda: self.now,
            rerun=lambda v: f"dct run {v.entry.id}",
            **given,
        )

    def wait(self, seconds: float) -> None:
        """Time passes, with a tick every tenth of a second."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.terminal.tick()

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
            elif token == "\x1b[K":
                rows[-1] = rows[-1][:column]
            elif not token.startswith("\x1b"):
                rows[-1] = rows[-1][:column] + token + rows[-1][column + 1 :]
                column += 1
        return rows


def verdict(
    name: str = "test_x", outcome: Outcome = Outcome.PASSED, index: int = 0, seconds: float = 0.12, **fields: Any
) -> Verdict:
    cls = "app.tests.T"
    entry = Entry(index, f"{cls}.{name}", cls, "app.tests", Phase.ISOLATED)
    if outcome in (Outcome.FAILED, Outcome.ERROR):
        fields.setdefault("failures", (FAILURE,))
    return Verdict(entry, outcome, seconds, "build-a", 0, **fields)
