"""What one run came to, and how two runs differ.

*Cells* are single things with a name that changed: a column of a row that was there, a global.
*Groups* are things that have no name of their own and come in any order: results of calls, new
rows. What differs between two runs in the same order, one call after the other, is by chance
(*volatile*: keys, moments, tokens) and is left out wherever runs are compared.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dct_celery.testing.databases import Table
from dct_celery.testing.values import NOW, Flat, Path, leaf, name

Record = dict[str, str]

_UNCHANGED = "as before"
_GONE = "gone"


@dataclass
class Outcome:
    """Of one run, after its last call."""

    cells: dict[Path, str] = field(default_factory=dict)
    groups: dict[str, list[Record]] = field(default_factory=dict)

    def add_shared(self, first: Flat, now: Flat) -> None:
        for path in first.keys() | now.keys():
            if first.get(path) != now.get(path):
                self.cells[path] = now.get(path, _GONE)

    def add_table(self, table: str, before: Table, now: Table) -> None:
        if not before.keys:
            self._add_new(table, now.columns, list(now.rows))
            return
        old, new = before.by_key(), now.by_key()
        for key, row in old.items():
            place = f"[{', '.join(map(str, key))}]"
            if key not in new:
                self.cells[table, place] = _GONE
            elif row != new[key]:
                for column, was, value in zip(before.columns, row, new[key], strict=True):
                    if was != value:
                        self.cells[table, place, f".{column}"] = leaf(value)
        self._add_new(table, now.columns, [row for key, row in new.items() if key not in old])

    def _add_new(self, table: str, columns: Sequence[str], rows: list[tuple[object, ...]]) -> None:
        for row in rows:
            record = {column: leaf(value) for column, value in zip(columns, row, strict=True)}
            self.groups.setdefault(f"new rows of {table}", []).append(record)

    def add_result(self, function: str, record: Record) -> None:
        self.groups.setdefault(f"results of {function}", []).append(record)


@dataclass
class Volatile:
    """What differs by chance, and what the caller wants ignored."""

    ignore: Sequence[str] = ()
    paths: set[Path] = field(default_factory=set)
    columns: set[tuple[str, str]] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)

    def learn(self, one: Outcome, other: Outcome) -> None:
        """Two runs in the same order."""
        for path in one.cells.keys() | other.cells.keys():
            if one.cells.get(path) != other.cells.get(path):
                self.paths.add(path)
                if path[-1].startswith("[") and len(path) > 2:
                    self.paths.add(path[:-1])  # the next run has yet other keys
        for group in one.groups.keys() | other.groups.keys():
            records, others = one.groups.get(group, []), other.groups.get(group, [])
            if len(records) != len(others):
                self.groups.add(group)
            for column in {column for record in (*records, *others) for column in record}:
                if _values(records, column) != _values(others, column):
                    self.columns.add((group, column))

    def cells(self, outcome: Outcome) -> dict[Path, str]:
        return {
            path: text
            for path, text in outcome.cells.items()
            if not any(path[:length] in self.paths for length in range(1, len(path) + 1))
            and not self._ignored(name(path), name(tuple(p for p in path if p[:1] != "[")))
        }

    def records(self, outcome: Outcome) -> dict[str, Counter[frozenset[tuple[str, str]]]]:
        return {
            group: Counter(
                frozenset(
                    (column, text)
                    for column, text in record.items()
                    if text != NOW
                    and (group, column) not in self.columns
                    and not self._ignored(f"{group.rpartition(' of ')[2]}.{column.lstrip('.')}")
                )
                for record in records
            )
            for group, records in outcome.groups.items()
            if group not in self.groups and not self._ignored(group.rpartition(" of ")[2])
        }

    def _ignored(self, *names: str) -> bool:
        return any(fnmatch.fnmatchcase(one, pattern) for one in names for pattern in self.ignore)


def _values(records: Iterable[Record], column: str) -> Counter[str | None]:
    return Counter(record.get(column) for record in records)


def differences(seen: Outcome, serial: Outcome, volatile: Volatile) -> Iterator[str]:
    """Lines that say what is other in `seen`; none if it is as one after the other."""
    cells, expected = volatile.cells(seen), volatile.cells(serial)
    for path in sorted(cells.keys() | expected.keys()):
        now, then = cells.get(path, _UNCHANGED), expected.get(path, _UNCHANGED)
        if now != then:
            yield f"{name(path)} is {now}; one after the other it is {then}"
    groups, wanted = volatile.records(seen), volatile.records(serial)
    for group in sorted(groups.keys() | wanted.keys()):
        found, other = groups.get(group, Counter()), wanted.get(group, Counter())
        if found.total() != other.total():
            yield f"{found.total()} {group}; one after the other {other.total()}"
        elif found != other:
            yield (
                f"{group}: {_listed(found - other)}; "
                f"one after the other {_listed(other - found)} instead"
            )


def _listed(records: Mapping[frozenset[tuple[str, str]], int]) -> str:
    return ", ".join(
        f"{count} × {_record(record)}" if count > 1 else _record(record)
        for record, count in sorted(records.items(), key=lambda item: sorted(item[0]))
    )


def _record(record: frozenset[tuple[str, str]]) -> str:
    """In one line; a result that is no more than a value has no name."""
    named = (f"{column}={text}" if column else text for column, text in sorted(record))
    return " ".join(named) or "nothing"
