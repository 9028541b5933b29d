"""Our folders on disk: private, and removed without following links out of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from dct_celery.errors import ConfigError


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where this user's machine keeps what outlives a command, journals above all."""
    home = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "dct_celery"


def private_folder(path: Path, origin: str) -> bool:
    """Makes the folder, or closes an existing one to all but its owner.

    Returns whether it had to be closed. Raises ConfigError if it is not a folder, or belongs to
    another user, who could change what we run.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.stat()
        if info.st_uid != os.geteuid():
            raise ConfigError(
                f"{path} ({origin}) belongs to user {info.st_uid}, not to this one; set"
                " DCT_WORK_DIR to another folder"
            )
        if wide := stat.S_IMODE(info.st_mode) & 0o077:
            path.chmod(stat.S_IMODE(info.st_mode) & ~0o077)
    except OSError as error:
        raise ConfigError(
            f"{path} ({origin}) cannot be used: {error.strerror}; set DCT_WORK_DIR to another"
            " folder"
        ) from error
    return bool(wide)


def remove_below(base: Path, path: Path) -> bool:
    """Removes `path` with everything in it; whether it did.

    Only what lies below `base`, with no link on the way; a link at the end is itself removed.
    Anything else, and what the system refuses, stays as it is.
    """
    if not _lies_below(base, path):
        return False
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            # Follows no link, not even one that appears meanwhile; what cannot be removed does not
            # stop it.
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return False
    return not path.exists()


def _lies_below(base: Path, path: Path) -> bool:
    try:
        parts = path.relative_to(base).parts
    except ValueError:
        return False
    if not parts or ".." in parts or any("\0" in part for part in parts):
        return False
    folder = base
    for part in parts[:-1]:
        folder /= part
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(folder.lstat().st_mode):
                continue
        return False
    return True
