"""Materialised trees on a worker: one folder per digest, kept for the next run, made whole again where tests wrote into it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dct_celery.adapters.source.snapshot import TreeFile, digest_of, take
from dct_celery.errors import ConfigError, InfrastructureError
from dct_celery.ports import BlobStore

#: Trees kept besides the one in use.
KEEP = 5
_BYTECODE = "__pycache__"


class Trees:
    """Folder `base` with one tree per digest."""

    def __init__(self, base: Path, blobs: BlobStore) -> None:
        self._base = base
        self._blobs = blobs

    def materialise(self, digest: str) -> Path:
        """The tree of this digest, exactly as it was taken. Raises InfrastructureError when blobs are missing."""
        self._base.mkdir(parents=True, exist_ok=True)
        with self._lock(digest):
            root = self._base / digest / "tree"
            stamps = self._base / digest / "stamps.json"
            files = self._index(digest)
            known = _read_stamps(stamps)
            changed = [file for file in files if known.get(file.path, ()) != _stamp(root / file.path)]
            root.mkdir(parents=True, exist_ok=True)
            strangers = _strangers(root, files)
            if changed or strangers:
                # Somebody wrote here; bytecode of it would pass for ours when size and second are the same.
                _clear(root, strangers)
                self._write(root, changed)
            _write_stamps(stamps, root, files)
            os.utime(self._base / digest)
        self._forget_old(digest)
        return root

    def _index(self, digest: str) -> list[TreeFile]:
        index = self._blobs.get([digest]).get(digest)
        if index is None:
            raise InfrastructureError(f"the store no longer has the snapshot {digest[:12]}; start the run again")
        return [TreeFile(*row) for row in json.loads(index)]

    def _write(self, root: Path, files: list[TreeFile]) -> None:
        for start in range(0, len(files), 500):
            batch = files[start : start + 500]
            blobs = self._blobs.get([file.digest for file in batch])
            for file in batch:
                if file.digest not in blobs or digest_of(blobs[file.digest]) != file.digest:
                    raise InfrastructureError(f"the store has no good copy of {file.path}; start the run again")
                _write_file(root / _safe(file.path), file.kind, blobs[file.digest])

    @contextmanager
    def _lock(self, digest: str) -> Iterator[None]:
        with open(self._base / f"{digest}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _forget_old(self, current: str) -> None:
        trees = sorted((p for p in self._base.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
        for tree in [tree for tree in trees if tree.name != current][KEEP:]:
            shutil.rmtree(tree, ignore_errors=True)


def check_checkout(checkout: Path, digest: str) -> Path:
    """The worker's own checkout, proven equal to the dispatcher's tree. Raises ConfigError when it differs."""
    found = take(checkout).digest
    if found != digest:
        raise ConfigError(
            f"the checkout {checkout} has the hash {found[:12]}, the dispatcher's tree has {digest[:12]}; "
            "check out the same commit without local changes, or use --code snapshot"
        )
    return checkout


def _safe(path: str) -> str:
    """Refuses a path that would leave the tree."""
    if path.startswith("/") or ".." in path.split("/"):
        raise InfrastructureError(f"the snapshot names a path outside its tree: {path!r}")
    return path


def _write_file(path: Path, kind: str, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        path.unlink()
    if kind == "l":
        path.symlink_to(os.fsdecode(content))
        return
    path.write_bytes(content)
    path.chmod(0o755 if kind == "x" else 0o644)


def _stamp(path: Path) -> list[int] | None:
    """Size, modification and change time: a file that a test rewrote differs, whatever it did to the modification time."""
    try:
        info = path.lstat()
    except OSError:
        return None
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns]


def _read_stamps(path: Path) -> dict[str, list[int]]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _write_stamps(path: Path, root: Path, files: list[TreeFile]) -> None:
    stamps = {file.path: _stamp(root / file.path) for file in files}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(stamps))
    temporary.replace(path)


def _strangers(root: Path, files: list[TreeFile]) -> list[str]:
    """Files and links that tests left in the tree, bytecode apart."""
    wanted = {file.path for file in files}
    found = []
    for folder, names, others in os.walk(root):
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        names[:] = [name for name in names if name != _BYTECODE]
        paths = (os.path.relpath(os.path.join(folder, name), root) for name in others + links)
        found += [path for path in paths if path not in wanted]
    return found


def _clear(root: Path, strangers: list[str]) -> None:
    for path in strangers:
        (root / path).unlink()
    for folder, _, _ in os.walk(root, topdown=False):
        if os.path.basename(folder) == _BYTECODE:
            shutil.rmtree(folder)
        elif folder != str(root) and not os.listdir(folder):
            os.rmdir(folder)
