"""What the tests of a chunk left behind: reported by the test process itself, or found outside it
and ended.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Sequence

from dct_celery.core.run.leaks import LeakKind, LeakRecord
from dct_celery.ports import Clock
from dct_celery.wire import messages
from dct_celery.worker.processes.strays import Stray, end
from dct_celery.worker.processes.test_process import TestProcess

log = logging.getLogger(__name__)
#: Bytes by which a test process may grow and still be used again.
MAX_GROWTH = 512 * 1024 * 1024
#: Number of leaks of one chunk that are reported.
_REPORTED = 50


def leaks_of(
    process: TestProcess, indices: Sequence[int], message: messages.ChunkFinished, clock: Clock
) -> list[LeakRecord]:
    """What the process reports, and the processes that were found; ends those."""
    strays = process.strays()
    numbers = {one.pid for one in strays}
    found = [_process(one, indices, message.began) for one in strays if one.parent not in numbers]
    end(strays, clock)
    return [*found, *message.leaks][:_REPORTED]


def wears_out(process: TestProcess, leaks: Sequence[LeakRecord]) -> bool:
    """The process is not fit for another chunk: something still runs in it, or it is too large."""
    growth = process.growth()
    if growth > MAX_GROWTH:
        log.info("a test process grew by %d MB; the next chunk gets a new one", growth >> 20)
    runs_on = {LeakKind.PROCESS, LeakKind.THREAD, LeakKind.PORT}
    return growth > MAX_GROWTH or any(leak.kind in runs_on for leak in leaks)


def _process(one: Stray, indices: Sequence[int], began: Sequence[float]) -> LeakRecord:
    """A leak of the tests that ran between the stray's earliest and latest possible start."""
    earliest, latest = one.started
    what = f"{one.pid}, {one.command}"
    if not began or latest < began[0]:
        return LeakRecord(LeakKind.PROCESS, what)
    first, last = (max(bisect.bisect_right(began, second) - 1, 0) for second in (earliest, latest))
    return LeakRecord(LeakKind.PROCESS, what, first=indices[first], last=indices[last])
