"""Files that users have asked for, written whole or not at all, where they have named them."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dct_celery.errors import UsageError


def check_writable(path: Path, origin: str) -> None:
    """Raise UsageError unless a file can be written to `path`, which `origin` (a flag, a
    variable) named.

    Missing folders are made; the file itself is not.
    """
    with _one_line(path, f" (from {origin})"):
        target = _target(path)
        if target is not None:
            temporary = _temporary(target)
            temporary.touch(exist_ok=False)
            temporary.unlink()
        elif not os.access(path, os.W_OK):
            raise PermissionError(None, "it may not be written to")


def replace(path: Path, data: bytes) -> None:
    """Replace `path`; a reader sees the old file or the new one. Raises UsageError."""
    with _one_line(path):
        target = _target(path)
        if target is None:
            path.write_bytes(data)
            return
        temporary = _temporary(target)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _target(path: Path) -> Path | None:
    """The file behind `path` and its links, its folder made; None for a device or pipe, which must
    not be replaced.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(None, "it is a folder")
    if not stat.S_ISREG(mode):
        return None
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _temporary(target: Path) -> Path:
    return target.with_name(f".dct-{secrets.token_hex(6)}.tmp")


@contextmanager
def _one_line(path: Path, origin: str = "") -> Iterator[None]:
    """Turn errors of the file system into a UsageError of one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        name = str(path) if str(path).isprintable() else repr(str(path))
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {name}{origin}: {reason}") from error
