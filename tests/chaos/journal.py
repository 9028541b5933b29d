"""What a run has come to, read from its dispatcher's journal as it grows.

Verdicts, and chunks offered, claimed and ended.

Times are the store's, but for those at which the file grew. Signatures are not verified.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dct_celery.security.signing import body_of

ENDS = ("completed", "released", "expired")


@dataclass(frozen=True, slots=True)
class Heard:
    """`at`: Unix seconds on the store's clock."""

    at: float
    #: verdict | offered | claimed | completed | released | expired
    what: str
    chunk: str
    #: Index of the entry of a verdict, else -1.
    index: int
    #: Name of the worker, without its host.
    worker: str
    #: Indices of the entries of a chunk that is offered.
    indices: frozenset[int] = frozenset()


@dataclass(slots=True)
class Tail:
    """Follows one journal; `poll` reads what is new."""

    path: Path
    done: set[int] = field(default_factory=set)
    heard: list[Heard] = field(default_factory=list)
    #: Unix seconds at which new lines were found.
    grown: list[float] = field(default_factory=list)
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
        if lines:
            self.grown.append(time.time())
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            at = int(str(entry["id"]).partition("-")[0]) / 1000
        except (ValueError, KeyError, TypeError):
            return  # a line of another kind, or half of one by a dispatcher that was killed
        kind, chunk = entry.get("k"), entry.get("c", "")
        if kind == "offered":
            offered = json.loads(body_of(entry["d"]))
            self.heard.append(
                Heard(at, "offered", offered["id"], -1, "", frozenset(offered["indices"]))
            )
        elif kind in ("claimed", *ENDS):
            self.heard.append(Heard(at, kind, chunk, -1, _name(entry)))
        elif kind == "records":
            for record in json.loads(body_of(entry["d"])):
                self._record(at, entry, record)

    def _record(self, at: float, entry: dict[str, str], record: dict[str, Any]) -> None:
        if record["kind"] != "TestFinished" or (
            record["outcome"] == "not_run" and not record.get("covered_by")
        ):
            return
        self.done.add(record["index"])
        self.heard.append(Heard(at, "verdict", entry["c"], record["index"], _name(entry)))

    def first(self, what: str, after: float, suits: Callable[[Heard], bool]) -> float | None:
        """When the first such thing was read later than that; None if there was none."""
        return min(
            (one.at for one in self.heard if one.what == what and one.at > after and suits(one)),
            default=None,
        )

    def idle(self, start: float, end: float, workers: Set[str]) -> float:
        """Seconds between these moments in which some worker held no chunk.

        Each worker has one slot.
        """
        held: dict[str, str] = {}
        total, since = 0.0, start
        for one in (*self.heard, Heard(end, "end", "", -1, "")):
            if one.at > since and not workers <= held.keys():
                total += min(one.at, end) - since
            since = max(since, min(one.at, end))
            if one.what == "claimed":
                held[one.worker] = one.chunk
            elif one.what in ENDS:
                held = {worker: chunk for worker, chunk in held.items() if chunk != one.chunk}
        return total


def _name(entry: dict[str, str]) -> str:
    return entry.get("w", "").partition("@")[0]
