"""Names and marks of the databases that a run makes on this worker, in one place."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field

from dct_celery.core.databases.marks import Mark
from dct_celery.core.databases.names import clone_name

_DAY = 86_400
#: Days for which templates are kept that only the run can use which has measured how they came
#: about.
MEASURED_DAYS = 1 / 24


@dataclass(slots=True)
class CloneNaming:
    """One per process and run. `number` never repeats within (worker, run), so no name is used
    twice (I6).
    """

    run: str
    worker: str
    #: Token of the worker's liveness locks for this run.
    owner: str
    keep_days: float
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def clone_name(self, alias: str, place: int | str) -> str:
        """A new name. `place` says who makes the clone: a slot's number, or "p" for the pool."""
        # With the process id, as a pool child that died is followed by another with the same slot
        # number; with the owner, as a worker restarted in a container has the same process ids.
        number = os.getpid() * 1_000_000 + next(self._count)
        return clone_name(
            self.worker.partition("@")[0],
            place,
            f"{self.run}@{self.worker}@{self.owner}",
            alias,
            number,
        )

    def mark(self, kind: str, now: int, *, template: str = "") -> Mark:
        """`now`: the database server's clock."""
        lasting = kind in ("template", "flushed", "idle")
        return Mark(
            kind=kind,
            run=self.run,
            worker=self.worker,
            owner=self.owner,
            template=template,
            made=now,
            used=now,
            expires=now + int(self.keep_days * _DAY) if lasting else now + _DAY,
        )

    def touched(self, mark: Mark, now: int) -> Mark:
        """The mark of something that is used again."""
        return mark.but(used=now, expires=now + int(self.keep_days * _DAY))
