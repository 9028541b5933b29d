"""Records on disk until the dispatcher has journalled them: one file per attempt of a chunk (I3).

First line: who holds the lease. Then a line per record, numbered from 1. Last, once the attempt has ended and the store knows it:
the end, numbered on, with the epoch in which the store was told. A store that was wiped is told again, see `send_again`.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dct_celery.core.ids import is_chunk_id
from dct_celery.errors import InfrastructureError
from dct_celery.ports import Held, Ledger

#: Characters of records that are sent again at a time.
_BATCH = 128 * 1024


class Spool:
    """Records of one attempt."""

    def __init__(self, folder: Path, held: Held) -> None:
        if not is_chunk_id(held.chunk):
            raise InfrastructureError(f"{held.chunk[:60]!r} is no id of a chunk")
        self.key = f"{held.chunk}.{held.attempt}"
        self._path = folder / f"{self.key}.jsonl"
        # A claim that was granted twice (its answer was lost) begins its attempt anew.
        self._file = self._path.open("w", encoding="ascii")
        self._file.write(json.dumps(asdict(held)) + "\n")
        self.seq = 0

    def add(self, record: str) -> None:
        """`record` is one line of JSON."""
        self.seq += 1
        self._file.write(record + "\n")

    def flush(self) -> None:
        """Into the kernel: survives the death of this process."""
        self._file.flush()

    def after(self, position: int) -> list[str]:
        """The records with higher numbers."""
        self._file.flush()
        return self._path.read_text("ascii").splitlines()[1 + position :]

    def end(self, verb: str, body: str, epoch: int) -> None:
        """The store was told the end of the attempt, in this epoch: "complete" or "release" with its JSON."""
        self._file.write(_end_line(self.seq + 1, verb, body, epoch))

    def close(self) -> None:
        """No more records. Those of an attempt without an end were refused, and are of no use to anybody."""
        self._file.close()
        if _end(self._path) is None:
            self._path.unlink(missing_ok=True)


def sweep(folder: Path, ledger: Ledger) -> int:
    """Deletes the files whose records the dispatcher has journalled; returns how many are left."""
    finished = {path.stem: end for path in folder.glob("*.jsonl") if (end := _end(path)) is not None}
    keys = list(finished)
    for key, position in zip(keys, ledger.acknowledged(keys), strict=True):
        if position >= finished[key]["end"]:
            (folder / f"{key}.jsonl").unlink(missing_ok=True)
            del finished[key]
    return len(finished)


def send_again(folder: Path, ledger: Ledger, epoch: int, lease_ms: int) -> int:
    """What the store was told in earlier epochs and the dispatcher has not journalled, once more; how many files that were.

    Attempts that still run see to theirs themselves.
    """
    sent = 0
    for path in folder.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # its slot has swept it
            end = _end(path)
            if end is not None and end["epoch"] < epoch:
                _send(path, end, ledger, epoch, lease_ms)
                sent += 1
    return sent


def _send(path: Path, end: dict[str, Any], ledger: Ledger, epoch: int, lease_ms: int) -> None:
    first, *lines = path.read_text("ascii").splitlines()
    held = replace(Held(**json.loads(first)), epoch=epoch)
    records = lines[: end["end"] - 1]
    (position,) = ledger.acknowledged([path.stem])
    for seq, batch in _batches(records, position):
        if ledger.append(held, seq, f"[{','.join(batch)}]", lease_ms) == "moved":
            return  # the next look knows the newer epoch
    getattr(ledger, end["verb"])(held, end["end"] - 1, end["body"])
    # Its slot may have swept it meanwhile: it must not come up again as an end without a beginning.
    with path.open("r+", encoding="ascii") as file:
        file.seek(0, 2)
        file.write(_end_line(end["end"], end["verb"], end["body"], epoch))


def _batches(records: list[str], position: int) -> list[tuple[int, list[str]]]:
    """(number of its last record, records) of each batch of what comes after `position`."""
    batches: list[tuple[int, list[str]]] = []
    size = _BATCH
    for number, record in enumerate(records[position:], position + 1):
        if size >= _BATCH:
            batches.append((number, []))
            size = 0
        batch = batches[-1][1]
        batch.append(record)
        batches[-1] = (number, batch)
        size += len(record)
    return batches


def _end_line(number: int, verb: str, body: str, epoch: int) -> str:
    return json.dumps({"end": number, "verb": verb, "epoch": epoch, "body": body}) + "\n"


def _end(path: Path) -> dict[str, Any] | None:
    """The last line, or None while the file is being written."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - 256 * 1024, 0))
            last = json.loads(file.read().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return None
    return last if isinstance(last, dict) and isinstance(last.get("end"), int) else None
