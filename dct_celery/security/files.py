"""Our files on disk: replaced atomically, private, locked, and read from their end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

#: How many bytes at the end of a log are shown.
TAIL = 8192


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside the file, which replaces the file if the block succeeds.

    Readers see the old file or the new one.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replaces the file by one that only its owner can read."""
    with replacing(path) as draft:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)


def try_lock(file: IO[Any] | int) -> bool:
    """Locks an open file for as long as it stays open.

    False if another process has the lock, or the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def tail(file: IO[bytes]) -> str:
    """The end of a log."""
    file.seek(0, os.SEEK_END)
    file.seek(max(file.tell() - TAIL, 0))
    return file.read().decode(errors="backslashreplace")


def tail_of(path: Path) -> str:
    """The end of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            return tail(file)
    except OSError:
        return ""
