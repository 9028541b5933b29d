"""Values as texts that can be compared: what a call returned, a row held, a global is.

Whatever is called *flat* here maps a path (a tuple of texts) to a text. Two values are the same if
their flat forms are. Objects that are neither plain data nor of a class of the project count by
their type alone.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from dct_celery.testing.project import is_project_class

Path = tuple[str, ...]
Flat = dict[Path, str]

MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
SEQUENCES = (list, deque)
_SETS = (set, frozenset)
_ATOMS = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray, memoryview, range, slice),
    *(Decimal, UUID, Enum, PurePath, datetime.date, datetime.time, datetime.timedelta),
    datetime.tzinfo,
)
#: Moments that are nearer to now than so many seconds are all the same: they are of this check.
_NEAR = 3600.0
NOW = "<now>"
#: More is no state that a test looks at; such a value counts by its type.
_LIMIT = 10_000


def leaf(value: object) -> str:
    """The text of a value that has no parts."""
    match value:
        case bool() | None:
            return repr(value)
        case int() | float() if abs(value) < 1e11 and abs(value - time.time()) < _NEAR:
            return NOW
        case datetime.datetime() if _is_near(value):
            return NOW
        case datetime.time() | datetime.date() | datetime.timedelta() | UUID() | Decimal():
            return str(value)
        case memoryview() | bytearray():
            return repr(bytes(value))
        case _ if isinstance(value, _ATOMS):
            return repr(value)
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _is_near(moment: datetime.datetime) -> bool:
    """A moment without zone may be in UTC or in local time."""
    if abs(moment.year - time.gmtime().tm_year) > 1:
        return False
    readings = [moment] if moment.tzinfo else [moment, moment.replace(tzinfo=datetime.UTC)]
    return any(abs(reading.timestamp() - time.time()) < _NEAR for reading in readings)


_KEYS = re.compile(r"\['(\w+)'\]")


class TooLarge(Exception):
    """A value has more parts than anybody wants to compare."""


class Flattener:
    """Goes through a value once, with every object that it meets.

    `visit` is called with each container that can change: what it was then can be put back.
    `convert` is asked first for what a value is compared by.
    """

    def __init__(
        self,
        visit: Callable[[Any], None] = lambda _: None,
        convert: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self.flat: Flat = {}
        self._visit = visit
        self._convert = convert
        self._seen: set[int] = set()
        self._keep: list[object] = []

    def add(self, path: Path, value: Any) -> None:
        """Raises TooLarge."""
        if len(self.flat) > _LIMIT:
            raise TooLarge
        value = self._convert(value)
        kind = type(value)
        if kind in MAPPINGS:
            self._members(path, value, {f"[{key!r}]": part for key, part in list(value.items())})
        elif kind in SEQUENCES or isinstance(value, tuple):
            self._members(path, value, {f"[{n}]": part for n, part in enumerate(list(value))})
        elif kind in _SETS:
            self._visit(value)
            self.flat[path] = "{" + ", ".join(sorted(leaf(part) for part in list(value))) + "}"
        elif not isinstance(value, (type, *_ATOMS)) and is_project_class(kind):
            parts = getattr(value, "__dict__", {})
            self._members(path, value, {f".{name}": part for name, part in list(parts.items())})
        else:
            self.flat[path] = leaf(value)

    def _members(self, path: Path, value: Any, parts: Mapping[str, Any]) -> None:
        if id(value) in self._seen:
            self.flat[path] = "<again>"
            return
        self._seen.add(id(value))
        self._keep.append(value)  # so that no other object gets its id meanwhile
        self._visit(value)
        self.flat[(*path, "<length>")] = f"{type(value).__name__} of {len(parts)}"
        for name, part in parts.items():
            self.add((*path, name), part)


def flat(value: Any) -> Flat:
    """What a call returned; see the module."""
    flattener = Flattener(convert=plain)
    try:
        flattener.add((), value)
    except TooLarge:
        return {(): leaf(value)}
    return flattener.flat


def plain(value: Any) -> Any:
    """Responses, model instances and query sets as plain data; anything else as it is."""
    from django.db.models import Model, QuerySet
    from django.http import HttpResponseBase

    if isinstance(value, HttpResponseBase):
        return _response(value)
    if isinstance(value, Model):
        return {"": value._meta.label, **{f.attname: _stored(value, f) for f in _fields(value)}}
    if isinstance(value, QuerySet):
        return list(value)
    return value


def _fields(instance: Any) -> list[Any]:
    return [f for f in instance._meta.concrete_fields if f.attname in instance.__dict__]


def _stored(instance: Any, field: Any) -> Any:
    value = instance.__dict__[field.attname]
    return value if isinstance(value, (dict, list, *_ATOMS)) else str(value)


def _response(response: Any) -> dict[str, Any]:
    parts = {"status_code": response.status_code}
    if "Location" in response:
        parts["Location"] = response["Location"]
    content = b"" if getattr(response, "streaming", False) else response.content
    if "json" in response.get("Content-Type", ""):
        try:
            return {**parts, "json": json.loads(content)}
        except ValueError:
            pass
    return {**parts, "content": content}


def name(path: Path) -> str:
    """A path as people write it."""
    return "".join(part for part in path if part != "<length>")


def columns(value: Flat) -> dict[str, str]:
    """A result with names instead of paths: `json.items[0].id`. An empty part is named, too."""
    filled = {
        path[:length]
        for path in value
        for length in range(len(path) - (path[-1:] == ("<length>",)))
    }
    return {
        _KEYS.sub(r".\1", name(path)).lstrip("."): text
        for path, text in value.items()
        if path[-1:] != ("<length>",) or path[:-1] not in filled
    }
