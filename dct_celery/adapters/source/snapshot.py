"""The tree as it stands: which files belong to it, and the hash of each.

In a git checkout: what git tracks, and what it neither tracks nor ignores, with all uncommitted
changes. Elsewhere: every file below the folder except caches and environments. Folders with nothing
in them belong to it, too. `include` and `exclude` change that; see docs/code.md.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dct_celery.adapters.source import git_facts
from dct_celery.adapters.source import listing as listings
from dct_celery.adapters.source.git_environment import git_environment
from dct_celery.adapters.source.index import (
    MAX_FILE,
    MAX_INDEX,
    Index,
    TreeFile,
    TreeLink,
    folders_of,
)
from dct_celery.core import secret_files
from dct_celery.core.globs import Globs
from dct_celery.core.ids import digest_of
from dct_celery.errors import ConfigError, UsageError


@dataclass(frozen=True, slots=True)
class Selection:
    """What is sent in addition to, or in spite of, what git says."""

    include: Globs = field(default_factory=lambda: Globs(()))
    #: Wins over `include`.
    exclude: Globs = field(default_factory=lambda: Globs(()))
    #: Files and folders that a run itself writes: with them, every run would have a new tree.
    written: frozenset[str] = frozenset()

    def leaves_out(self, path: str) -> bool:
        itself = any(path == own or path.startswith(f"{own}/") for own in self.written)
        return itself or self.exclude.match(path)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree, by content."""

    root: Path
    index: Index
    #: Hash of the index: equal digests mean equal trees.
    digest: str
    #: Paths that look like secrets and are not named by a pattern of `include`.
    secrets: tuple[str, ...] = ()
    #: Patterns of `include` that match no file.
    unused: tuple[str, ...] = ()
    #: Digest -> content of files that are in the tree and not on disk.
    made: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def paths(self) -> frozenset[str]:
        """Of everything in it, relative to the root."""
        return frozenset(self.index.paths)


