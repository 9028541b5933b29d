"""Counts what the tests of this process use, with no test in mind: whoever runs them cuts.

What counts queries is `testproc.django.query_meter`; memory is read here. Counts of all threads
come together: in CPython no thread gives way between taking `meter.counts` and adding to it, where
nothing is called.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from typing import Any

from dct_celery.testproc.channel import raise_descriptor

#: Least seconds between two readings of memory, which take some five microseconds: a fast test is
#: not worth more. What it grew is counted with the next one that is read.
_PACE = 0.002
#: Bound at import, as tests patch them.
_pread, _getrusage = os.pread, resource.getrusage
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
#: `ru_maxrss` is in KiB, on macOS in bytes.
_PEAK_UNIT = 1024 if sys.platform == "darwin" else 1

#: Places in `Used`, and their number.
QUERIES, READS, WRITES, SECONDS, ROWS, GROWTH, PEAK, OUTPUT = range(8)
ERRORS, CONNECTION_ERRORS, CONNECTIONS = 8, 9, 10
_PLACES = 11
#: What was used, in the order of `core.metrics.TestMetrics`: whole numbers, microseconds, KiB.
Used = list[int]


class Meter:
    """The counters of one process. `cut` once before the first test: until then nothing counts."""

    __slots__ = ("_at", "_peak", "_resident", "_statm", "counts")

    def __init__(self) -> None:
        #: Since the last cut, in the order of `Used`; time is in seconds here.
        self.counts: list[Any] = [0] * _PLACES
        self._statm = -1
        with contextlib.suppress(OSError):
            self._statm = raise_descriptor(os.open("/proc/self/statm", os.O_RDONLY))
        self._resident = self._peak = 0
        self._at = 0.0

    def cut(self, at: float) -> Used:
        """What was used since the last cut. `at`: seconds of `now()`."""
        used, self.counts = self.counts, [0] * _PLACES
        used[SECONDS] = int(used[SECONDS] * 1_000_000 + 0.5)
        if at - self._at >= _PACE:
            self._at = at
            used[GROWTH], used[PEAK] = self._memory()
        return used

    def _memory(self) -> tuple[int, int]:
        """KiB by which resident memory has grown, and its peak where that is a new one."""
        growth = 0
        if self._statm >= 0:
            try:
                resident = int(_pread(self._statm, 100, 0).split(None, 2)[1]) * _PAGE_KIB
            except (OSError, ValueError, IndexError):
                self._statm = -1  # a test has closed it; the number may be another file's by now
            else:
                growth, self._resident = resident - self._resident, resident
        peak = _getrusage(resource.RUSAGE_SELF).ru_maxrss // _PEAK_UNIT
        if peak <= self._peak:
            return growth, 0
        self._peak = peak
        return growth, peak


def together(one: Used | None, other: Used) -> Used:
    """Both; of the peaks, the later one, which is higher."""
    if one is None:
        return other
    both = [a + b for a, b in zip(one, other, strict=True)]
    both[PEAK] = other[PEAK] or one[PEAK]
    return both
