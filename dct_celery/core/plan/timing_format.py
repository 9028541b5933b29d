"""Timings as text, in JSON and CSV: what files of timings say, ours and those of other tools.

Such a file has seconds by name: the id of a test, the path of a file with tests, or
"setUpClass (NAME)" for what a class costs besides its tests. What has a count as well is an average
that runs of ours have measured; what has none is a hint, see `timings`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dct_celery.core.plan.timings import CLASS, HINT, TEST, Sample, without_stale_hints
from dct_celery.core.text import one_line, plural

#: Of the JSON form that is written here.
VERSION = 1
#: Longest duration that is believed, in seconds.
MAX_SECONDS = 1e7
#: Most names in a file.
MAX_NAMES = 1_000_000
_MAX_COUNT = 2**53
_HEAD = "dct_timings"
_NAME, _SECONDS, _COUNT = "test_id", "duration_seconds", "count"
_CLASS_NAME = re.compile(r"setUpClass \((.+)\)", re.DOTALL)
#: Characters of a name in a message.
_SHOWN = 80


class BadTimings(ValueError):
    """The text holds no timings: what is wrong, as a predicate, and how to fix it."""


def from_json(text: str) -> dict[str, Sample]:
    """The samples by key. Raises BadTimings.

    Read are our own form, and objects of name -> seconds or name -> {"duration": seconds}, which
    django-concurrent-test, pytest-split and Knapsack write.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    except ValueError as error:
        raise BadTimings(
            f"is not whole JSON ({error}); write it again, or remove it (CSV is read from files"
            " called .csv)"
        ) from None
    if not isinstance(found, dict):
        raise BadTimings('holds no timings, which are an object as {"NAME": SECONDS}; name another')
    if _HEAD in found and found[_HEAD] != VERSION:
        raise BadTimings(
            f"is of version {_shown(found[_HEAD])}, and this dct reads version {VERSION}; export it"
            " again with this version of dct_celery, or upgrade"
        )
    if _HEAD in found and not isinstance(found := found.get("timings"), dict):
        raise BadTimings('has no object "timings"; export it again')
    return _samples((name, *_of_json(name, value)) for name, value in found.items())


def from_csv(text: str) -> dict[str, Sample]:
    """The samples by key, from columns test_id, duration_seconds and, if it is there, count.

    Raises BadTimings.
    """
    # Lines end as csv writes them, and nowhere else where str.splitlines would have an end.
    rows = csv.DictReader(f"{line}\n" for line in text.removesuffix("\n").split("\n"))
    try:
        columns = rows.fieldnames or ()
        for column in (_NAME, _SECONDS):
            if column not in columns:
                raise BadTimings(
                    f"has no column {column}; its first line is to name the columns: {_NAME},"
                    f"{_SECONDS}"
                )
        return _samples((row[_NAME] or "", *_of_row(row, f"line {rows.line_num}")) for row in rows)
    except csv.Error as error:
        raise BadTimings(f"is not CSV ({error}, line {rows.line_num}); write it again") from None


def to_json(samples: Mapping[str, Sample]) -> str:
    """Inverse of `from_json`, in ASCII, sorted by name: a line for each."""
    lines = (
        f"    {json.dumps(name)}: {json.dumps(_timing(sample, measured=measured))}"
        for name, sample, measured in named(samples)
    )
    body = ",\n".join(lines)
    return f'{{\n  "{_HEAD}": {VERSION},\n  "timings": {{\n{body}\n  }}\n}}\n'


def to_csv(samples: Mapping[str, Sample]) -> str:
    """Inverse of `from_csv`, sorted by name."""
    lines = _Lines()
    writer = csv.writer(lines)
    writer.writerow((_NAME, _SECONDS, _COUNT))
    for name, sample, measured in named(samples):
        writer.writerow((name, sample.seconds, sample.count if measured else ""))
    return "".join(lines)


def named(samples: Mapping[str, Sample]) -> list[tuple[str, Sample, bool]]:
    """(name, sample, whether runs have measured it), sorted by name, of all that are timings."""
    found = []
    for key, sample in without_stale_hints(samples).items():
        kind, name = key[:2], key[2:]
        if kind == CLASS:
            found.append((f"setUpClass ({name})", sample, True))
        elif kind in (TEST, HINT):
            found.append((name, sample, kind == TEST))
    return sorted(found, key=lambda one: one[0])


def class_of(name: str) -> str | None:
    """The class whose own cost the name stands for, if it is no test's."""
    cls = _CLASS_NAME.fullmatch(name)
    return cls[1] if cls else None


def key_of(name: str, *, measured: bool) -> str:
    """Inverse of `named` for one name."""
    if not measured:
        return HINT + name
    cls = class_of(name)
    return TEST + name if cls is None else CLASS + cls


def belongs_to(name: str, label: str) -> bool:
    """Whether it is the label's, or inside of it: an app, a folder, a module, a class, a test."""
    whole = label.rstrip("./")
    if cls := class_of(name):
        name, whole = cls, re.sub(r"\.py\b", "", whole).replace("::", ".").replace("/", ".")
    return name == whole or name.startswith(tuple(whole + sign for sign in "./:["))


class _Lines(list[str]):
    """What csv writes to."""

    def write(self, text: str) -> None:
        self.append(text)


def _timing(sample: Sample, *, measured: bool) -> dict[str, float]:
    timing: dict[str, float] = {"duration": sample.seconds}
    return timing | {"count": sample.count} if measured else timing


def _of_json(name: str, value: object) -> tuple[object, object, str]:
    """(seconds, count, where)."""
    if isinstance(value, dict):
        return value.get("duration"), value.get("count"), ""
    return value, None, ""


def _of_row(row: Mapping[str, Any], where: str) -> tuple[object, object, str]:
    """The same."""
    count = row.get(_COUNT) or None
    return _number(row[_SECONDS], float), _number(count, int), where


def _number(text: str | None, kind: Callable[[str], float]) -> object:
    """What is no number stays text, which is refused later."""
    try:
        return text if text is None else kind(text)
    except ValueError:
        return text


def _samples(rows: Iterable[tuple[str, object, object, str]]) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    for name, seconds, count, where in rows:
        if len(found) >= MAX_NAMES:
            raise BadTimings(f"has more than {plural(MAX_NAMES, 'name')}; split or filter it")
        found[key_of(name, measured=count is not None)] = sample_of(name, seconds, count, where)
    return found


def sample_of(name: str, seconds: Any, count: Any = None, where: str = "") -> Sample:
    """What a file says of a name, checked. Raises BadTimings; `where`: in the file, if known."""
    place = f" ({where})" if where else ""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadTimings(f"names {_shown(name)}{place}, which is no text; remove it") from None
    if not name:
        raise BadTimings(f"has a duration without a name{place}; remove it")
    if type(seconds) not in (int, float) or not 0 <= seconds <= MAX_SECONDS:
        raise BadTimings(
            f"has no duration for {_shown(name)}{place} but {_shown(seconds)}; give seconds from 0"
            f" to {MAX_SECONDS:,.0f}, or remove it"
        )
    if count is not None and not (type(count) is int and 1 <= count <= _MAX_COUNT):
        raise BadTimings(
            f"has no count for {_shown(name)}{place} but {_shown(count)}; give a whole number from"
            " 1 on, or leave it out"
        )
    return Sample(float(seconds), 1 if count is None else count)


def _shown(value: object) -> str:
    text = one_line(repr(value) if isinstance(value, str) else json.dumps(value, default=str))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
