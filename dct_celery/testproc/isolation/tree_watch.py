"""What tests change in a tree that several slots share: found by the times of files and folders.

Only where a slot cannot have a view of its own (`private_tree`). A file that is there at the end of
a chunk and was not at its start, or has changed, is attributed to the class that ran when it was
written; so is a folder in which files came and went, since another slot may have met them there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from dct_celery.core.run.leaks import CAME_AND_WENT, LeakKind, LeakRecord
from dct_celery.testproc.clock import now

#: Not the project's, or written by Python itself.
_SKIPPED = frozenset({"__pycache__", ".git"})
#: The tree itself.
_TOP = "./"
#: Most files that are named for one class.
_NAMED = 3
_scandir, _stat = os.scandir, os.stat


class TreeWatch:
    """One tree, chunk by chunk."""

    def __init__(self, root: str) -> None:
        self._root = root
        #: Seconds to add to `now` for the clock of files: bound before a test can set any clock.
        self._offset = time.time() - now()
        self._known: dict[str, int] = {}
        #: (seconds of the clock of files, class) of each class that has ended, in order.
        self._ended: list[tuple[float, str]] = []
        self._start = 0.0

    def begin(self) -> None:
        self._known, self._ended, self._start = self._found(), [], self._clock()

    def class_over(self, cls: str) -> None:
        self._ended.append((self._clock(), cls))

    def end(self) -> list[LeakRecord]:
        """What has been written, changed or removed since `begin`, by class."""
        found = self._found()
        changed = {path: at for path, at in found.items() if self._known.get(path) != at}
        removed = [path for path in self._known if path not in found]
        by_class: dict[str, list[str]] = {}
        for path, at in sorted(changed.items()):
            by_class.setdefault(self._class_at(at / 1e9), []).extend(
                self._said(path, changed, removed)
            )
        return [
            LeakRecord(LeakKind.FILE, _named(paths), cls)
            for cls, paths in by_class.items()
            if paths
        ]

    def _said(self, path: str, changed: Iterable[str], removed: Iterable[str]) -> list[str]:
        """Of a folder, only what its own entries do not show."""
        if not path.endswith("/"):
            return [path]
        gone = [f"{one} (removed)" for one in removed if _parent(one) == path]
        shown = any(_parent(one) == path and one not in self._known for one in changed)
        if gone or shown:
            return gone
        return [f"{path} {CAME_AND_WENT}" if path in self._known else path]

    def _clock(self) -> float:
        return now() + self._offset

    def _class_at(self, second: float) -> str:
        """The class that ran at this time of a file; empty if that is not known."""
        return next((cls for ended, cls in self._ended if second <= ended), "")

    def _found(self) -> dict[str, int]:
        """Path below the root -> time of its last change; folders end with a slash."""
        return dict(_entries(self._root, _TOP))


def _entries(folder: str, path: str) -> Iterator[tuple[str, int]]:
    """The folder, called `path`, and all that is in it."""
    try:
        yield path, _stat(folder).st_mtime_ns
        entries = list(_scandir(folder))
    except OSError:
        return
    for entry in entries:
        name = entry.name if path == _TOP else f"{path}{entry.name}"
        try:
            if not entry.is_dir(follow_symlinks=False):
                yield name, entry.stat(follow_symlinks=False).st_mtime_ns
            elif entry.name not in _SKIPPED:
                yield from _entries(entry.path, f"{name}/")
        except OSError:  # another slot was quicker
            continue


def _parent(path: str) -> str:
    above = path.rstrip("/").rpartition("/")[0]
    return "" if path == _TOP else f"{above}/" if above else _TOP


def _named(paths: list[str]) -> str:
    more = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more} more" if more > 0 else "")
