"""What tests left behind, from all slots of a run: told once per kind and test, listed in the report. Never a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dct_celery.core.text import cut

if TYPE_CHECKING:
    from dct_celery.core.model import Manifest

#: Kind -> what is said of it.
_WORDS = {
    "process": "a process ({what}) was left running by {by}; it was ended",
    "thread": "a thread ({what}) was left running by {by}; its process was ended",
    "port": "a listening socket ({what}) was left open by {by}; its process was ended",
    "state": "state leak: {what} by {by}",
}
#: Leaks kept for the report, and characters of each text.
_KEPT, _LENGTH = 1000, 300


@dataclass(frozen=True, slots=True)
class Leak:
    #: process | thread | port | state
    kind: str
    #: The thing: number and command, name, address, part of the state.
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
        self, manifest: Manifest, indices: tuple[int, ...], data: Iterable[Mapping[str, Any]], worker: str, slot: int
    ) -> list[str]:
        """Takes what a slot says of one chunk of these tests; returns the warnings that are due."""
        leaks = [
            Leak(one["kind"], cut(str(one.get("what", "")), _LENGTH), cut(_by(manifest, indices, one), _LENGTH), worker, slot)
            for one in data
            if one.get("kind") in _WORDS
        ]
        self.found += leaks[: max(_KEPT - len(self.found), 0)]
        return [str(leak) for leak in leaks if self._first(leak)]

    def _first(self, leak: Leak) -> bool:
        """A part of the state is told once for the run: a suite that changes its environment does so everywhere."""
        key = (leak.kind, leak.what if leak.kind == "state" else leak.by)
        new = key not in self._told
        self._told.add(key)
        return new


def _by(manifest: Manifest, indices: tuple[int, ...], one: Mapping[str, Any]) -> str:
    if one.get("by"):
        return str(one["by"])
    first, last = one.get("first"), one.get("last")
    if not (first in indices and last in indices):
        first, last = indices[0], indices[-1]
    a, b = manifest[first], manifest[last]
    if a.index == b.index:
        return a.id
    return a.cls if a.cls == b.cls else f"a test from {a.id} to {b.id}"
