"""SQLite: a template is a file, a clone is its copy. Databases in memory are filled from the template by the test process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dct_celery.core.names import OURS
from dct_celery.errors import CloneFailed, DatabaseError


class SqliteFolder:
    """All SQLite databases of one run on one worker."""

    local = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"the folder for SQLite databases cannot be made: {error}") from error

    def place(self, name: str) -> str:
        return str(self._folder / f"{name}.sqlite3")

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        self.check()
        with open(self._folder / f"{name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def is_ready(self, template: str) -> bool:
        return (self._folder / f"{template}.ready").exists()

    def seal(self, template: str, mark: str) -> None:
        if not os.path.exists(self.place(template)):
            raise DatabaseError(f"the template {template} was not written")
        (self._folder / f"{template}.ready").write_text(mark)

    def clone(self, template: str, name: str, mark: str) -> None:
        try:
            shutil.copyfile(self.place(template), self.place(name))
        except OSError as error:
            self.drop(name)
            raise CloneFailed(f"{template} could not be copied: {error}") from error

    def discard(self, template: str) -> None:
        if not OURS.match(template):
            raise DatabaseError(f"{template!r} is not one of our databases; it was not dropped")
        for suffix in (".sqlite3", ".sqlite3-journal", ".ready"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder / f"{template}{suffix}")

    def drop(self, name: str) -> None:
        if not OURS.match(name):
            raise DatabaseError(f"{name!r} is not one of our databases; it was not dropped")
        for suffix in (".sqlite3", ".sqlite3-journal", ".sqlite3-wal", ".sqlite3-shm", ".ready", ".lock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder / f"{name}{suffix}")

    def close(self) -> None: ...
