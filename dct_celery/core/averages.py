"""Moving averages of measured seconds."""

from __future__ import annotations

#: Weight of the newest measurement: one slow machine moves an estimate a little, a lasting change
#: is learnt in about five runs.
NEWEST = 0.3


def moving(before: float | None, seconds: float) -> float:
    """`before` updated by one measurement; `before` is None for the first."""
    return seconds if before is None else before + NEWEST * (seconds - before)
