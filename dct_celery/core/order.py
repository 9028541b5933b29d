"""The canonical order, and what may be out of it (I13).

The canonical order is that of the manifest: the order of the sequential run. A test can depend on
what ran before it, mostly without anyone knowing. So whatever runs in one process runs in this
order, and the plan keeps to it as well, except for work that would stretch the end of the run if it
began only when its turn comes. All of this is pure.
"""

from __future__ import annotations

from collections.abc import Sequence


def ascends(indices: Sequence[int], after: int | None) -> bool:
    """Whether a process whose last test was `after` (None: none yet) may run these tests.

    `indices` are manifest indices, ascending, at least one.
    """
    return after is None or indices[0] > after


def stretching(seconds: Sequence[float], slots: int, tolerance: float) -> list[int]:
    """Positions of the pieces of work that must begin early, in ascending order.

    `seconds`: what each piece takes, in canonical order; `slots` share them, at least 1. A piece
    that begins when all before it have been handed out ends after everything else if it is longer
    than what follows it can keep the other slots busy. Up to `tolerance` seconds of that are
    accepted.
    """
    early: list[int] = []
    following = 0.0
    for position in range(len(seconds) - 1, -1, -1):
        length = seconds[position]
        if slots > 1 and length > following / (slots - 1) + tolerance:
            early.append(position)
        else:
            following += length
    return early[::-1]
