"""What this process has printed to the file behind standard error, as far as there is one."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

#: Bytes at the end of it that are read.
_TAIL = 4096


class Printed:
    """What was written since this object was made."""

    def __init__(self) -> None:
        self._before = _size()

    def text(self) -> str:
        """The end of it. Standard error is not buffered: its last line comes before what waits in
        standard output.
        """
        said = self._since()
        if not said:
            sys.stdout.flush()
            said = self._since()
        return said

    def _since(self) -> str:
        now = _size()
        if self._before < 0 or now <= self._before:
            return ""
        with contextlib.suppress(OSError), open("/proc/self/fd/2", "rb") as file:
            file.seek(max(self._before, now - _TAIL))
            return file.read(_TAIL).decode(errors="backslashreplace").strip()
        return ""


def _size() -> int:
    """Size of the file behind standard error; -1 if that is none."""
    about = os.fstat(2)
    return about.st_size if stat.S_ISREG(about.st_mode) else -1
