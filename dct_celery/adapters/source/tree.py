"""Trees of code on a worker.

Each is written into an empty folder, which gets its final name when it is complete. We never write
to it again: a later run uses it only if everything in it is proven to be what the index says. If
not, a new one is made. Files that are proven are moved over, since file systems rename thousands of
files at once, but create and remove them one by one.

    base/new-*/                 being written
    base/DIGEST.TOKEN/tree      complete when it appeared; tests may have written there since
    base/DIGEST.TOKEN/whole     an empty file, made after the tree

What this process has proven it remembers by size, times and inode: in memory, where tests cannot
change it. Bytecode in the tree makes the imports of the next run cheap. It is kept as long as no
file has changed since "whole" was made: Python takes bytecode that was compiled from other content
of the same size and second for the file's own.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from dct_celery.adapters.source.index import MAX_INDEX, Index, TreeFile, TreeLink, folders_of
from dct_celery.adapters.source.snapshot import take
from dct_celery.core.ids import digest_of, is_digest
from dct_celery.errors import ConfigError, InfrastructureError
from dct_celery.ports import BlobStore
from dct_celery.security.folders import remove_below

#: Trees that are kept besides those in use.
KEEP = 5
#: Seconds that the dispatcher has to send again what the store has lost.
PATIENCE = 30.0
#: Seconds between two requests for it.
PAUSE = 0.5
#: Files that are fetched at a time.
_BATCH_FILES = 500
#: Bytes that are fetched at a time.
_BATCH_BYTES = 32 * 1024 * 1024
#: Nanoseconds: a file that changed so shortly before it was proven could change again without a
#: trace in its times.
_FRESH = 2_000_000_000
_BYTECODE = "__pycache__"
_WHOLE = "whole"
_NEW = "new-"

#: Size, modification and change time, inode: a rewritten file differs even if its modification time
#: was reset.
Stamp = tuple[int, int, int, int]


@dataclass(slots=True)
class _Tree:
    """A tree that this process knows."""

    home: Path
    stamps: dict[str, Stamp]
    #: Runs that use it.
    runs: set[str] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.home / "tree"


@dataclass(slots=True)
class _Proof:
    """The result of checking a tree's folder."""

    root: Path
    #: It holds what the index says and nothing else, except bytecode.
    whole: bool = True
    #: Regular files with the right mode and content, links left out.
    good: dict[str, Stamp] = field(default_factory=dict)
    #: Stamps of files that need not be read again while they are unchanged.
    stamps: dict[str, Stamp] = field(default_factory=dict)
    #: Folders of bytecode, and the latest change of any file in nanoseconds.
    bytecode: list[Path] = field(default_factory=list)
    changed: int = 0


