"""Sends the code from the dispatcher: once, and again in part when a worker lacks something."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from dct_celery.adapters.source import snapshot
from dct_celery.adapters.source.index import TreeFile
from dct_celery.adapters.source.left_behind import LeftBehind
from dct_celery.errors import ConfigError
from dct_celery.ports import BlobStore

#: Seconds between two checks whether workers lack something.
PAUSE = 1.0


class Upload:
    """The code of one run.

    With `prove_only` nothing is sent: workers have it, and prove that it is the same. With
    `stays_here` the only worker is one of this machine and user, who may have any file of theirs.
    """

    def __init__(
        self,
        selection: snapshot.Selection,
        clock: Callable[[], float],
        warn: Callable[[str], object],
        *,
        prove_only: bool = False,
        stays_here: bool = False,
        folders: Sequence[str] = (),
    ) -> None:
        """`folders`: below the root, where the project's modules and files are looked for."""
        self._selection = selection
        self._clock = clock
        self._warn = warn
        self._prove_only = prove_only
        self._stays_here = stays_here
        self._asked_at = float("-inf")
        self._taken: snapshot.Snapshot | None = None
        self._files: dict[str, TreeFile] = {}
        self._said: set[str] = set()
        self._folders = folders
        self._left_behind: LeftBehind | None = None

    def send(self, root: Path, store: BlobStore) -> tuple[snapshot.Snapshot, int, int]:
        """Takes the snapshot and uploads what the store lacks: (snapshot, files, bytes sent).

        Raises UsageError.
        """
        if self._prove_only:
            # Files that are ignored, written or excluded exist in one checkout and not in the
            # other, and say nothing about equality.
            taken = snapshot.take(
                root, snapshot.Selection(written=self._selection.written), git_modes=True
            )
            return taken, len(taken.index.files), 0
        taken = snapshot.take(root, self._selection)
        self._taken, self._files = taken, {file.digest: file for file in taken.index.files}
        for line in snapshot.warnings(taken, leaves=not self._stays_here):
            self._say(line)
        sent = self._put(store, store.missing([*self._files, taken.digest]))
        return taken, len(taken.index.files) + len(taken.index.links), sent

    def hint(self, text: str) -> str:
        """What a failure on a worker misses of the files here: see `left_behind`; or ""."""
        if self._taken is None:
            return ""
        if self._left_behind is None:
            self._left_behind = LeftBehind(self._taken, self._selection, self._folders)
        return self._left_behind.hint(text)

    def supply(self, store: BlobStore) -> None:
        """Sends again what workers have requested.

        To be called in every round of the event loop; it asks the store only now and then.
        """
        taken, now = self._taken, self._clock()
        if taken is None or now - self._asked_at < PAUSE:
            return
        self._asked_at = now
        wanted = [
            digest
            for digest in store.wanted(taken.digest)
            if digest in self._files or digest == taken.digest
        ]
        if wanted and (missing := store.missing(wanted)):
            self._put(store, missing, forgiving=True)

    def _put(self, store: BlobStore, digests: Iterable[str], *, forgiving: bool = False) -> int:
        taken = self._taken
        assert taken is not None
        sent = 0

        def contents() -> Iterator[tuple[str, bytes]]:
            nonlocal sent
            for digest in digests:
                if digest == taken.digest:
                    continue
                try:
                    found = taken.made.get(digest) or snapshot.content(
                        taken.root, self._files[digest]
                    )
                except ConfigError as error:
                    if not forgiving:
                        raise
                    self._say(f"a worker lacks a file that cannot be sent again: {error}")
                    continue
                sent += len(found)
                yield digest, found
            # The index comes last: who finds it finds the files.
            if taken.digest in digests:
                yield taken.digest, taken.index.encode()

        store.put(contents())
        return sent

    def _say(self, line: str) -> None:
        """Warns once, as the code may be sent again."""
        if line not in self._said:
            self._said.add(line)
            self._warn(line)
