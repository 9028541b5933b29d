"""The tree as it stands: which files belong to it, and the hash of each.

In a git checkout: what git tracks and what it neither tracks nor ignores, with all uncommitted changes. Elsewhere: every
file below the folder but caches and environments.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dct_celery.errors import UsageError

#: Left out where there is no git to say what is ignored.
_NEVER = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", "venv", ".tox", ".nox", "node_modules", ".mypy_cache", ".ruff_cache",
     ".pytest_cache", ".cache"}
)  # fmt: skip
#: A single file beyond this does not travel, in bytes.
MAX_FILE = 200 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One file: POSIX path below the root, BLAKE2b of the content (or of the link's target), kind and size."""

    path: str
    digest: str
    #: "f" file, "x" executable file, "l" symbolic link.
    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree by content."""

    root: str
    files: tuple[TreeFile, ...]

    @property
    def digest(self) -> str:
        """BLAKE2b over paths, kinds and contents: equal digests mean equal trees."""
        return digest_of(self.index())

    def index(self) -> bytes:
        """The list of files as JSON; stored as a blob under the snapshot's digest."""
        rows = [[f.path, f.digest, f.kind, f.size] for f in self.files]
        return json.dumps(rows, separators=(",", ":")).encode()


def digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def find_root(directory: Path) -> Path:
    """Top of the git checkout that holds `directory`, else `directory` itself."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), "rev-parse", "--show-toplevel"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return directory  # no git on this machine: `take` walks the tree, or says that it cannot
    if done.returncode == 0 and done.stdout.strip():
        return Path(done.stdout.strip())
    if any((folder / ".git").exists() for folder in (directory, *directory.parents)):
        # Walking it would send what git ignores.
        raise UsageError(f"git refuses the checkout of {directory}: {done.stderr.strip()}")
    return directory


def take(root: Path) -> Snapshot:
    """Hashes every file of the tree. Raises UsageError for a file that is too large to travel."""
    return Snapshot(str(root), tuple(_tree_files(root)))


def content(root: Path, file: TreeFile) -> bytes:
    """The bytes behind a TreeFile."""
    path = root / file.path
    return os.readlink(path).encode() if file.kind == "l" else path.read_bytes()


def _tree_files(root: Path) -> Iterator[TreeFile]:
    for path in sorted(_git_paths(root) or _walk(root)):
        full = root / path
        try:
            info = full.lstat()
        except FileNotFoundError:
            continue  # tracked, but deleted in the working tree
        if stat.S_ISLNK(info.st_mode):
            yield TreeFile(path, digest_of(os.readlink(full).encode()), "l", 0)
        elif stat.S_ISREG(info.st_mode):
            if info.st_size > MAX_FILE:
                raise UsageError(
                    f"{path} has {info.st_size // 1_000_000} MB, too much to send to workers; "
                    "ignore it in .gitignore or use --code checkout"
                )
            kind = "x" if info.st_mode & stat.S_IXUSR else "f"
            yield TreeFile(path, _file_digest(full), kind, info.st_size)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def _git_paths(root: Path) -> list[str]:
    if not (root / ".git").exists():
        return []
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"],
            capture_output=True, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise UsageError(f"{root} is a git checkout, and git, which knows what is ignored there, is not installed") from error
    if done.returncode != 0:
        raise UsageError(f"git ls-files failed in {root}: {done.stderr.decode(errors='replace').strip()}")
    return [os.fsdecode(path) for path in done.stdout.split(b"\0") if path]


def _walk(root: Path) -> Iterator[str]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if _travels(folder, name)]
        for name in files:
            if not name.endswith((".pyc", ".pyo")):
                yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def _travels(folder: str, name: str) -> bool:
    """Whether a folder belongs to the project: not a cache, and not an environment, whatever it is called."""
    cache = name in _NEVER or name.endswith(".egg-info")
    return not cache and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