class Trees:
    """The trees in the folder `base`.

    `alive` says whether a run may still use its tree; the other arguments are for tests.
    """

    def __init__(
        self,
        base: Path,
        blobs: BlobStore,
        alive: Callable[[str], bool] = lambda run: False,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._base = base
        self._blobs = blobs
        self._alive = alive
        self._clock = clock
        self._sleep = sleep
        self._trees: dict[Path, _Tree] = {}
        #: Folders that are being written, and digests that are being checked: not to be removed.
        self._making: set[Path] = set()
        self._busy: set[str] = set()
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def materialise(self, digest: str, run: str = "") -> Path:
        """The root of the tree with this digest, exactly as the snapshot was taken.

        Raises InfrastructureError when it cannot be completed.
        """
        if not is_digest(digest):
            raise InfrastructureError(
                f"the run names its code by {digest[:60]!r}, which is not a hash"
            )
        with self._guard:
            lock = self._locks.setdefault(digest, threading.Lock())
        try:
            with lock:
                self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
                tree = self._find(digest, run)
            self._forget_old(tree.home)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise InfrastructureError(
                f"the code cannot be written below {self._base}: {why}"
            ) from error
        return tree.root

    def _find(self, digest: str, run: str) -> _Tree:
        with self._guard:
            self._busy.add(digest)
        try:
            index = self._index(digest)
            tree = self._known(digest, index)
            tree.runs = {run, *filter(self._alive, tree.runs)}
            os.utime(tree.home)
            return tree
        finally:
            with self._guard:
                self._busy.discard(digest)

    # -- from the store ----------------------------------------------------------------

    def _index(self, digest: str) -> Index:
        return Index.parse(self._fetch(digest, {digest: MAX_INDEX}, {digest: "the index"})[digest])

    def _fetch(
        self, tree: str, sizes: Mapping[str, int], names: Mapping[str, str]
    ) -> dict[str, bytes]:
        """Fetches all of these blobs.

        Missing or damaged ones are requested from the dispatcher, as long as any arrive.
        """
        found = self._blobs.get(sizes)
        deadline = self._clock() + PATIENCE
        while missing := {digest: size for digest, size in sizes.items() if digest not in found}:
            if self._clock() > deadline:
                name = names[next(iter(missing))]
                raise InfrastructureError(
                    f"the store has no good copy of {name!r} of the run's code, "
                    f"and the dispatcher did not send one again within {PATIENCE:.0f} s; "
                    "start the run again"
                )
            self._blobs.want(tree, missing)
            self._sleep(PAUSE)
            if more := self._blobs.get(missing):
                found |= more
                deadline = self._clock() + PATIENCE
        return found

    # -- on disk -----------------------------------------------------------------------

    def _known(self, digest: str, index: Index) -> _Tree:
        """A tree that exists and is unchanged, else a new one."""
        remains: _Proof | None = None
        for home in sorted(self._base.glob(f"{digest}.*"), key=_age):
            known = self._trees.get(home)
            proof = _prove(home, index, known.stamps if known else None)
            if proof.whole and _clear_bytecode(home, proof):
                tree = self._trees.setdefault(home, _Tree(home, proof.stamps))
                tree.stamps = proof.stamps
                return tree
            if remains is None and not self._in_use(home):
                remains = proof
        return self._written(digest, index, remains)

    def _written(self, digest: str, index: Index, remains: _Proof | None) -> _Tree:
        with self._guard:
            new = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._base))
            self._making.add(new)
        try:
            root = new / "tree"
            root.mkdir()
            self._write(digest, root, index, remains)
            home = self._base / f"{digest}.{new.name.removeprefix(_NEW)}"
            stamps = {path: _stamp((root / path).lstat()) for path in index.paths}
            (new / _WHOLE).touch()
            new.rename(home)
        except BaseException:
            remove_below(self._base, new)
            raise
        finally:
            self._making.discard(new)
        tree = self._trees[home] = _Tree(home, stamps)
        return tree

    def _write(self, digest: str, root: Path, index: Index, remains: _Proof | None) -> None:
        for folder in sorted(_folders_in(index)):
            (root / folder).mkdir()
        moved = _moved(remains, root) if remains is not None else set()
        for batch in _batches([file for file in index.files if file.path not in moved]):
            sizes = {file.digest: file.size for file in batch}
            blobs = self._fetch(digest, sizes, {file.digest: file.path for file in batch})
            for file in batch:
                _write_file(root / file.path, file.mode, blobs[file.digest])
        # Links come last, so that no file is ever written below one, even if the index were to
        # allow it.
        for link in index.links:
            (root / link.path).symlink_to(link.target)

    def _in_use(self, home: Path) -> bool:
        tree = self._trees.get(home)
        return tree is not None and any(self._alive(run) for run in tree.runs)

    def _remove(self, home: Path) -> None:
        self._trees.pop(home, None)
        remove_below(self._base, home)

    def _forget_old(self, current: Path) -> None:
        """Keeps a few trees, one per digest. Touches nothing but names of ours."""
        ours = current.name.partition(".")[0]
        with self._guard:
            idle: list[Path] = []
            for path in self._base.iterdir():
                digest, _, token = path.name.partition(".")
                if path.name.startswith(_NEW) and path not in self._making:
                    self._remove(path)  # of a process that was killed
                elif is_digest(digest) and token in ("", "lock"):
                    self._remove(path)  # made by an older version
                elif (
                    is_digest(digest)
                    and path != current
                    and digest not in self._busy
                    and not self._in_use(path)
                ):
                    if digest == ours:
                        self._remove(path)  # it was found damaged
                    else:
                        idle.append(path)
            for path in sorted(idle, key=_age)[KEEP:]:
                self._remove(path)


