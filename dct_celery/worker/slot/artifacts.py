"""Files that the records or the end of an attempt name (`core.model.Artifact`), sent to the
dispatcher.

The test process writes each file under its digest and names it in the test's record; coverage data
are one file under a name that the slot chose. The slot puts the content into the store before it
sends the record or the end; the dispatcher fetches it when the record has become a verdict. So
files of an attempt that does not count are never seen, and a file that is lost on the way costs a
warning, not a verdict.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from dct_celery.core.ids import digest_of
from dct_celery.core.model import MAX_ARTIFACT, Artifact, KeptFile

log = logging.getLogger(__name__)
#: Bytes that one attempt may send: endless output must not fill the store.
MAX_BYTES = 64 * 2**20

F = TypeVar("F", Artifact, KeptFile)
Send = Callable[[Iterable[tuple[str, bytes]]], None]


class Artifacts:
    """The artifacts of one attempt. Its test process puts the files into `folder`."""

    def __init__(self, folder: Path, send: Send) -> None:
        self._folder = folder
        self._send = send
        self._named: list[Artifact | KeptFile] = []
        self._due: list[Artifact | KeptFile] = []
        self._bytes = 0

    def note(self, artifacts: Iterable[F]) -> tuple[F, ...]:
        """A record or the end names these. Returns those that are not too large to be sent."""
        noted = []
        for artifact in artifacts:
            self._bytes += artifact.size
            if artifact.size > MAX_ARTIFACT or self._bytes > MAX_BYTES:
                log.warning("artifact %s is not sent: it or its chunk is too large", artifact.name)
                continue
            noted.append(artifact)
        self._named += noted
        self._due += noted
        return tuple(noted)

    def keep(self, file: Path) -> Artifact | None:
        """The end of the attempt names this file; None if it is not there, or too large."""
        artifact = adopted(file, self._folder)
        return next(iter(self.note([artifact])), None) if artifact is not None else None

    def send(self) -> None:
        """Sends what was noted since the last time. Raises StoreUnavailable; then it stays due."""
        if not self._due:
            return
        contents = (
            (one.digest, content) for one in self._due if (content := self._read(one)) is not None
        )
        self._send(contents)
        self._due = []

    def send_again(self) -> None:
        """The store has lost them: all are due again."""
        self._due = list(self._named)

    def close(self) -> None:
        for artifact in self._named:
            (self._folder / artifact.digest).unlink(missing_ok=True)

    def _read(self, artifact: Artifact | KeptFile) -> bytes | None:
        """The content, if it is what the record says. A test may have put anything there, such as a
        link to a file that only this worker's user may read, or an endless pipe.
        """
        content = read_file(self._folder / artifact.digest, artifact.size + 1)
        known = content is not None and digest_of(content) == artifact.digest
        return content if known else None


def read_file(path: Path, most: int) -> bytes | None:
    """Up to `most` bytes of it, if it is a regular file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            return file.read(most)
    except OSError:
        return None


def adopted(file: Path, folder: Path) -> Artifact | None:
    """The file as an artifact in this folder, under its digest. None if it is not there, or too
    large; it is gone in any case.
    """
    content = read_file(file, MAX_ARTIFACT + 1)
    file.unlink(missing_ok=True)
    if content is None:
        return None
    if len(content) > MAX_ARTIFACT:
        log.warning("%s is not sent: it has more than %d bytes", file.name, MAX_ARTIFACT)
        return None
    artifact = Artifact(file.name, len(content), digest_of(content))
    (folder / artifact.digest).write_bytes(content)
    return artifact
