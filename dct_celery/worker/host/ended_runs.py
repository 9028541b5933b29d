"""Runs that are over for this worker, also after its restart: what somebody has recorded of them
does not bring them back.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dct_celery.core import codec
from dct_celery.ports import Announced
from dct_celery.security.files import write_private

#: Runs that are remembered, the latest of them: for longer than their announcements could be
#: replayed.
_KEPT = 1000


class EndedRuns:
    """By nonce, with the epoch in which the run was seen to end. A dispatcher that takes its run up
    again begins a newer one.
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
        with contextlib.suppress(OSError):  # it is known as long as this process lives
            write_private(self._file, codec.dumps(self._epochs))
