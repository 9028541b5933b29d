"""What a run has come to, read from its dispatcher's journal as it grows: verdicts, claims and ends of chunks.

Times are the store's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENDS = ("completed", "released", "expired")


@dataclass(frozen=True, slots=True)
class Heard:
    """`at`: Unix seconds on the store's clock."""

    at: float
    #: verdict | claimed | completed | released | expired
    what: str
    chunk: str
    #: Index of the entry of a verdict, else -1.
    index: int
    #: Name of the worker, without its host.
    worker: str


@dataclass(slots=True)
class Tail:
    """Follows one journal; `poll` reads what is new."""

    path: Path
    done: set[int] = field(default_factory=set)
    heard: list[Heard] = field(default_factory=list)
    _offset: int = 0
    _rest: bytes = b""

    def poll(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            at = int(str(entry["id"]).partition("-")[0]) / 1000
        except (ValueError, KeyError, TypeError):
            return  # a line of another kind, or half of one by a dispatcher that was killed
        if entry.get("kind") in ("claimed", *ENDS):
            self.heard.append(Heard(at, entry["kind"], entry["chunk"], -1, _name(entry)))
        elif entry.get("kind") == "records":
            for record in entry["data"]:
                self._record(at, entry, record)

    def _record(self, at: float, entry: dict[str, Any], record: dict[str, Any]) -> None:
        if record["kind"] != "TestFinished" or (record["outcome"] == "not_run" and not record.get("covered_by")):
            return
        self.done.add(record["index"])
        self.heard.append(Heard(at, "verdict", entry["chunk"], record["index"], _name(entry)))

    def first(self, what: str, after: float, suits: Callable[[Heard], bool]) -> float | None:
        """When the first such thing was heard later than that; None if there was none."""
        return min((one.at for one in self.heard if one.what == what and one.at > after and suits(one)), default=None)

    def holders(self, at: float) -> set[str]:
        """Workers that held a chunk then."""
        held: dict[str, str] = {}
        for one in self.heard:
            if one.at > at:
                break
            if one.what == "claimed":
                held[one.chunk] = one.worker
            elif one.what in ENDS:
                held.pop(one.chunk, None)
        return set(held.values())


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("worker", "")).partition("@")[0]
