"""Timings of local runs: their store ends with them, so these are kept in a file per project."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from dct_celery.errors import StoreUnavailable
from dct_celery.security.files import write_private

#: Files kept; the oldest go.
KEEP = 50


class FileTimings:
    """Timings of one project. Losing them costs a worse plan, so a damaged file counts as none."""

    def __init__(self, folder: Path, project: str) -> None:
        name = hashlib.sha256(project.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._folder = folder
        self._path = folder / f"{name}.json"

    def load(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: text for name, text in found.items() if isinstance(text, str)}

    def save(self, samples: Mapping[str, str]) -> None:
        """Adds to what is there. Raises StoreUnavailable."""
        if not samples:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # two local runs of one project end at once
                write_private(self._path, json.dumps({**self.load(), **samples}))
                self._prune()
        except OSError as error:
            raise StoreUnavailable(
                f"{self._path} cannot be written ({error.strerror}); make room, or set"
                " XDG_STATE_HOME to a folder that can be"
            ) from error

    def _prune(self) -> None:
        files = sorted(self._folder.glob("*.json"), key=lambda file: -os.stat(file).st_mtime)
        for file in files[KEEP:]:
            file.unlink(missing_ok=True)
