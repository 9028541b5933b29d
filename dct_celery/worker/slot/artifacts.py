"""Files that the records of an attempt name (`core.model.Artifact`), sent to the dispatcher.

The test process writes each file under its digest and names it in the test's record. The slot puts
the content into the store before it sends the record; the dispatcher fetches it when the record has
become a verdict. So files of an attempt that does not count are never seen, and a file that is lost
on the way costs a warning, not a verdict.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from dct_celery.core.ids import digest_of
from dct_celery.core.model import MAX_ARTIFACT, Artifact

log = logging.getLogger("dct_celery.worker")
#: Bytes that one attempt may send: endless output must not fill the store.
MAX_BYTES = 64 * 2**20

Send = Callable[[Iterable[tuple[str, bytes]]], None]


class Artifacts:
    """The artifacts of one attempt. Its test process puts the files into `folder`."""

    def __init__(self, folder: Path, send: Send) -> None:
        self._folder = folder
        self._send = send
        self._named: list[Artifact] = []
        self._due: list[Artifact] = []
        self._bytes = 0

    def note(self, artifacts: Iterable[Artifact]) -> None:
        """A record names these."""
        for artifact in artifacts:
            self._bytes += artifact.size
            if artifact.size > MAX_ARTIFACT or self._bytes > MAX_BYTES:
                log.warning("artifact %s is not sent: it or its chunk is too large", artifact.name)
                continue
            self._named.append(artifact)
            self._due.append(artifact)

    def send(self) -> None:
        """Sends what was noted since the last time. Raises StoreUnavailable; then it stays due."""
        if not self._due:
            return
        contents = ((one.digest, content) for one in self._due if (content := self._read(one)))
        self._send(contents)
        self._due = []

    def send_again(self) -> None:
        """The store has lost them: all are due again."""
        self._due = list(self._named)

    def close(self) -> None:
        for artifact in self._named:
            (self._folder / artifact.digest).unlink(missing_ok=True)

    def _read(self, artifact: Artifact) -> bytes | None:
        """The content, if it is what the record says. A test may have put anything there, such as a
        link to a file that only this worker's user may read, or an endless pipe.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._folder / artifact.digest, flags), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return None
                content = file.read(artifact.size + 1)
        except OSError:
            return None
        return content if digest_of(content) == artifact.digest else None
