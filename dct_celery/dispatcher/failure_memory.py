"""Which tests failed when they last ran: kept beside the timings, signed with the pool's key.

It decides what `--lf` runs (I11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dct_celery.core.model import Entry
from dct_celery.core.plan.last_failures import KEY, LastFailures
from dct_celery.errors import Untrusted
from dct_celery.protocol.door import Door


def opened(stored: Mapping[str, str], door: Door, project: str) -> tuple[LastFailures, str]:
    """What the store keeps for the project; the text is a line if that is ignored, or empty."""
    if KEY not in stored:
        return LastFailures(), ""
    try:
        return door.unseal(LastFailures, stored[KEY], project, KEY), ""
    except Untrusted as error:
        return LastFailures(), f"what failed last time is ignored, as it {error}"


def sealed(failures: LastFailures, door: Door, project: str) -> dict[str, str]:
    """Name in the store -> signed text."""
    return {KEY: door.seal(failures, project, KEY)}


def indices(failures: LastFailures, entries: Iterable[Entry]) -> list[int]:
    """Of the entries, those that failed."""
    failed = set(failures.tests)
    return [entry.index for entry in entries if entry.id in failed]
