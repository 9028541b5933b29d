"""A run that has begun earlier, as its journal or the store has it: to be told, not to be changed.

On the machine of its dispatcher the journal is there long after the run. The store keeps a run for
some minutes after its end, for any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dct_celery.core.model import Entry
from dct_celery.core.run import events as ev
from dct_celery.core.run.history import History
from dct_celery.core.text import first_of
from dct_celery.dispatcher import journal as journals
from dct_celery.dispatcher.run_snapshot import RunSnapshot
from dct_celery.errors import Untrusted, UsageError
from dct_celery.ports import Ledger
from dct_celery.protocol.door import Door, peek
from dct_celery.protocol.heads import expand
from dct_celery.protocol.stream import Reported, StreamEntry
from dct_celery.security.signing import signed_by

#: Entries of one read of the stream.
_PAGE = 2000


@dataclass(frozen=True, slots=True)
class PastRun:
    """`local`: it ran on this machine alone."""

    run: str
    snapshot: RunSnapshot
    history: History
    local: bool = False

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.snapshot.entries

    def index(self, test: str) -> int:
        """Manifest index of the test with this id, label, or unambiguous end of an id.

        Raises UsageError.
        """
        exact = [entry.index for entry in self.entries if test in (entry.id, entry.label)]
        found = exact or [entry.index for entry in self.entries if _ends(entry.id, test)]
        # A test that was collected twice has one id.
        if len({self.entries[index].id for index in found}) == 1 or exact:
            return found[0]
        if found:
            several = first_of([self.entries[index].id for index in found])
            raise UsageError(f"{test!r} is no single test of run {self.run}: it may be {several}")
        ids = [entry.id for entry in self.entries]
        # Of a test of pytest without such a parameter, the cases that there are.
        names = (test, test.partition("[")[0])
        members = [id_ for id_ in ids if any(_has_part(id_, name) for name in names)]
        near = members or get_close_matches(test, ids, 3)
        hint = (
            f"; did you mean {first_of(near)}?" if near else "; give the id that its reports have"
        )
        raise UsageError(f"{test!r} is no test of run {self.run}{hint}")


def _ends(id_: str, test: str) -> bool:
    """The id ends with this name of a test: "T.test_x" as well as "test_a.py::T::test_x[1]"."""
    return id_.endswith(tuple(f"{before}{test}" for before in (".", "::", "/")))


def _has_part(id_: str, name: str) -> bool:
    """The test is in the class, module, file or folder of this name, or is a case of this test."""
    return any(
        f"{before}{name}{after}" in f".{id_}" or id_.startswith(f"{name}{after}")
        for before in (".", "::", "/")
        for after in (".", "::", "/", "[")
    )


def from_journal(folder: Path, run: str, doors: Iterable[tuple[Door, bool]]) -> PastRun | None:
    """The run as this machine's journal has it; None without one that a key of ours has signed.

    `doors`: of the pools that it may be of, each with whether that is of this machine alone.
    """
    try:
        head, lines = journals.read(journals.path(folder, run))
        nonce = peek(RunSnapshot, head).spec.nonce
    except (OSError, Untrusted):
        return None
    for pool, local in doors:
        door = pool.of_run(run, nonce, signed_by(head))
        try:
            snapshot = RunSnapshot.parse(head, door)
        except Untrusted:
            continue
        return PastRun(run, snapshot, _told(_entries(door, lines)), local)
    return None


def from_store(ledger: Ledger, run: str, door: Door) -> PastRun | None:
    """The run as the store has it; None if it has not. Raises Untrusted, StoreUnavailable."""
    head = ledger.head()
    if head is None:
        return None
    return PastRun(run, RunSnapshot.parse(expand(head), door), _told(_stream(ledger)))


def _entries(door: Door, lines: Iterable[str]) -> Iterator[StreamEntry]:
    for line in lines:
        try:
            yield journals.parse_line(door, line)
        except Untrusted:
            continue


def _stream(ledger: Ledger) -> list[StreamEntry]:
    """In a stream that was put back, entries of earlier epochs stand among newer ones."""
    entries: list[StreamEntry] = []
    after = "0"
    while (page := ledger.read(after, block_ms=0, count=_PAGE)).last:
        entries += page.entries
        after = page.last
    return sorted(entries, key=lambda entry: entry.epoch)


def _told(entries: Iterable[StreamEntry]) -> History:
    facts: Iterator[ev.Event] = (
        entry.fact for entry in entries if not isinstance(entry.fact, Reported)
    )
    return History.of(facts)


#: Opens the store and says what it has of the run.
InStore = Callable[[], PastRun | None]


def find(folder: Path, run: str, doors: Iterable[tuple[Door, bool]], in_store: InStore) -> PastRun:
    """Raises UsageError for a run that neither knows, StoreUnavailable."""
    found = from_journal(folder, run, doors) or in_store()
    if found is None:
        raise UsageError(
            f"run {run} is not known: this machine keeps the journals of its last {journals.KEEP}"
            f" runs, in {folder}, and the store keeps a run for some minutes after its end; give"
            " the DCT_STORE, DCT_POOL and signing key that it had"
        )
    return found
