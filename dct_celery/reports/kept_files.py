"""Writes files of tests into the checkout, where a sequential run would have left them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from dct_celery.core.model import KEPT_PATH
from dct_celery.errors import UsageError
from dct_celery.ports import reporting
from dct_celery.ports.reporting import ReportEvent


class KeptFilesHome:
    """The reporter behind --artifact-path."""

    def take(self, event: ReportEvent) -> None:
        """Raises UsageError where a file cannot be written."""
        if not isinstance(event, reporting.FileArrived):
            return
        root = Path(os.path.realpath(event.root))
        path = root / event.place
        if not KEPT_PATH.fullmatch(event.place) or not _is_ours(path, root):
            raise UsageError(
                f"{event.place} of the tests is not written: its name leads out of the project, or"
                " is no name for a file"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, event.content)
        except OSError as error:
            raise UsageError(
                f"{event.place} of the tests cannot be written: {error.strerror}; see"
                " --artifact-path"
            ) from error


def _is_ours(path: Path, root: Path) -> bool:
    """No link leads out of the tree, and nothing is part of a repository: neither its folder, nor
    the file `.git`, which names that of a submodule or worktree.
    """
    real = Path(os.path.realpath(path.parent))
    if not real.is_relative_to(root):
        return False
    return ".git" not in (part.casefold() for part in (*real.relative_to(root).parts, path.name))


def _write(path: Path, content: bytes) -> None:
    """Replaced and not written to: a link of that name is not followed."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    mask = os.umask(0o077)
    os.umask(mask)
    os.chmod(file.name, 0o666 & ~mask)
    try:
        os.replace(file.name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        raise
