"""Records on disk until the dispatcher has journalled them: one file per attempt of a chunk (I3)."""

from __future__ import annotations

import json
from pathlib import Path

from dct_celery.ports import Ledger


class Spool:
    """Records of one attempt: numbered from 1, kept until acknowledged."""

    def __init__(self, folder: Path, chunk: str, attempt: int) -> None:
        self.key = f"{chunk}.{attempt}"
        self._path = folder / f"{self.key}.jsonl"
        self._file = self._path.open("a", encoding="ascii")
        self.seq = 0

    def add(self, record: str) -> None:
        """`record` is one line of JSON."""
        self.seq += 1
        self._file.write(record + "\n")

    def flush(self) -> None:
        """Into the kernel: survives the death of this process."""
        self._file.flush()

    def close(self) -> None:
        """No more records. The last line tells a sweeper which acknowledgement frees the file."""
        self._file.write(json.dumps({"end": self.seq}) + "\n")
        self._file.close()


def sweep(folder: Path, ledger: Ledger) -> int:
    """Deletes the files whose records the dispatcher has journalled; returns how many are left."""
    finished = {path.stem: _end(path) for path in folder.glob("*.jsonl")}
    keys = [key for key, end in finished.items() if end is not None]
    for key, acknowledged in zip(keys, ledger.acknowledged(keys), strict=True):
        end = finished[key]
        if end is not None and acknowledged >= end:
            (folder / f"{key}.jsonl").unlink(missing_ok=True)
            del finished[key]
    return len(finished)


def _end(path: Path) -> int | None:
    """Sequence number of the last record, or None while the file is being written."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - 64, 0))
            lines = file.read().splitlines()
        last = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return None
    end = last.get("end") if isinstance(last, dict) else None
    return end if isinstance(end, int) else None
