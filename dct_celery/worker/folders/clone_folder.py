"""The clones that a run has on this worker: each is a file, which moves from folder to folder.

    clones/PID of its maker ─▶ spares/ALIAS.KIND ─▶ clones/PID of a slot
        ─▶ retired ─▶ clones/PID, to be healed or dropped

A file is created before its database and deleted after it, so no crash leaves an unknown database.
Moves are renames: of two takers, one wins. A clone in use lies in a folder named after the process
that has it, so that the clones of a killed slot are known. KIND is "t" (pristine) or "f" (flushed).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dct_celery.core.databases.names import slug


class CloneFolder:
    """A slot and the pool of the worker's main process each have one, on the same folder."""

    def __init__(self, path: Path) -> None:
        """`path`: the folder of the run."""
        self._path = path

    def create(self) -> None:
        for name in ("clones", "spares", "making", "retired"):
            (self._path / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def note(self, name: str, alias: str) -> None:
        """This process is about to make this clone for itself."""
        (self._mine() / name).write_text(alias)

    def forget(self, name: str) -> None:
        for path in (self._path / "clones").glob(f"*/{name}"):
            path.unlink(missing_ok=True)

    def in_use(self) -> list[tuple[str, str]]:
        """(name, alias) of every clone that some process has."""
        return [noted for folder in (self._path / "clones").glob("*") for noted in _noted(folder)]

    def holders(self) -> list[int]:
        """Ids of the processes that have clones, or have had some."""
        return [int(folder.name) for folder in (self._path / "clones").glob("*")]

    def retire(self, name: str) -> None:
        """This process is done with it; nothing is connected any more."""
        with contextlib.suppress(FileNotFoundError):
            (self._mine() / name).rename(self._path / "retired" / name)

    def retire_all_of(self, holder: int) -> None:
        """That process is gone."""
        folder = self._path / "clones" / str(holder)
        for name, _ in _noted(folder):
            with contextlib.suppress(FileNotFoundError):
                (folder / name).rename(self._path / "retired" / name)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def retired(self) -> list[tuple[str, str]]:
        return _noted(self._path / "retired")

    def reclaim(self, alias: str) -> str | None:
        """A retired clone that is the caller's from now on, to be healed, or None."""
        for name, its_alias in self.retired():
            if its_alias == alias and self.reclaim_one(name):
                return name
        return None

    def reclaim_one(self, name: str) -> bool:
        """This retired clone is the caller's from now on, unless another process was first."""
        with contextlib.suppress(FileNotFoundError):
            (self._path / "retired" / name).rename(self._mine() / name)
            return True
        return False

    def forget_retired(self, name: str) -> None:
        (self._path / "retired" / name).unlink(missing_ok=True)

    def _mine(self) -> Path:
        folder = self._path / "clones" / str(os.getpid())
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def making(self, alias: str, kind: str) -> Iterator[None]:
        """Meanwhile, slots that need such a clone wait for it instead of making their own."""
        note = self._path / "making" / f"{os.getpid()}.{slug(alias, 24)}.{kind}"
        note.write_text(alias)
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def is_making(self, alias: str, kind: str) -> bool:
        return any((self._path / "making").glob(f"*.{slug(alias, 24)}.{kind}"))

    def add_spare(self, name: str, alias: str, kind: str) -> None:
        """This process's clone is free for the first slot that takes it."""
        folder = self._spares(alias, kind)
        folder.mkdir(mode=0o700, exist_ok=True)
        (self._mine() / name).rename(folder / name)

    def spares(self, alias: str, kind: str) -> list[str]:
        folder = self._spares(alias, kind)
        return os.listdir(folder) if folder.is_dir() else []

    def take_spare(self, alias: str, kind: str) -> str | None:
        """A spare that is the caller's from now on, or None."""
        for name in self.spares(alias, kind):
            with contextlib.suppress(FileNotFoundError):
                (self._spares(alias, kind) / name).rename(self._mine() / name)
                return name
        return None

    def _spares(self, alias: str, kind: str) -> Path:
        return self._path / "spares" / f"{slug(alias, 24)}.{kind}"


def _noted(folder: Path) -> list[tuple[str, str]]:
    """(name, alias) of each file; files may vanish meanwhile."""
    noted = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            noted.append((path.name, path.read_text()))
    return noted
