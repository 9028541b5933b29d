"""What tests print: descriptors 1 and 2 of the test process go to a file, and each record takes what came since the last."""

from __future__ import annotations

import contextlib
import os
import sys

from dct_celery.testproc.channel import raise_descriptor

#: Kept of one test's output, in bytes, from its beginning and its end.
HEAD, TAIL = 64 * 1024, 192 * 1024
#: The file is emptied when a test ends beyond this size, in bytes.
ROTATE = 16 * 1024 * 1024


class OutputFile:
    """The log file behind descriptors 1 and 2, read through a descriptor of our own."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        self._fd = raise_descriptor(fd)
        self._taken = os.fstat(self._fd).st_size
        self._own = (sys.stdout, sys.stderr)
        for stream in self._own:
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(write_through=True)  # type: ignore[union-attr]

    def take(self) -> str:
        """Everything printed since the last call, cut in the middle where it is long."""
        for stream in self._own:
            with contextlib.suppress(Exception):
                stream.flush()
        try:
            size = os.fstat(self._fd).st_size
            if size <= self._taken:
                self._taken = size
                return ""
            text = self._read(self._taken, size)
            self._taken = size
            if size > ROTATE:
                os.ftruncate(self._fd, 0)
                self._taken = 0
        except OSError:
            return ""
        return text

    def _read(self, start: int, end: int) -> str:
        if end - start <= HEAD + TAIL:
            data = os.pread(self._fd, end - start, start)
        else:
            cut = f"\n[… {end - start - HEAD - TAIL} bytes cut …]\n".encode()
            data = os.pread(self._fd, HEAD, start) + cut + os.pread(self._fd, TAIL, end - TAIL)
        return data.decode("utf-8", errors="backslashreplace")
