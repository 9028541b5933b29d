"""A clock that no test can freeze.

freezegun and time-machine replace `time.monotonic`, but not `clock_gettime`.
"""

from __future__ import annotations

import time
from functools import partial

#: Seconds since an arbitrary point (CLOCK_MONOTONIC), bound before any test is imported.
now = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
