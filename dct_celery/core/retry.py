"""When a failed step is tried again: how often, for how long, after which pauses.

Clock and sleep are arguments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def _at_once(seconds: float) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Retry:
    """How a step is retried that fails in one way."""

    #: Number of the failure, from 1 -> seconds to wait after it.
    pause: Callable[[int], float]
    #: Attempts in total.
    attempts: float = math.inf
    #: Seconds since the first attempt began; a failure that comes later is final.
    seconds: float = math.inf
    #: Called after the pause with what is left of `seconds`: waits until another attempt makes
    #: sense, or returns False if none will.
    ready: Callable[[float], bool] = _at_once

    def allows_another(self, failures: int, elapsed: float) -> bool:
        return failures < self.attempts and elapsed <= self.seconds


def call(
    step: Callable[[], T],
    errors: type[E],
    rule: Callable[[E], Retry | None],
    *,
    monotonic: Callable[[], float],
    sleep: Callable[[float], object],
    note: Callable[[E], object] = lambda error: None,
) -> T:
    """Returns what `step` returns.

    `rule` says for each error of the type `errors` how it is retried (None: not at all); `note` is
    called with those that are retried. Raises the last error when no attempt is left; what `sleep`,
    `rule` and other errors raise comes through at once.
    """
    began = monotonic()
    for failures in itertools.count(1):
        try:
            return step()
        except errors as error:
            retry = rule(error)
            elapsed = monotonic() - began
            if retry is None or not retry.allows_another(failures, elapsed):
                raise
            last = error
        note(last)
        sleep(retry.pause(failures))
        if not retry.ready(retry.seconds - elapsed):
            raise last
    raise AssertionError("unreachable")


def doubling(first: float, longest: float) -> Callable[[int], float]:
    """Pauses of `first` seconds, then twice as long after each failure, up to `longest`."""
    return lambda failures: float(min(first * 2.0 ** min(failures - 1, 64), longest))
