"""How often, and after which pauses, a step is tried again that a database server has refused.

A server that is away is waited for by the clock instead, and a full one is not asked again for
copies: see who calls this.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from dct_celery.core.retry import Retry, doubling
from dct_celery.settings import Settings

#: Longest pause, in seconds.
_LONGEST = 60.0
#: A copy that fails while its template is in use succeeds sooner than a server gets connections:
#: share of the pause after other failures.
_COPY = 0.4


def of_shortage(settings: Settings) -> Retry:
    """While a database server is short of something."""
    return Retry(_spread(settings.retry_delay), settings.database_retries + 1)


def of_copy(settings: Settings) -> Retry:
    """After a clone failed that may succeed under another name."""
    return Retry(_spread(settings.retry_delay * _COPY), settings.database_retries + 1)


def _spread(first: float) -> Callable[[int], float]:
    """At random, as the attempts of several workers and slots must not coincide."""
    pause = doubling(first, _LONGEST)
    return lambda failures: pause(failures) * random.uniform(0.5, 1.0)  # nosec
