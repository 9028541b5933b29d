"""The output of tests: descriptors 1 and 2 go to a file, and each record takes what was added."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from dct_celery.core.ids import digest_of
from dct_celery.core.model import MAX_ARTIFACT, Artifact
from dct_celery.testproc.channel import raise_descriptor

#: Bound at import, as tests patch them.
_dup2, _fstat, _pread, _ftruncate = os.dup2, os.fstat, os.pread, os.ftruncate
_open = open
#: Bytes that are kept from the beginning of one test's output.
HEAD = 64 * 1024
#: Bytes that are kept from its end.
TAIL = 192 * 1024
#: Bytes for the line that says how much was cut out of an artifact.
_CUT = 100
#: The file is emptied when it is larger than this at the end of a test, in bytes.
ROTATE = 16 * 1024 * 1024


class OutputFile:
    """The log file behind descriptors 1 and 2, read through a descriptor of our own."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        self._fd = raise_descriptor(fd)
        self._taken = os.fstat(self._fd).st_size
        #: Bytes of what `take` took last, the part that it left out included.
        self.taken = 0
        self._input = raise_descriptor(os.dup(0))
        self._own = (sys.stdout, sys.stderr)
        self._kinds = [
            (getattr(stream, "encoding", None), getattr(stream, "errors", None))
            for stream in self._own
        ]
        for stream in self._own:
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(write_through=True)  # type: ignore[union-attr]

    def restore(self) -> None:
        """Restores the three descriptors, and Python's streams on them.

        A test may have redirected or closed them.
        """
        for ours, fd in ((self._input, 0), (self._fd, 1), (self._fd, 2)):
            with contextlib.suppress(OSError):
                _dup2(ours, fd)
        sys.stdout, sys.stderr = self._own
        for fd, stream, (encoding, errors) in zip((1, 2), self._own, self._kinds, strict=True):
            if isinstance(stream, io.TextIOWrapper) and not _is_usable(stream):
                # Initialised again in place, as loggers and other modules refer to the object.
                binary = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
                stream.__init__(binary, encoding, errors, write_through=True)  # type: ignore[misc]

    def take(self) -> str:
        """Everything printed since the last call, cut in the middle where it is long."""
        self.flush()
        self.taken = 0
        try:
            size = _fstat(self._fd).st_size
            if size <= self._taken:
                self._taken = size
                return ""
            text = self._read(self._taken, size)
            self.taken, self._taken = size - self._taken, size
            if size > ROTATE:
                _ftruncate(self._fd, 0)
                self._taken = 0
        except OSError:
            return ""
        return text

    def keep(self, folder: str) -> tuple[Artifact, ...]:
        """Writes all that the next `take` returns to a file in the folder, named by its digest.

        Nothing where that is short enough for every report, or where the disk refuses it.
        """
        self.flush()
        try:
            size = _fstat(self._fd).st_size - self._taken
            if size <= HEAD:
                return ()
            kept = min(size, MAX_ARTIFACT - _CUT)
            content = _pread(self._fd, kept, self._taken)
            if kept < size:
                content += f"\n[… {size - kept} bytes cut]\n".encode()
            digest = digest_of(content)
            with _open(os.path.join(folder, digest), "wb") as file:
                file.write(content)
        except OSError:
            return ()
        return (Artifact("output.txt", len(content), digest),)

    def flush(self) -> None:
        """Writes what Python's streams buffer to the file."""
        for stream in self._own:
            with contextlib.suppress(Exception):
                stream.flush()

    def _read(self, start: int, end: int) -> str:
        if end - start <= HEAD + TAIL:
            data = _pread(self._fd, end - start, start)
        else:
            cut = f"\n[… {end - start - HEAD - TAIL} bytes cut …]\n".encode()
            data = _pread(self._fd, HEAD, start) + cut + _pread(self._fd, TAIL, end - TAIL)
        return data.decode("utf-8", errors="backslashreplace")


def _is_usable(stream: io.TextIOWrapper) -> bool:
    try:
        return not stream.closed
    except ValueError:  # detached
        return False
