"""Files of ours on disk: replaced whole, closed to others, locked, and read from their end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

#: Bytes at the end of a log that are worth showing.
TAIL = 8192


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside the file, which takes the file's place if the block succeeds: readers see the old file or the new one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replaces the file by one that only its owner may read."""
    with replacing(path) as draft:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)


def try_lock(file: IO[Any] | int) -> bool:
    """Takes the lock of an open file, for as long as that stays open; False where somebody has it, or it cannot be had here."""
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
