"""A stdout and stderr that never fail.

A reader that closes its end (`dct run | head`), or a full disk, must not cost a run its reports.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any, TextIO


class _Patient(io.FileIO):
    """A descriptor whose writes never raise; after the first failure, output is dropped."""

    lost = False

    def write(self, data: Any) -> int:
        while not self.lost:
            try:
                written = super().write(data)
            except OSError as error:
                self.lost = True
                _complain(self.fileno(), error)
                break
            if written is not None:
                return written
            # A non-blocking pipe that is full: some CI shells pass such pipes on.
            select.select([], [self.fileno()], [])
        return memoryview(data).nbytes


def take() -> None:
    """From now on, writes to this process's stdout and stderr do not fail. Called once, first.

    Only for a process that is ours alone.
    """
    for fd in (1, 2):
        _open_if_closed(fd)
    sys.stdout, sys.stderr = _patient(sys.stdout, 1), _patient(sys.stderr, 2)


def _open_if_closed(fd: int) -> None:
    """Where the shell closed stdout (`>&-`), a socket must not become descriptor 1."""
    try:
        os.fstat(fd)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != fd:
            os.dup2(null, fd)
            os.close(null)


def _patient(stream: TextIO | None, fd: int) -> TextIO:
    encoding, errors = (
        (stream.encoding, stream.errors) if stream is not None else ("utf-8", "backslashreplace")
    )
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    raw = _Patient(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors=errors,
        line_buffering=fd == 2 or raw.isatty(),
    )


def _complain(fd: int, error: OSError) -> None:
    """Warns on stderr, except about a reader that closed its end: it wanted no more."""
    if fd == 1 and error.errno not in (errno.EPIPE, errno.EBADF):
        text = f"dct: warning: output to stdout is lost from here on: {error.strerror}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