def check_checkout(checkout: Path, digest: str) -> Path:
    """The worker's own checkout, proven equal to the dispatcher's tree.

    Raises ConfigError when it differs.
    """
    if not checkout.is_dir():
        raise ConfigError(
            f"DCT_CHECKOUT: {checkout} is not a folder; "
            "set it to this worker's checkout of the project"
        )
    found = take(checkout, git_modes=True).digest
    if found != digest:
        raise ConfigError(
            f"the checkout {checkout} has the hash {found[:12]}, the dispatcher's tree has "
            f"{digest[:12]}; check out the same commit without local changes, "
            "or use --code snapshot"
        )
    return checkout


def _folders_in(index: Index) -> set[str]:
    return folders_of(index.paths) | folders_of(index.folders) | set(index.folders)


def _age(home: Path) -> float:
    """A sort key: the tree that was used last comes first."""
    with contextlib.suppress(OSError):
        return -home.stat().st_mtime
    return 0.0


def _batches(files: Iterable[TreeFile]) -> Iterator[list[TreeFile]]:
    batch: list[TreeFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) >= _BATCH_FILES or size + file.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _write_file(path: Path, mode: int, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)


def _stamp(info: os.stat_result) -> Stamp:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino


def _prove(home: Path, index: Index, known: Mapping[str, Stamp] | None) -> _Proof:
    """Checks a tree's folder against the index.

    `known`: stamps of files that need not be read again; None for an unknown tree.
    """
    proof = _Proof(home / "tree")
    try:
        if not stat.S_ISDIR(home.lstat().st_mode) or not stat.S_ISDIR(proof.root.lstat().st_mode):
            return _Proof(proof.root, whole=False)
        _check_files(proof, index, known)
    except OSError:
        proof.whole = False
    return proof


def _check_files(proof: _Proof, index: Index, known: Mapping[str, Stamp] | None) -> None:
    files = {file.path: file for file in index.files}
    links = {link.path: link for link in index.links}
    folders = _folders_in(index)
    now = time.time_ns()
    seen = 0
    for path, entry in _scan(proof.root, "", folders):
        if entry.is_dir(follow_symlinks=False):
            if path in folders:
                seen += 1
            elif entry.name == _BYTECODE:
                proof.bytecode.append(Path(entry.path))
            else:
                proof.whole = False
            continue
        info = entry.stat(follow_symlinks=False)
        stamp = _stamp(info)
        proof.changed = max(proof.changed, stamp[2])
        sure = known is not None and known.get(path) == stamp
        if not sure and not _is_the_same(entry.path, info, files.get(path), links.get(path)):
            proof.whole = False
            continue
        seen += 1
        if path in files:
            proof.good[path] = stamp
        if sure or now - stamp[2] >= _FRESH:
            proof.stamps[path] = stamp
    proof.whole = proof.whole and seen == len(files) + len(links) + len(folders)


def _clear_bytecode(home: Path, proof: _Proof) -> bool:
    """Removes bytecode whose sources may have changed meanwhile; False if it cannot be removed."""
    mark = home / _WHOLE
    with contextlib.suppress(OSError):
        if proof.changed <= mark.lstat().st_ctime_ns:
            return True
    if not all(remove_below(proof.root, folder) for folder in proof.bytecode):
        return False
    remove_below(home, mark)
    mark.touch()
    return True


def _moved(remains: _Proof, root: Path) -> set[str]:
    """Moves files of an old tree into the new one; returns their paths."""
    moved = set()
    for path, (size, written, _, inode) in remains.good.items():
        with contextlib.suppress(OSError):
            os.rename(remains.root / path, root / path)
            info = (root / path).lstat()
            if stat.S_ISREG(info.st_mode) and (info.st_size, info.st_mtime_ns, info.st_ino) == (
                size,
                written,
                inode,
            ):
                moved.add(path)
            else:  # another process was quicker
                (root / path).unlink()
    return moved


def _scan(
    folder: Path | str, prefix: str, folders: Set[str]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything in the folder and, below it, in `folders`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            yield path, entry
            if path in folders and entry.is_dir(follow_symlinks=False):
                yield from _scan(entry.path, f"{path}/", folders)


def _is_the_same(
    where: str, info: os.stat_result, file: TreeFile | None, link: TreeLink | None
) -> bool:
    if stat.S_ISLNK(info.st_mode):
        return link is not None and os.readlink(where) == link.target
    if file is None or not stat.S_ISREG(info.st_mode):
        return False
    if stat.S_IMODE(info.st_mode) != file.mode or info.st_size != file.size:
        return False
    descriptor = os.open(where, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as opened:
        return digest_of(opened.read(file.size + 1)) == file.digest
