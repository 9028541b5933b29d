"""Files that tests and plugins write where the dispatcher wants them: see --artifact-path.

What is new or has changed since the process began, or since the last chunk, belongs to the chunk
that has just ended. Each file is copied under its digest into a folder of the slot.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from dct_celery.core.globs import Globs
from dct_celery.core.ids import digest_of
from dct_celery.core.model import KEPT_PATH, MAX_ARTIFACT, MAX_KEPT, KeptFile

#: Bound at import, as tests patch them.
_walk, _lstat, _open, _join = os.walk, os.lstat, os.open, os.path.join
_fdopen, _relpath = os.fdopen, os.path.relpath
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
#: Never through a link, and without waiting, should a test put a pipe there just now.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_SKIPPED = frozenset({".git", "__pycache__"})

#: What tells two versions of a file apart.
_State = tuple[int, int, int]


class KeptFiles:
    """The files of one process in one tree."""

    def __init__(self, root: str, patterns: Sequence[str]) -> None:
        """`patterns`: see `core.globs`."""
        self._root = root
        self._globs = Globs(patterns)
        self._known = dict(self._found())

    def take(self, folder: str) -> tuple[tuple[KeptFile, ...], int]:
        """Copies what is new into the folder. Returns the files, and the number of those that were
        left out, because they were too many or too large, or could not be copied. Without a folder
        they do not count.
        """
        found = dict(self._found())
        new = sorted(path for path, state in found.items() if self._known.get(path) != state)
        self._known = found
        if not folder:
            return (), 0
        kept: list[KeptFile] = []
        room = MAX_ARTIFACT * 4
        for path in new:
            content = self._content(path, min(MAX_ARTIFACT, room))
            if content is None or len(kept) >= MAX_KEPT:
                continue
            digest = digest_of(content)
            try:
                with _fdopen(_open(_join(folder, digest), _WRITE, 0o600), "wb") as file:
                    file.write(content)
            except OSError:  # the disk is full, say
                continue
            kept.append(KeptFile(path, len(content), digest))
            room -= len(content)
        return tuple(kept), len(new) - len(kept)

    def _found(self) -> Iterator[tuple[str, _State]]:
        for base in self._globs.bases():
            for folder, folders, names in _walk(_join(self._root, base)):
                folders[:] = [name for name in folders if name not in _SKIPPED]
                for name in names:
                    if name in _SKIPPED:  # the file of a submodule
                        continue
                    path = _relpath(_join(folder, name), self._root)
                    if not self._globs.match(path):
                        continue
                    try:
                        about = _lstat(_join(folder, name))
                    except OSError:
                        continue
                    if stat.S_ISREG(about.st_mode):
                        yield path, (about.st_mtime_ns, about.st_size, about.st_ino)

    def _content(self, path: str, most: int) -> bytes | None:
        """None if it is gone, too large, or of a name that cannot travel."""
        if not KEPT_PATH.fullmatch(path):
            return None
        try:
            with _fdopen(_open(_join(self._root, path), _READ), "rb") as file:
                content = file.read(most + 1)
        except OSError:
            return None
        return content if len(content) <= most else None
