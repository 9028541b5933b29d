"""Locks and copies of files for the SQLite folder.

The kernel ends a lock with the process that holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dct_celery.errors import DatabaseError
from dct_celery.security.files import try_lock

#: errno where the kernel cannot copy between two files by itself.
_NOT_HERE = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)
_PIECE = 1 << 30


def liveness_file(folder: Path, owner: str) -> Path:
    """The file of an owner, named by a hash, as an owner may be any text."""
    return folder / f"{hashlib.sha256(owner.encode()).hexdigest()[:32]}.sign"


def hold_file(folder: Path, template: str) -> Path:
    return folder / f"{template}.hold"


class FolderLiveness:
    """Shared locks on the owner's file and on one for each template in use."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._own_file = liveness_file(folder, owner)
        self._files = {self._own_file: _shared(self._own_file)}

    def hold(self, template: str) -> None:
        path = hold_file(self._folder, template)
        if path not in self._files:
            self._files[path] = _shared(path)

    def renew(self) -> None:
        """Creates the files again if the folder was emptied."""
        for path, file in self._files.items():
            if not _is_the_file(path, file):
                file.close()
                self._files[path] = _shared(path)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
        with contextlib.suppress(OSError):
            self._own_file.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Whether any process has a lock on the file."""
    try:
        with path.open("rb") as file:
            return not try_lock(file)
    except OSError:
        return False


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Holds the file exclusively; waits for it."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def copy_file(source: Path, target: Path) -> None:
    """A new file with the same bytes, which shares blocks with the source where it can.

    Raises FileExistsError for a target that exists, else OSError, also when the copy is short.
    """
    with source.open("rb") as old, target.open("xb") as new:
        size = os.fstat(old.fileno()).st_size
        try:
            while os.copy_file_range(old.fileno(), new.fileno(), _PIECE):
                pass
        except OSError as error:
            if error.errno not in _NOT_HERE or new.tell():
                raise
            shutil.copyfileobj(old, new)
            new.flush()
        if os.fstat(new.fileno()).st_size != size:
            raise OSError(f"{target} is not as long as {source}")


def _shared(path: Path) -> IO[bytes]:
    """The file, created where needed, with a shared lock on it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("ab")
            fcntl.flock(file, fcntl.LOCK_SH)
            if _is_the_file(path, file):  # else it was removed between open and lock
                return file
            file.close()
    except OSError as error:
        raise DatabaseError(
            f"{path} cannot be locked: {error}; choose a local folder for SQLite databases"
        ) from error


def _is_the_file(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
