"""Which tests failed when they last ran: kept beside the timings, for `--lf` and `--ff`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from dct_celery.core.codec import AtMost
from dct_celery.core.model import BAD_OUTCOMES, Outcome, Verdict

#: Name in the store.
KEY = "last-failed"
#: Most tests that are remembered.
MOST = 20_000


@dataclass(frozen=True, slots=True)
class LastFailures:
    """Ids, sorted."""

    tests: Annotated[tuple[str, ...], AtMost(MOST)] = ()


def learn(known: LastFailures, verdicts: Iterable[Verdict]) -> LastFailures:
    """What is known after a run. A test that did not run keeps what it had, unless a failing
    fixture kept it from running: then it counts as failed, as in pytest.
    """
    failed = set(known.tests)
    for verdict in verdicts:
        if verdict.outcome in BAD_OUTCOMES or verdict.covered_by:
            failed.add(verdict.entry.id)
        elif verdict.outcome is not Outcome.NOT_RUN:
            failed.discard(verdict.entry.id)
    return LastFailures(tuple(sorted(failed)[:MOST]))
