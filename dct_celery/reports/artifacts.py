"""Files that tests left, in a folder beside the reports: one folder for each test."""

from __future__ import annotations

import re
from pathlib import Path

from dct_celery.core.model import Artifact, Entry
from dct_celery.errors import UsageError
from dct_celery.ports import reporting
from dct_celery.ports.reporting import ReportEvent
from dct_celery.security import masking

#: Characters of a test's id in the name of its folder.
_LONGEST = 120


class ArtifactFolder:
    """The reporter behind --artifacts. Replaces files of the same name, and leaves all others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, event: ReportEvent) -> None:
        if isinstance(event, reporting.ArtifactArrived):
            path = self._folder / relative_path(event.verdict.entry, event.artifact)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unlinked first, so that a link of that name is not followed.
            path.unlink(missing_ok=True)
            path.write_bytes(event.content)

    def has(self, entry: Entry, artifact: Artifact, since: float) -> bool:
        """Whether the file is there, and was written at `since` (Unix seconds) or later."""
        try:
            return (self._folder / relative_path(entry, artifact)).stat().st_mtime >= since
        except OSError:
            return False


def relative_path(entry: Entry, artifact: Artifact) -> str:
    """The path below the folder. It has the test's index, since ids may not be unique."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", masking.PROCESS.name(entry.id))[-_LONGEST:]
    return f"{entry.index:05}-{name.strip('.-')}/{artifact.name}"


def check(folder: Path, origin: str) -> None:
    """Makes the folder. Raises UsageError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} ({origin or '--artifacts'}) cannot be made: {error.strerror}; name another"
            " folder"
        ) from error
