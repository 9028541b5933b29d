"""Runs that are over for this worker, remembered across restarts: replaying a recorded announcement
does not start them again (I11).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dct_celery.core import codec
from dct_celery.ports import Announced
from dct_celery.security.files import write_private

#: Number of runs that are remembered, the latest ones: enough to outlast their announcements.
_KEPT = 1000


class EndedRuns:
    """Nonce of each run, with the epoch in which it ended here. A dispatcher that resumes its run
    begins a newer epoch.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._epochs: dict[str, int] = {}
        with contextlib.suppress(OSError, UnicodeDecodeError, codec.Malformed):
            self._epochs = codec.decoder(dict[str, int])(codec.loads(file.read_text()))

    def covers(self, one: Announced) -> bool:
        return self._epochs.get(one.announcement.nonce, 0) >= one.epoch

    def note(self, nonce: str, epoch: int) -> None:
        self._epochs.pop(nonce, None)
        self._epochs[nonce] = epoch
        self._epochs = dict(list(self._epochs.items())[-_KEPT:])
        with contextlib.suppress(OSError):  # remembered at least as long as this process lives
            write_private(self._file, codec.dumps(self._epochs))
