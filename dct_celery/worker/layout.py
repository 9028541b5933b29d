"""The work folder of a worker: where everything lies that main process, slots and test processes share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class RunFolder:
    """One run on one worker. Only the owner may look inside: it holds database passwords."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        for name in ("", "slots", "sqlite", "clones", "spool"):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def fork_fifo(self) -> Path:
        return self.path / "fork.fifo"

    @property
    def loader_log(self) -> Path:
        return self.path / "loader.log"

    @property
    def sqlite(self) -> Path:
        return self.path / "sqlite"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    def fork_folder(self, name: str) -> Path:
        """A new folder for one fork; its FIFOs, log and status."""
        folder = self.path / "slots" / name
        folder.mkdir(mode=0o700, parents=True)
        return folder

    # -- what the host tells the slots -----------------------------------------------

    def publish(self, state: dict[str, Any]) -> None:
        write_atomically(self.path / "host.json", json.dumps(state))

    def published(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.path / "host.json").read_text()))
        except (OSError, ValueError):
            return None

    def end(self) -> None:
        """Tells the slots that the run is over on this worker."""
        if self.path.is_dir():
            (self.path / "over").touch()

    @property
    def over(self) -> bool:
        return not self.path.is_dir() or (self.path / "over").exists()

    # -- clones that exist -------------------------------------------------------------

    def note_clone(self, name: str, alias: str) -> None:
        """Written before the clone is made, so that no crash leaves one that nobody knows of."""
        (self.path / "clones" / name).write_text(alias)

    def forget_clone(self, name: str) -> None:
        (self.path / "clones" / name).unlink(missing_ok=True)

    def clones(self) -> list[tuple[str, str]]:
        """(name, alias) of every clone that was not dropped yet."""
        folder = self.path / "clones"
        return [(path.name, path.read_text()) for path in folder.iterdir()] if folder.is_dir() else []

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class WorkFolder:
    """The worker's folder, which no other worker uses at the same time."""

    def __init__(self, base: Path) -> None:
        self.base = base

    @property
    def trees(self) -> Path:
        return self.base / "trees"

    def run(self, run: str) -> RunFolder:
        return RunFolder(self.base / "runs" / run)

    def leftovers(self) -> Iterator[RunFolder]:
        """Runs of an earlier life of this worker."""
        folder = self.base / "runs"
        for path in folder.iterdir() if folder.is_dir() else ():
            yield RunFolder(path)

    @property
    def draining(self) -> Path:
        return self.base / "draining"


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    temporary.replace(path)
