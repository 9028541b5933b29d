"""Which files, links and empty folders belong to a tree: git says it, else a walk.

A repository inside of another one, as a submodule or beside what that tracks, is asked itself.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dct_celery.adapters.source.git_environment import git_environment
from dct_celery.adapters.source.index import folders_of
from dct_celery.errors import UsageError

#: Left out where there is no git to say what is ignored; an `include` pattern must name them in
#: full.
_NEVER = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", "venv", ".tox", ".nox", "node_modules",
     ".mypy_cache", ".ruff_cache",
     ".pytest_cache", ".cache"}
)  # fmt: skip
#: Never sent, whatever `include` says.
_REPOSITORIES = frozenset({".git", ".hg", ".svn"})


@dataclass(slots=True)
class Listing:
    """POSIX paths below the root."""

    #: Files, links, and what is neither and cannot be sent.
    files: set[str] = field(default_factory=set)
    #: Folders in which there is nothing of `files`, and no other such folder.
    folders: set[str] = field(default_factory=set)
    #: Folders with a repository of their own, the root left out.
    repositories: set[str] = field(default_factory=set)


def listed(root: Path) -> Listing:
    """Raises UsageError if git refuses to answer, or is missing."""
    if (root / ".git").exists():
        return _by_git(root)
    found = Listing(set(walk(root, lambda folder: False)))
    found.folders = _empty(found.files, _walked_folders(root, ""))
    return found


def walk(root: Path, named: Callable[[str], bool]) -> Iterator[str]:
    """Every file and link, except caches and environments that are not `named`."""
    for folder, names, files in os.walk(root):
        below = os.path.relpath(folder, root)
        prefix = "" if below == "." else f"{below}/"
        names[:] = [
            name
            for name in names
            if _travels(folder, name) or (name not in _REPOSITORIES and named(f"{prefix}{name}"))
        ]
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for name in files:
            if (
                not name.endswith((".pyc", ".pyo")) and name not in _REPOSITORIES
            ):  # a submodule has a file .git
                yield f"{prefix}{name}"
        yield from (f"{prefix}{name}" for name in links)


def ignored(root: Path) -> list[str]:
    """Files that git ignores, except those of caches and environments; none without git."""
    if not (root / ".git").exists():
        return []
    paths = _git(root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard")
    return [path for path in paths if not _is_cache(path)]


def _is_cache(path: str) -> bool:
    return path.endswith((".pyc", ".pyo")) or not _NEVER.isdisjoint(path.split("/"))


def _travels(folder: str, name: str) -> bool:
    """Whether a folder belongs to the project: not a cache, nor an environment of any name."""
    cache = name in _NEVER or name.endswith(".egg-info")
    return not cache and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


# -- git -------------------------------------------------------------------------------


def _by_git(root: Path) -> Listing:
    """What is tracked, and what is neither tracked nor ignored."""
    found = Listing()
    inner: list[str] = []
    for path in _git(
        root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"
    ):
        # Another repository is listed as a folder, with or without a slash.
        name = path.rstrip("/")
        if name != path or _is_folder(root / name):
            inner.append(name)
        else:
            found.files.add(path)
    # Folders without any file of ours are among these, or below one of them.
    others = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--directory")
    candidates = {path.rstrip("/") for path in others if path.endswith("/")} - set(inner)
    walked = {folder for start in candidates for folder in _walked_folders(root, start)}
    found.folders = _empty(found.files, _not_ignored(root, walked))
    for name in inner:
        _add(found, root, name)
    return found


def _add(found: Listing, root: Path, name: str) -> None:
    """The repository inside; a submodule that is not checked out is an empty folder."""
    if (root / name / ".git").exists():
        inside = _by_git(root / name)
        found.repositories |= {name, *(f"{name}/{path}" for path in inside.repositories)}
        found.files |= {f"{name}/{path}" for path in inside.files}
        found.folders |= {f"{name}/{path}" for path in inside.folders}
        if inside.files or inside.folders:
            return
    found.folders.add(name)


def _git(root: Path, *words: str) -> list[str]:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            env=git_environment(),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise UsageError(
            f"{root} is a git checkout, and git, which knows what is ignored there, "
            "is not installed"
        ) from error
    if done.returncode != 0:
        raise UsageError(
            f"git refuses to list {root}: {done.stderr.decode(errors='replace').strip()}"
        )
    return [os.fsdecode(path) for path in done.stdout.split(b"\0") if path]


def _not_ignored(root: Path, folders: set[str]) -> set[str]:
    if not folders:
        return folders
    names = b"".join(os.fsencode(f"{folder}/\0") for folder in folders)
    done = subprocess.run(
        ["git", "-C", str(root), "check-ignore", "-z", "--stdin"],
        input=names,
        env=git_environment(),
        capture_output=True,
        check=False,  # 1: none is ignored
    )
    return folders - {os.fsdecode(name).rstrip("/") for name in done.stdout.split(b"\0")}


# -- folders ---------------------------------------------------------------------------


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _walked_folders(root: Path, start: str) -> Iterator[str]:
    """The folder `start` below the root, and all below it, but for caches and environments."""
    if start and not _travels(str(root), start):
        return
    for folder, names, _ in os.walk(root / start):
        names[:] = [name for name in names if _travels(folder, name)]
        below = os.path.relpath(folder, root)
        if below != ".":
            yield below


def _empty(files: Iterable[str], folders: Iterable[str]) -> set[str]:
    """Of the folders, those with neither a file nor another of them below."""
    found = set(folders)
    return found - folders_of([*files, *found])
