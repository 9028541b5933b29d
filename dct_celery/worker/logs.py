"""The log of a worker: which run, chunk and test a line is about, and lines as JSON.

Loggers are named after their rooms, below "dct_celery": `dct_celery.worker.slot`,
`dct_celery.worker.databases`, `dct_celery.adapters.celeryqueue`, and so on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

#: What every record has, beside what logging itself gives it.
FIELDS = ("run", "chunk", "test")
_about: ContextVar[dict[str, str]] = ContextVar("about", default={})  # noqa: B039


@contextlib.contextmanager
def about(**fields: str) -> Iterator[None]:
    """Lines of this thread are about these until the end of the block."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def add_fields(record: logging.LogRecord) -> bool:
    """A filter that lets all pass. Attributes of FIELDS are empty where nothing is known."""
    known = _about.get()
    for name in FIELDS:
        if not hasattr(record, name):
            setattr(record, name, known.get(name, ""))
    return True


class JsonLines(logging.Formatter):
    """One JSON object for each line, with what is known of `time` (ISO 8601, UTC), `level`,
    `logger`, `message`, `process`, FIELDS, `worker` and `exception`.
    """

    def __init__(self, worker: str = "") -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "worker": self._worker,
            "process": record.processName,
            **{name: getattr(record, name, "") for name in FIELDS},
        }
        if record.exc_info:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value})
