"""What tests left behind, from all slots of a run. Never a verdict.

Each leak is listed in the report; a warning is given once per kind and test.
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
    #: Files in the tree, where the slots of a worker share it.
    FILE = "file"
    #: The schema of a database, by tests that roll back; the database was replaced.
    SCHEMA = "schema"


#: Said of a folder of the tree in which files were for a while.
CAME_AND_WENT = "(files came and went)"


@dataclass(frozen=True, slots=True)
class LeakRecord:
    """A slot's report of something that the tests of one chunk left behind."""

    kind: LeakKind
    #: The thing: number and command, name, address, part of the state, alias of the database.
    what: str
    #: The class, or empty where it is not known.
    by: str = ""
    #: The first and the last of the tests that may have left it; None where that is not known.
    first: Count | None = None
    last: Count | None = None


#: Kind -> text of the warning.
_WARNINGS = {
    LeakKind.PROCESS: "a process ({what}) was left running by {by}; it was ended",
    LeakKind.THREAD: "a thread ({what}) was left running by {by}; its process was ended",
    LeakKind.PORT: "a listening socket ({what}) was left open by {by}; its process was ended",
    LeakKind.STATE: "{what} was left changed by {by}",
    LeakKind.FILE: (
        "the project's folder, which slots of one worker share, was changed by {by}: {what}"
    ),
    LeakKind.SCHEMA: (
        "the schema of database '{what}' was changed by {by}; the sequential run goes on with it,"
        " here later tests had a fresh one"
    ),
}
#: Number of leaks that are kept for the report.
_KEPT = 1000
#: Maximum length of each text, in characters.
_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that was left behind, with who may have done it."""

    kind: LeakKind
    what: str
    #: Id of the test, or its class, or the range of tests that it may be.
    by: str
    worker: str
    slot: int

    def __str__(self) -> str:
        return _WARNINGS[self.kind].format(what=self.what, by=self.by)


@dataclass(slots=True)
class Leaks:
    """What all chunks of a run left behind, each thing once."""

    found: list[Leak] = field(default_factory=list)
    _reported: set[tuple[str, str]] = field(default_factory=set)

    def add(
        self,
        manifest: Manifest,
        indices: tuple[int, ...],
        records: Iterable[LeakRecord],
        worker: str,
        slot: int,
    ) -> list[str]:
        """Takes a slot's report on one chunk of these tests; returns the warnings to give."""
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
        """Whether a warning is due.

        A part of the state is named once per run: a suite that changes its environment does so
        everywhere.
        """
        key = (leak.kind, leak.what if leak.kind is LeakKind.STATE else leak.by)
        new = key not in self._reported
        self._reported.add(key)
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