def find_root(directory: Path) -> Path:
    """The top of the git checkout that holds `directory`, else `directory` itself."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), "rev-parse", "--show-toplevel"],
            env=git_environment(), capture_output=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return directory  # no git here: `take` walks the tree, or says that it cannot
    if done.returncode == 0 and (top := os.fsdecode(done.stdout).removesuffix("\n")):
        return Path(top)
    if any((folder / ".git").exists() for folder in (directory, *directory.parents)):
        # Walking the tree would send what git ignores.
        raise UsageError(
            f"git refuses the checkout of {directory}: "
            f"{done.stderr.decode(errors='replace').strip()}"
        )
    return directory


def changed_files(root: Path, commit: str) -> frozenset[str]:
    """Paths relative to the root of what differs from the commit, and of what git does not know.
    Raises ConfigError where there is no such commit, or no git.
    """
    asked = (
        ("diff", "--name-only", "-z", "--relative", "--end-of-options", commit, "--"),
        ("ls-files", "--others", "--exclude-standard", "-z"),
    )
    found: set[str] = set()
    for words in asked:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words],
                env=git_environment(), capture_output=True, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise ConfigError("--changed-first needs git, which is not installed") from None
        if done.returncode:
            if not _in_git(root):
                raise ConfigError(
                    f"--changed-first: {root} is no checkout of git, which says what has changed;"
                    " leave it out"
                )
            said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise ConfigError(
                f"--changed-first: git cannot compare {root} with {commit!r} ({said}); name a"
                " commit, branch or tag that this checkout has, or leave it out"
            )
        found.update(os.fsdecode(path) for path in done.stdout.split(b"\0") if path)
    return frozenset(found)


def _in_git(root: Path) -> bool:
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--git-dir"],
        env=git_environment(), capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


def take(root: Path, selection: Selection | None = None, *, git_modes: bool = False) -> Snapshot:
    """Hashes every file of the tree.

    With `git_modes` only a file's x bit counts, as in git: two checkouts of one commit may have
    been made under different umasks, and git makes no empty folders. Raises UsageError for what is
    too large to send or cannot be read.
    """
    selection = selection or Selection()
    listed = listings.listed(root)
    paths = listed.files
    if selection.include:
        paths |= {
            path
            for path in listings.walk(root, selection.include.names)
            if selection.include.match(path)
        }
    files: list[TreeFile] = []
    links: list[TreeLink] = []
    # Of a checkout on a worker, `.git` is there.
    may_ask = not git_modes and (root / ".git").exists() and not selection.leaves_out(".git")
    asks_git = False
    for path in sorted(paths):
        if selection.leaves_out(path):
            continue
        try:
            entry = _entry(root, path, git_modes=git_modes)
            asks_git = asks_git or (may_ask and git_facts.asks(root, path))
        except FileNotFoundError:
            continue  # tracked but deleted, or gone since it was listed
        except OSError as error:
            raise UsageError(
                f"{_shown(path)} cannot be read ({error.strerror}); "
                "fix its permissions, or leave it out: --exclude"
            ) from error
        if isinstance(entry, TreeFile):
            files.append(entry)
        elif entry is not None:
            links.append(entry)
    sent = Index(tuple(files), tuple(links))
    made = _git_facts(root, listed.repositories, sent.paths, selection) if asks_git else {}
    index = replace(sent, files=(*files, *(_made(path, text) for path, text in made.items())))
    if not git_modes:
        folders = _empty_folders(root, listed, set(index.paths), selection)
        folders |= git_facts.folders(made)
        index = replace(index, folders=tuple(sorted(folders)))
    encoded = index.encode()
    if len(encoded) > MAX_INDEX:
        raise UsageError(
            f"{root} has {len(files):,} files, too many to send to workers; "
            "leave out what tests do not need (.gitignore, --exclude)"
        )
    secret = (
        file.path
        for file in files
        if not selection.include.match(file.path) and _is_secret(root, file.path)
    )
    return Snapshot(
        root,
        index,
        digest_of(encoded),
        tuple(secret),
        tuple(selection.include.unused(index.paths)),
        {digest_of(text): text for text in made.values()},
    )


def content(root: Path, file: TreeFile) -> bytes:
    """The file's bytes, as they were when the snapshot was taken.

    Raises ConfigError when they have changed.
    """
    try:
        found = (root / file.path).read_bytes()
    except OSError:
        found = None
    if found is None or digest_of(found) != file.digest:
        raise ConfigError(
            f"{_shown(file.path)} changed while it was read; run again when nothing writes there"
        )
    return found


def listing(taken: Snapshot) -> Iterator[str]:
    """What would be sent, for users: size and path of each file, then the total."""
    rows = [(f"{file.size:,}", file.path) for file in taken.index.files]
    rows += [("link", f"{link.path} -> {link.target}") for link in taken.index.links]
    rows += [("empty", f"{folder}/") for folder in taken.index.folders]
    for size, path in sorted(rows, key=lambda row: row[1]):
        yield f"{size:>13}  {_shown(path)}"
    total = sum(file.size for file in taken.index.files)
    yield f"{len(rows):,} file{'s' * (len(rows) != 1)}, {total:,} bytes"


def warnings(taken: Snapshot, *, leaves: bool = True) -> Iterator[str]:
    """Warnings before the tree is sent, one per line. `leaves`: it leaves this machine."""
    if taken.secrets and leaves:
        yield secret_files.warning([_shown(path) for path in taken.secrets])
    if taken.unused:
        patterns = ", ".join(map(_shown, taken.unused))
        yield (
            f"include {patterns} matches no file; is it relative to {taken.root}, "
            "and has it been built?"
        )


def _git_facts(
    root: Path, repositories: Iterable[str], sent: Iterable[str], selection: Selection
) -> dict[str, bytes]:
    """Path -> content, of the repository and of those inside."""
    found = git_facts.files(root, set(sent))
    for name in repositories:
        if not selection.leaves_out(f"{name}/.git"):
            inside = {path.removeprefix(f"{name}/") for path in sent if path.startswith(f"{name}/")}
            made = git_facts.files(root / name, inside)
            found |= {f"{name}/{path}": content for path, content in made.items()}
    return found


def _made(path: str, content: bytes) -> TreeFile:
    return TreeFile(path, 0o644, len(content), digest_of(content))


def _empty_folders(
    root: Path, listed: listings.Listing, sent: set[str], selection: Selection
) -> set[str]:
    """Folders that exist on disk and in which nothing is sent."""
    without_files = {
        folder for folder in folders_of(listed.files - sent) if (root / folder).is_dir()
    }
    folders = {
        folder
        for folder in (listed.folders | without_files) - folders_of(sent)
        # "media/" means what is in the folder, and so the folder itself.
        if not any(map(selection.leaves_out, (folder, f"{folder}/any-file")))
    }
    return folders - folders_of(folders)


def _entry(root: Path, path: str, *, git_modes: bool) -> TreeFile | TreeLink | None:
    full = root / path
    info = full.lstat()
    if stat.S_ISLNK(info.st_mode):
        return TreeLink(path, os.readlink(full))
    if not stat.S_ISREG(info.st_mode):
        return None
    if info.st_size > MAX_FILE:
        raise UsageError(
            f"{_shown(path)} has {info.st_size // 1_000_000} MB, too much to send to workers; "
            "leave it out (.gitignore, --exclude), or use --code checkout"
        )
    mode = (0o755 if info.st_mode & stat.S_IXUSR else 0o644) if git_modes else info.st_mode & 0o777
    with full.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
        # Not the size of `lstat`: size and digest must belong to the same content.
        return TreeFile(path, mode, file.tell(), digest)


def _is_secret(root: Path, path: str) -> bool:
    if not secret_files.may_be_key(path):
        return secret_files.looks_secret(path)
    try:
        with (root / path).open("rb") as file:
            return secret_files.is_private_key(file.read(secret_files.HEAD))
    except OSError:
        return False


def _shown(path: str) -> str:
    """The name on one line that a terminal can show, whatever it contains."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
