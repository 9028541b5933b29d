"""Pure: the summary by kind of fault, and whether recoveries keep within the bar."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: Median and worst recovery that are allowed: times the clock of the kind, and seconds more.
MEDIAN, WORST, SLACK = 1.2, 2.0, 5.0
_HEAD = (
    "kind",
    "rounds",
    "missed",
    "failed",
    "recoveries",
    "re-runs",
    "refused",
    "median s",
    "worst s",
    "bar s",
)


@dataclass(frozen=True, slots=True)
class Struck:
    """One strike as it went."""

    kind: str
    #: It found what it was to break.
    hit: bool
    #: Seconds until the run had recovered; None where nothing was affected.
    recovery: float | None
    #: Seconds that recovery is timed by: the lease, or T_claim.
    clock: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One round as it ended."""

    seed: int
    seconds: float
    problems: tuple[str, ...]
    strikes: tuple[Struck, ...]
    reruns: int = 0
    refused: int = 0


@dataclass(slots=True)
class Row:
    """One kind over all rounds."""

    rounds: int = 0
    missed: int = 0
    failed: int = 0
    reruns: int = 0
    refused: int = 0
    clock: float = 0.0
    recoveries: list[float] = field(default_factory=list)


def rows(outcomes: Iterable[Outcome]) -> dict[str, Row]:
    """By kind; re-runs and refusals of a round count for each kind that struck it."""
    found: dict[str, Row] = {}
    for outcome in outcomes:
        for kind in {strike.kind for strike in outcome.strikes}:
            row = found.setdefault(kind, Row())
            row.rounds += 1
            row.failed += bool(outcome.problems)
            row.reruns += outcome.reruns
            row.refused += outcome.refused
        for strike in outcome.strikes:
            row = found[strike.kind]
            row.clock = strike.clock
            row.missed += not strike.hit
            row.recoveries += [] if strike.recovery is None else [strike.recovery]
    return dict(sorted(found.items()))


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The lines of the table."""
    lines = [_HEAD, *(_cells(kind, row) for kind, row in rows(outcomes).items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [_put(line, widths) for line in lines]


def _put(line: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
    return "  ".join([line[0].ljust(widths[0]), *numbers])


def _cells(kind: str, row: Row) -> tuple[str, ...]:
    counts = (row.rounds, row.missed, row.failed, len(row.recoveries), row.reruns, row.refused)
    figures = (
        (f"{statistics.median(row.recoveries):.1f}", f"{max(row.recoveries):.1f}")
        if row.recoveries
        else ("-", "-")
    )
    return (
        kind,
        *map(str, counts),
        *figures,
        f"{MEDIAN * row.clock:.1f}/{WORST * row.clock + SLACK:.1f}",
    )


def recovery_problems(outcomes: Iterable[Outcome]) -> list[str]:
    """Kinds above the limit.

    The median is over MEDIAN x clock, or the worst over WORST x clock + SLACK.
    """
    problems = []
    for kind, row in rows(outcomes).items():
        if not row.recoveries:
            continue
        median, worst = statistics.median(row.recoveries), max(row.recoveries)
        if median > MEDIAN * row.clock:
            problems.append(
                f"{kind}: median recovery {median:.1f} s, bar {MEDIAN * row.clock:.1f} s"
            )
        if worst > WORST * row.clock + SLACK:
            problems.append(
                f"{kind}: worst recovery {worst:.1f} s, bar {WORST * row.clock + SLACK:.1f} s"
            )
    return problems
