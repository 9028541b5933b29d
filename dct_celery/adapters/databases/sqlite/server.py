"""SQLite: a template is a file, and a clone is a copy of it.

Databases in memory are filled from the template by the test process. Beside each database
`<name>.sqlite3` lies its mark, `<name>.mark`, which is written first. Locks, liveness and holds are
locks on files, which the kernel ends with the process that holds them.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dct_celery.adapters.databases.sqlite.files import (
    FolderLiveness,
    copy_file,
    hold_file,
    is_held,
    liveness_file,
    locked_file,
)
from dct_celery.adapters.databases.sqlite.state import checkpoint, read_state
from dct_celery.core.databases.marks import Found, Mark, why_void
from dct_celery.core.databases.names import OURS
from dct_celery.errors import CloneFailed, DatabaseError, ServerFault
from dct_celery.ports import DatabaseStats
from dct_celery.security.files import replacing

_DATABASE = ".sqlite3"
_MARK = ".mark"
#: What SQLite keeps beside a database while it is written.
_BESIDE = (".sqlite3-journal", ".sqlite3-wal", ".sqlite3-shm")
#: Files have no limit of connections.
_CAPACITY = 1_000_000


class SqliteFolder:
    """All SQLite databases of one worker, in one folder on its host."""

    local = True
    vendor = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.where = str(folder)
        self.stats = DatabaseStats()

    # -- the folder --------------------------------------------------------------

    def addresses(self) -> Iterator[str]:
        return iter(())

    def identity(self) -> str:
        return ""

    def check(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked_file(self._folder / "check.lock"):
                pass
        except OSError as error:
            raise DatabaseError(
                f"the folder for SQLite databases cannot be used: {error}; "
                "choose a local folder that this worker may write to"
            ) from error

    def warnings(self) -> list[str]:
        return []

    def facts(self) -> dict[str, str]:
        return {"vendor": "sqlite", "version": sqlite3.sqlite_version}

    def capacity(self) -> int:
        return _CAPACITY

    def now(self) -> int:
        return int(time.time())

    def incarnation(self) -> str:
        return "no server"

    def place(self, name: str) -> str:
        return str(self._database(name))

    def close(self) -> None: ...

    # -- marks and liveness ----------------------------------------------------------

    def find(self, name: str) -> Mark | None:
        mark = self._mark(name)
        return mark if mark and mark.kind != "building" and self._database(name).exists() else None

    def found(self, *, sizes: bool = False) -> list[Found]:
        names = {
            path.stem for pattern in (_DATABASE, _MARK) for path in self._folder.glob(f"*{pattern}")
        }
        return [self._found(name, sizes=sizes) for name in sorted(names) if OURS.match(name)]

    def _found(self, name: str, *, sizes: bool) -> Found:
        mark, void = self._mark(name), ""
        if mark is None:
            with contextlib.suppress(OSError):
                void = why_void(self._line(name), name)
        return Found(name, mark, bytes=self._size(name) if sizes else 0, void=void)

    def announce(self, name: str, mark: Mark) -> None:
        _ours(name)
        if self._database(name).exists() and self._mark(name) is None:
            raise DatabaseError(
                f"{self.place(name)} exists already and does not carry our mark; it was left alone"
            )
        self._write(name, mark)

    def remark(self, name: str, mark: Mark) -> None:
        self._proven(name)
        self._write(name, mark)

    def liveness_lock(self, owner: str) -> FolderLiveness:
        self.check()
        return FolderLiveness(self._folder, owner)

    def alive(self, owners: Iterable[str]) -> set[str]:
        return {owner for owner in owners if is_held(liveness_file(self._folder, owner))}

    def in_use(self, template: str) -> bool:
        return is_held(hold_file(self._folder, template))

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        _ours(name)
        self.check()
        with locked_file(self._folder / f"{name}.lock"):
            yield

    def locked(self, name: str) -> bool:
        return is_held(self._folder / f"{name}.lock")

    # -- templates -----------------------------------------------------------------

    def seal(self, template: str, mark: Mark) -> None:
        if not self._proven(template) or not self._database(template).exists():
            raise DatabaseError(f"the template {template} was not written, so it cannot be sealed")
        self._merge_journal(template)
        self._write(template, mark.but(state=mark.state or self.state(template)))

    def state(self, name: str) -> str:
        return read_state(self._database(name))

    def export(self, name: str, file: Path) -> bool:
        return False  # the template is a file already

    def restore(self, file: Path, name: str, mark: Mark) -> None:
        _ours(name)
        raise DatabaseError(
            "SQLite databases are not restored from exports: their templates are files already"
        )

    # -- clones --------------------------------------------------------------------

    def clone(self, template: str, name: str, mark: Mark) -> None:
        _ours(name, template)
        started = time.monotonic()
        source, target = self._database(template), self._database(name)
        if target.exists() or (self._folder / f"{name}{_MARK}").exists():
            raise CloneFailed(f"{template} could not be copied: {target} already exists")
        mark_of_template = self.find(template)
        if mark_of_template is None or mark_of_template.kind not in ("template", "flushed"):
            raise CloneFailed(
                f"{template} in {self.where} is no sealed template; "
                "it is rebuilt by the next run that needs it"
            )
        try:
            self._merge_journal(template)
            self._write(name, mark.but(kind="building"))
            copy_file(source, target)
            self._write(name, mark)
        except (OSError, DatabaseError) as error:
            self._remove(name)
            raise CloneFailed(
                f"{template} could not be copied: {error}", fault=_full(error)
            ) from error
        self.stats.cloned += 1
        self.stats.clone_seconds += time.monotonic() - started

    def heal(self, name: str, template: str, fresh: str, mark: Mark) -> str:
        _ours(name, template, fresh)
        started = time.monotonic()
        try:
            self.drop(name)
        except DatabaseError as error:
            raise CloneFailed(
                f"{name} could not be made equal to {template} again: {error}"
            ) from error
        self.clone(template, fresh, mark)
        self.stats.healed += 1
        self.stats.heal_seconds += time.monotonic() - started
        return fresh

    def heals_cheaper(self, template: str) -> bool:
        return False  # healing is a copy, too

    def adopt(self, template: str, fresh: str, mark: Mark) -> str | None:
        _ours(template, fresh)
        sealed = self.find(template)
        while sealed and sealed.state and self._claim(template, fresh, mark):
            with contextlib.suppress(DatabaseError):
                if self.state(fresh) == sealed.state:
                    self._write(fresh, mark)
                    self.stats.adopted += 1
                    return fresh
            self.drop(fresh)
        return None

    def healthy(self, name: str) -> bool:
        return self._database(name).exists()

    def shape(self, name: str) -> str:
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{self._database(name)}?mode=ro", uri=True)
            ) as connection:
                return str(connection.execute("PRAGMA schema_version").fetchone()[0])
        except sqlite3.Error as error:
            raise DatabaseError(f"{name} cannot be read: {error}") from error

    def discard(self, template: str) -> None:
        self.drop(template)

    def drop(self, name: str) -> None:
        if self._proven(name):
            self._remove(name)
            self.stats.dropped += 1

    # -- files -----------------------------------------------------------------------

    def _database(self, name: str) -> Path:
        return self._folder / f"{name}{_DATABASE}"

    def _mark(self, name: str) -> Mark | None:
        try:
            return Mark.parse(self._line(name), name)
        except OSError:
            return None

    def _line(self, name: str) -> str:
        return (self._folder / f"{name}{_MARK}").read_text(errors="replace")

    def _write(self, name: str, mark: Mark) -> None:
        """Writes the mark atomically."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / f"{name}{_MARK}") as draft:
                draft.write_text(mark.line(name))
        except OSError as error:
            line = f"the mark of {name} cannot be written: {error}; free space in {self._folder}"
            raise DatabaseError(line, fault=_full(error)) from error

    def _proven(self, name: str) -> bool:
        """Whether a database of this name exists and is ours.

        Raises DatabaseError when it exists and is not.
        """
        _ours(name)
        mark = self._mark(name)
        if mark is None and self._database(name).exists():
            raise DatabaseError(f"{self.place(name)} does not carry our mark; it was left alone")
        return mark is not None

    def _merge_journal(self, name: str) -> None:
        """Brings everything into the one file: a copy would lose what SQLite keeps beside it."""
        if any(path.exists() and path.stat().st_size for path in self._beside(name)):
            checkpoint(self._database(name))

    def _beside(self, name: str) -> list[Path]:
        return [self._folder / f"{name}{suffix}" for suffix in _BESIDE]

    def _size(self, name: str) -> int:
        with contextlib.suppress(OSError):
            return self._database(name).stat().st_size
        return 0

    def _remove(self, name: str) -> None:
        """Removes the mark last: what a process that dies here leaves behind is still ours."""
        paths = [self._database(name), *self._beside(name), self._folder / f"{name}{_MARK}"]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise DatabaseError(f"{name} could not be dropped: {error}") from error

    def _claim(self, template: str, fresh: str, mark: Mark) -> bool:
        """Takes over an idle clone under the fresh name, as one that is being made.

        False when there is none.
        """
        for found in self.found():
            if found.mark is None or found.mark.kind != "idle" or found.mark.template != template:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process was first
                self._rename(found.name, fresh, mark.but(kind="building"))
                return True
        return False

    def _rename(self, name: str, fresh: str, mark: Mark) -> None:
        """Renames the database; where two try at once, the renaming decides."""
        self._write(fresh, mark)
        try:
            self._merge_journal(name)
            self._database(name).rename(self._database(fresh))
        except (FileNotFoundError, DatabaseError) as error:
            (self._folder / f"{fresh}{_MARK}").unlink(missing_ok=True)
            raise FileNotFoundError(str(error)) from error
        self._remove(name)


def _ours(*names: str) -> None:
    for name in names:
        if not OURS.match(name):
            raise DatabaseError(f"{name!r} is not one of our databases; it was not touched")


def _full(error: Exception) -> ServerFault | None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ServerFault.DISK
    return error.fault if isinstance(error, DatabaseError) else None
