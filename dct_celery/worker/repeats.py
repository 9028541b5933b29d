"""A store that is away for ten minutes is no reason for ten thousand lines."""

from __future__ import annotations

import logging

#: Seconds in which a warning that says the same is not printed again.
QUIET_SECONDS = 30.0


class RepeatedWarnings(logging.Filter):
    """Lets a warning of ours pass once in QUIET_SECONDS; the next one says how many were left out.

    For the handlers of a worker: a filter of a logger does not see the records of its children.
    """

    def __init__(self) -> None:
        super().__init__()
        #: Text -> time of the record that was printed, and how many have been left out since.
        self._printed: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Uses the record's own time."""
        if record.levelno != logging.WARNING or not record.name.startswith("dct_celery"):
            return True
        text = record.getMessage()
        printed, left_out = self._printed.get(text, (0.0, 0))
        if printed <= record.created < printed + QUIET_SECONDS:
            self._printed[text] = printed, left_out + 1
            return False
        self._forget(record.created)
        self._printed[text] = record.created, 0
        if left_out:
            record.msg, record.args = f"{text} ({left_out} times more since)", ()
        return True

    def _forget(self, now: float) -> None:
        old = [text for text, (at, _) in self._printed.items() if now - at > 10 * QUIET_SECONDS]
        for text in old:
            del self._printed[text]
