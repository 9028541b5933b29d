"""What tests left behind, from all slots of a run: told once per kind and test, listed in the
report. Never a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dct_celery.core.codec import Count
from dct_celery.core.text import cut

if TYPE_CHECKING:
    from dct_celery.core.model import Manifest


class LeakKind(StrEnum):
    PROCESS = "process"
    THREAD = "thread"
    PORT = "port"
    #: A part of the interpreter's state; it was put back.
    STATE = "state"


@dataclass(frozen=True, slots=True)
class LeakRecord:
    """What a slot says of something that the tests of one chunk left behind."""

    kind: LeakKind
    #: The thing: number and command, name, address, part of the state.
    what: str
    #: The class, or empty where it is not known.
    by: str = ""
    #: Indices of the tests, one of which it was; None where that is not known either.
    first: Count | None = None
    last: Count | None = None


#: Kind -> what is said of it.
_WORDS = {
    LeakKind.PROCESS: "a process ({what}) was left running by {by}; it was ended",
    LeakKind.THREAD: "a thread ({what}) was left running by {by}; its process was ended",
    LeakKind.PORT: "a listening socket ({what}) was left open by {by}; its process was ended",
    LeakKind.STATE: "state leak: {what} by {by}",
}
#: Leaks kept for the report, and characters of each text.
_KEPT, _LENGTH = 1000, 300


@dataclass(frozen=True, slots=True)
class Leak:
    kind: LeakKind
    what: str
    #: Id of the test, or its class, or the range of tests where it cannot be told.
    by: str
    worker: str
    slot: int

    def __str__(self) -> str:
        return _WORDS[self.kind].format(what=self.what, by=self.by)


@dataclass(slots=True)
class Leaks:
    found: list[Leak] = field(default_factory=list)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def add(
        self,
        manifest: Manifest,
        indices: tuple[int, ...],
        records: Iterable[LeakRecord],
        worker: str,
        slot: int,
    ) -> list[str]:
        """Takes what a slot says of one chunk of these tests; returns the warnings that are due."""
        leaks = [
            Leak(
                one.kind,
                cut(one.what, _LENGTH),
                cut(_by(manifest, indices, one), _LENGTH),
                worker,
                slot,
            )
            for one in records
        ]
        self.found += leaks[: max(_KEPT - len(self.found), 0)]
        return [str(leak) for leak in leaks if self._first(leak)]

    def _first(self, leak: Leak) -> bool:
        """A part of the state is told once for the run: a suite that changes its environment does
        so everywhere.
        """
        key = (leak.kind, leak.what if leak.kind is LeakKind.STATE else leak.by)
        new = key not in self._told
        self._told.add(key)
        return new


def _by(manifest: Manifest, indices: tuple[int, ...], one: LeakRecord) -> str:
    if one.by:
        return one.by
    first, last = one.first, one.last
    if first is None or last is None or not (first in indices and last in indices):
        first, last = indices[0], indices[-1]
    a, b = manifest[first], manifest[last]
    if a.index == b.index:
        return a.id
    return a.cls if a.cls == b.cls else f"a test from {a.id} to {b.id}"
