"""Records on disk until the dispatcher has journalled them: one file per attempt of a chunk (I3).

First line: the lease under which they were made. Then one line per record, numbered from 1. Last,
once the attempt has ended and the store knows it: the end, with the next number and the epoch in
which the store got it. A store that was wiped gets all of it again, see `send_again`. A damaged
file (a full disk, an edit) is removed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dct_celery.core import codec
from dct_celery.core.codec import Number
from dct_celery.core.ids import is_chunk_id
from dct_celery.core.run.events import ChunkCompleted, ChunkEnd
from dct_celery.core.run.leases import LeaseRef
from dct_celery.errors import InfrastructureError, Untrusted
from dct_celery.ports import Ledger
from dct_celery.protocol.door import parse
from dct_celery.protocol.leases import WriteAnswer
from dct_celery.protocol.stream import parse_end, parse_records

log = logging.getLogger(__name__)
#: Characters of records that are sent again in one batch.
_BATCH = 128 * 1024


@dataclass(frozen=True, slots=True)
class _EndLine:
    """The last line: the number after the last record, the kind of end (the name of its stream
    entry), the epoch, and its JSON.
    """

    end: Number
    kind: Literal["completed", "released"]
    epoch: Number
    body: str


class Spool:
    """Records of one attempt."""

    def __init__(self, folder: Path, lease: LeaseRef) -> None:
        if not is_chunk_id(lease.chunk):
            raise InfrastructureError(f"{lease.chunk[:60]!r} is not the id of a chunk")
        self.key = lease.key
        self._path = folder / f"{self.key}.jsonl"
        # A claim granted twice (its first answer was lost) starts its attempt from the beginning.
        self._file = self._path.open("w", encoding="ascii")
        self._file.write(codec.dumps(lease) + "\n")
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

    def end(self, end: ChunkEnd, epoch: int) -> None:
        """The store got the end of the attempt in this epoch."""
        kind: Literal["completed", "released"] = (
            "completed" if isinstance(end, ChunkCompleted) else "released"
        )
        self._file.write(codec.dumps(_EndLine(self.seq + 1, kind, epoch, codec.dumps(end))) + "\n")

    def close(self) -> None:
        """No more records. A file without an end was refused by the store, and is removed."""
        self._file.close()
        if _end(self._path) is None:
            self._path.unlink(missing_ok=True)


def sweep(folder: Path, ledger: Ledger) -> int:
    """Deletes the files whose records the dispatcher has journalled; returns how many are left."""
    finished = {
        path.stem: end for path in folder.glob("*.jsonl") if (end := _end(path)) is not None
    }
    keys = list(finished)
    for key, position in zip(keys, ledger.acknowledged(keys), strict=True):
        if position >= finished[key].end:
            (folder / f"{key}.jsonl").unlink(missing_ok=True)
            del finished[key]
    return len(finished)


def send_again(folder: Path, ledger: Ledger, epoch: int, lease_ms: int) -> int:
    """Sends again what the store got in earlier epochs and the dispatcher has not journalled;
    returns the number of files.

    Attempts that still run send their own records again.
    """
    sent = 0
    for path in folder.glob("*.jsonl"):
        end = _end(path)
        if end is None or end.epoch >= epoch:
            continue
        try:
            _send(path, end, ledger, epoch, lease_ms)
            sent += 1
        except FileNotFoundError:
            pass  # its slot has removed it
        except Untrusted as error:
            log.warning("%s: the spool %s; its chunk runs again", path.name, error)
            path.unlink(missing_ok=True)
        except OSError as error:  # a full disk, for example: the others are sent nevertheless
            log.warning("%s: the spool cannot be read or written: %s", path.name, error)
    return sent


def _send(path: Path, line: _EndLine, ledger: Ledger, epoch: int, lease_ms: int) -> None:
    lease, records = _whole(path, line)
    lease, end = replace(lease, epoch=epoch), parse_end(line.kind, line.body)
    (position,) = ledger.acknowledged([path.stem])
    for seq, batch in _batches(records, position):
        if ledger.append(lease, seq, f"[{','.join(batch)}]", lease_ms) is WriteAnswer.MOVED:
            return  # the next call knows the newer epoch
    ledger.end(lease, line.end - 1, end)
    # Its slot may have removed it meanwhile: never create a new file that holds an end alone.
    with path.open("r+", encoding="ascii") as file:
        file.seek(0, 2)
        file.write(codec.dumps(replace(line, epoch=epoch)) + "\n")


def _whole(path: Path, line: _EndLine) -> tuple[LeaseRef, list[str]]:
    """Lease and records. Raises Untrusted if anything is damaged: the dispatcher would reject a
    part, and ask for all of it again and again.
    """
    first, *lines = path.read_text("ascii", errors="replace").splitlines()
    lease, records = parse(LeaseRef, first), lines[: line.end - 1]
    known = len(parse_records(f"[{','.join(records)}]")) if records else 0
    if known != line.end - 1 or lease.key != path.stem:
        raise Untrusted("is not whole")
    for one in lines[line.end - 1 :]:
        parse(_EndLine, one)
    return lease, records


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


def _end(path: Path) -> _EndLine | None:
    """The last line, or None while the file is being written."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - 256 * 1024, 0))
            return parse(_EndLine, file.read().splitlines()[-1])
    except (OSError, IndexError, Untrusted):
        return None
