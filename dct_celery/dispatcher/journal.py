"""The journal: what the dispatcher has taken from the stream, on disk before it is acknowledged."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from dct_celery.ports import StreamEntry

#: Journals kept besides the current one.
KEEP = 20


class Journal:
    """Append-only file of stream entries, one JSON object per line."""

    def __init__(self, folder: Path, run: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        old = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in old[KEEP:]:
            path.unlink(missing_ok=True)
        self.path = folder / f"{run}.jsonl"
        self._file = self.path.open("w", encoding="ascii")

    def append(self, entries: Iterable[StreamEntry]) -> dict[str, int]:
        """Writes and syncs; returns the positions that may now be acknowledged ("chunk.attempt" -> seq)."""
        positions: dict[str, int] = {}
        for entry in entries:
            self._file.write(json.dumps(asdict(entry), separators=(",", ":")) + "\n")
            if entry.seq:
                positions[f"{entry.chunk}.{entry.attempt}"] = entry.seq
        self._file.flush()
        os.fdatasync(self._file.fileno())
        return positions

    def close(self) -> None:
        self._file.close()
