"""The journal: what the dispatcher has taken from the stream, on disk before it is acknowledged.

Its first line is the run's head (see dispatcher.run_snapshot), and each other line is one stream
entry. `dct attach` replays it, and a store that has lost the run is rebuilt from it. The dispatcher
holds a lock on the file as long as it lives.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dct_celery.core import codec
from dct_celery.errors import ConfigError, Untrusted, UsageError
from dct_celery.protocol.door import Door
from dct_celery.protocol.stream import StreamEntry, read_entry, rewritten
from dct_celery.security import masking
from dct_celery.security.files import try_lock

#: Journals kept besides the current one.
KEEP = 20


class Journal:
    """Append-only file of one run. Raises OSError where the disk refuses a write."""

    def __init__(
        self, folder: Path, run: str, head: str, door: Door, *, go_on: bool = False
    ) -> None:
        """Begins a journal with `head`, one line of ASCII; with `go_on`, keeps an existing one.

        `door` is the run's. Raises UsageError if the run's dispatcher is alive and has it open.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._door = door
        #: Lines that were skipped: damaged, or of another run.
        self.skipped = 0
        self.path = path(folder, run)
        _prune(folder, self.path)
        # Without a buffer: what the disk refused must not be written again when the file is closed.
        self._file = os.fdopen(
            os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab+", buffering=0
        )
        try:
            _lock(self._file.fileno(), run)
        except UsageError:
            self._file.close()
            raise
        #: "chunk.attempt" -> how far it is journalled.
        self.positions: dict[str, int] = {}
        if not go_on or not self._cut_torn_line():
            self._file.truncate(0)
            self._write(head)

    def append(self, entries: Iterable[StreamEntry]) -> dict[str, int]:
        """Writes and syncs; returns the positions that may now be acknowledged ("chunk.attempt" ->
        position).
        """
        positions: dict[str, int] = {}
        lines = []
        for entry in entries:
            lines.append(_line(self._door, entry))
            positions |= _position(entry)
        self._write("\n".join(lines))
        self.positions |= positions
        return positions

    def replay(self) -> Iterator[StreamEntry]:
        """Every entry so far, without a half-written last line, which was never acknowledged."""
        self.skipped = 0
        for line in read(self.path)[1]:
            try:
                entry = parse_line(self._door, line)
            except Untrusted:
                self.skipped += 1
                continue
            self.positions |= _position(entry)
            yield entry

    def close(self) -> None:
        self._file.close()

    def _write(self, text: str) -> None:
        """Writes all of it or nothing: an entry after half a line could not be read again."""
        whole = os.fstat(self._file.fileno()).st_size
        data = memoryview(f"{text}\n".encode("ascii"))
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fdatasync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(whole)
            raise

    def _cut_torn_line(self) -> int:
        """Drops a half-written last line of a dead dispatcher; returns the bytes that remain."""
        with self.path.open("rb") as file:
            size = sum(len(line) for line in file if line.endswith(b"\n"))
        self._file.truncate(size)
        return size


def open_journal(folder: Path, run: str, head: str, door: Door, *, go_on: bool = False) -> Journal:
    """A Journal. Raises ConfigError where it cannot be written, UsageError as `Journal` does."""
    try:
        return Journal(folder, run, head, door, go_on=go_on)
    except OSError as error:
        place = f"the journal {path(folder, run)} cannot be written ({error.strerror})"
        raise ConfigError(
            f"{place}; make room, or set XDG_STATE_HOME to a folder that can be"
        ) from error


def _line(door: Door, entry: StreamEntry) -> str:
    """The entry as it came, unless a text in it holds a secret, which must not be on this disk.

    Such an entry is decoded, masked and signed again; what the fold decides by stays the same.
    """
    data = entry.fields.get("d", "")
    if masking.PROCESS.output(data) != data:
        entry = rewritten(door, entry, masking.PROCESS.texts)
    return codec.dumps({**entry.fields, "id": entry.id})


def path(folder: Path, run: str) -> Path:
    return folder / f"{run}.jsonl"


def read(file: Path) -> tuple[str, Iterator[str]]:
    """Head and lines of a journal; a half-written head is "". Raises OSError if there is none."""
    with file.open(encoding="ascii", errors="replace") as lines:
        head = lines.readline()

    def rest() -> Iterator[str]:
        with file.open(encoding="ascii", errors="replace") as lines:
            next(lines, "")
            for line in lines:
                if line.endswith("\n"):
                    yield line

    return head[:-1] if head.endswith("\n") else "", rest()


def parse_line(door: Door, line: str) -> StreamEntry:
    """An entry as `append` wrote it. Raises Untrusted: a file on our disk may be damaged, too."""
    try:
        fields = codec.decoder(dict[str, str])(codec.loads(line))
    except codec.Malformed as error:
        raise Untrusted(f"is malformed: {error}") from None
    return read_entry(door, fields.pop("id", ""), fields)


def _position(entry: StreamEntry) -> dict[str, int]:
    position = entry.position
    return {} if position is None else dict([position])


def _lock(descriptor: int, run: str) -> None:
    if not try_lock(descriptor):
        raise UsageError(
            f"run {run} has its dispatcher, which is alive on this machine; dct status {run}"
            " shows it"
        )


def _prune(folder: Path, own: Path) -> None:
    """Removes old journals, but not `own`, however old: an attach may go on with it."""
    old = sorted(
        (file for file in folder.glob("*.jsonl") if file != own), key=_changed, reverse=True
    )
    for file in old[KEEP:]:
        # Another dispatcher may prune at the same time. A journal whose lock is held belongs to a
        # run that goes on.
        with contextlib.suppress(OSError), file.open() as opened:
            if try_lock(opened):
                file.unlink(missing_ok=True)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
