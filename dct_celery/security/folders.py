"""Our folders on disk: private, and removed without following links out of them."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
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
            _empty(path)
            path.rmdir()
    except OSError:
        return False
    return not path.exists()


def _empty(path: Path) -> None:
    """Removes what is in the folder, whatever its modes and however deep.

    Follows no link and enters no mount, not even one that appears meanwhile; what cannot be removed
    does not stop it.
    Each folder inside is first brought to the top: descending would take a descriptor for each
    level, and in the end a path that is too long. Raises OSError.
    """
    top = _enter(path)
    try:
        names = os.listdir(top)
        token = secrets.token_hex(8)
        for number, name in enumerate(names):  # it grows meanwhile
            names += _take_apart(name, top, f"{token}.{number}")
    finally:
        os.close(top)


def _take_apart(name: str, top: int, prefix: str) -> list[str]:
    """Removes this entry of the folder; what it has of folders goes beside it, by these names."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
            os.unlink(name, dir_fd=top)
            return []
        folder = _enter(name, top)
    except OSError:
        return []
    moved = []
    try:
        for number, inner in enumerate(os.listdir(folder)):
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.lstat(inner, dir_fd=folder).st_mode):
                    os.close(_enter(inner, folder))  # a folder that is not ours to write stays
                    outside = f"{prefix}.{number}"
                    os.rename(inner, outside, src_dir_fd=folder, dst_dir_fd=top)
                    moved.append(outside)
                else:
                    os.unlink(inner, dir_fd=folder)
    finally:
        os.close(folder)
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=top)
    return moved


def _enter(name: str | Path, parent: int | None = None) -> int:
    """A descriptor of this folder, which its owner may now read and write. Raises OSError."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW
    found = os.open(name, os.O_PATH | flags, dir_fd=parent)  # whatever its mode is
    try:
        if parent is not None and _mount_of(found) != _mount_of(parent):
            raise OSError(errno.EXDEV, "a test has mounted something there")
        # Not where it is another user's, or where we were one: /proc is closed to us then.
        with contextlib.suppress(PermissionError):
            os.chmod(f"/proc/self/fd/{found}", stat.S_IRWXU)
    finally:
        os.close(found)
    return os.open(name, os.O_RDONLY | flags, dir_fd=parent)


def _mount_of(descriptor: int) -> bytes:
    """Names the mount that it lies in."""
    with (
        contextlib.suppress(PermissionError),
        open(f"/proc/self/fdinfo/{descriptor}", "rb") as facts,
    ):
        return next((line for line in facts if line.startswith(b"mnt_id:")), b"")
    return b"%d" % os.fstat(descriptor).st_dev


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
