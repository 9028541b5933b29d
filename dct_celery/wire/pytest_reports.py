"""What pytest has reported, as text: made in a test process, read by the dispatcher.

Both sides have pytest, perhaps in different versions; between them there is only JSON. A report is
what pytest's own hook `pytest_report_to_serializable` makes of it. What JSON does not know is
replaced by its `repr`, so that nothing a plugin attaches to a report can end a run. Three reports
of a test that just passed are nearly all of a suite's: they are kept short.

Paths below the top of the tree differ between machines; in these texts the top is `_TOP`.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dct_celery.core import codec
from dct_celery.core.codec import Malformed

#: Options of plugins that cannot work where tests run on several machines: name -> why, and what
#: to do.
NOT_ON_SLOTS = {
    "testmon": "--testmon keeps what each test has run in one file, which slots do not share; leave"
    " out --testmon, or run without dct",
}
#: The key of a `longrepr` that pytest does not serialize: an object that shows this text, which is
#: no message of a summary as a `longrepr` of text is.
SHOWN = "\ue000shown\ue000"
#: Stands for the name of the folder that is the top of the tree.
TOP_NAME = "\ue000name\ue000"
#: Stands for the top of the tree.
_TOP = "\ue000dct\ue000"
#: Nesting at which a value is replaced by its `repr`.
_DEPTH = 40
#: A `repr` is cut at this many characters.
_LONGEST = 10_000
#: First word of the arguments of the backend `pytest`, before those of the user.
_INPUT = "--dct-input="
#: Kind of an event -> keys that its data have at least.
_NEEDED: Mapping[str, frozenset[str]] = {
    "report": frozenset(),
    "warning": frozenset({"message", "category", "filename", "lineno", "when", "nodeid"}),
    "xml": frozenset({"nodeid", "name", "value"}),
    "subtests": frozenset({"count"}),
    "retry": frozenset({"text"}),
    "output": frozenset(),
    "note": frozenset({"text"}),
    "stop": frozenset({"fail", "stop"}),
    "exit": frozenset({"reason", "code"}),
}
#: Keys of a serialized TestReport that has nothing to say.
PLAIN = frozenset(
    {
        "nodeid", "location", "keywords", "outcome", "longrepr", "when", "user_properties",
        "sections", "duration", "start", "stop", "$report_type",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Input:
    """What every process of a run gets from the dispatcher, as xdist's workers do."""

    testrunuid: str
    #: Test processes, as far as their number is known when the run begins.
    workercount: int = 1
    mainargv: tuple[str, ...] = ()
    #: For plugins that choose at random.
    seed: int = 0
    #: What plugins have added to `node.workerinput`; absent without pytest on the dispatcher.
    added: dict[str, Any] | None = None
    #: Path below the top of the tree -> when it was changed, which no tree on a worker says; only
    #: where the user asks for an order by that.
    modified: dict[str, float] = field(default_factory=dict)

    def argument(self) -> str:
        """The first argument of the backend. Raises TypeError, see `packed`."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return _INPUT + dumps({**given, "added": packed(self.added)})


def split_arguments(arguments: Sequence[str]) -> tuple[Input | None, tuple[str, ...]]:
    """The backend's input, and the user's words."""
    if not arguments or not arguments[0].startswith(_INPUT):
        return None, tuple(arguments)
    given = loads(arguments[0].removeprefix(_INPUT))
    more = {"mainargv": tuple(given["mainargv"]), "added": unpacked(given["added"])}
    found = Input(**{**given, **more})
    return found, tuple(arguments[1:])


@dataclass(slots=True)
class TestReports:
    """What was reported of one test, in order."""

    __test__ = False

    #: What happened, as (kind, data): "report" and "warning" as they are serialized; "xml", a
    #: property or attribute for the JUnit report; "subtests", how many have failed before the next
    #: report; "retry", text for the summary of pytest-retry; "output", the `workeroutput` of the
    #: process so far; "note", a sentence for the summary; "stop", why the session has to stop
    #: behind this test; "exit", with what it has ended the session.
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    #: Id of the test process, as plugins know it: "gw17".
    worker: str = ""

    def text(self, root: str) -> str:
        """`root`: top of the tree, without a separator at its end."""
        first = next((data for kind, data in self.events if kind == "report"), {})
        shared = {key: first.get(key) for key in ("location", "keywords")}
        events = [self._short(kind, data, shared) for kind, data in self.events]
        keywords = shared["keywords"]
        head = {
            "worker": self.worker,
            "location": shared["location"],
            "keywords": list(keywords) if isinstance(keywords, Mapping) else [],
        }
        return without_root(dumps({**head, "events": events}), root)

    @staticmethod
    def _short(kind: str, data: dict[str, Any], shared: dict[str, Any]) -> Any:
        plain = (
            kind == "report"
            and data.keys() == PLAIN
            and data["outcome"] == "passed"
            and data["$report_type"] == "TestReport"
            and data["longrepr"] is None
            and not data["sections"]
            and not data["user_properties"]
            and data["location"] == shared["location"]
            and data["keywords"] == shared["keywords"]
        )
        if plain:
            return [data["when"], data["start"], data["stop"], data["duration"]]
        return {kind: data}

    @classmethod
    def read(cls, text: str, nodeid: str, root: str) -> TestReports:
        """Raises Malformed. `root`: top of the tree on this machine."""
        head = loads(with_root(text, root))
        try:
            found = cls(worker=str(head["worker"]))
            for event in head["events"]:
                if isinstance(event, list):
                    found.events.append(("report", _whole(event, head, nodeid)))
                else:
                    ((kind, data),) = event.items()
                    if not data.keys() >= _NEEDED[kind]:
                        raise ValueError(f"{kind} lacks something")
                    found.events.append((kind, data))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Malformed(f"not reports of pytest: {error!r}"[:300]) from None
        return found


def _whole(event: list[Any], head: dict[str, Any], nodeid: str) -> dict[str, Any]:
    when, start, stop, duration = event
    return {
        "$report_type": "TestReport",
        "nodeid": nodeid,
        "location": head["location"],
        "keywords": dict.fromkeys(head["keywords"], 1),
        "outcome": "passed",
        "longrepr": None,
        "when": when,
        "user_properties": [],
        "sections": [],
        "duration": duration,
        "start": start,
        "stop": stop,
    }


@dataclass(slots=True)
class SessionReports:
    """What was reported while the tests were collected."""

    #: Serialized reports of collectors that failed or skipped.
    collectors: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    #: Node ids.
    deselected: list[str] = field(default_factory=list)
    #: Number of tests that were collected and not deselected.
    collected: int = 0
    #: Lines that plugins have below the number of tests.
    lines: list[str] = field(default_factory=list)
    #: What was left out, one sentence each.
    notes: list[str] = field(default_factory=list)
    #: Why nothing can run, where that is so.
    interrupted: str = ""

    def text(self, root: str) -> str:
        """`root`: top of the tree, without a separator at its end."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return without_root(dumps(given), root)

    @classmethod
    def read(cls, text: str, root: str) -> SessionReports:
        """Raises Malformed. `root`: top of the tree on this machine."""
        given = loads(with_root(text, root))
        try:
            return cls(**given)
        except TypeError as error:
            raise Malformed(f"not reports of pytest: {error}") from None


def without_root(text: str, root: str) -> str:
    """The JSON text with `_TOP` for this path."""
    return text.replace(_inside(root) + "/", _inside(_TOP) + "/") if root else text


def with_root(text: str, root: str) -> str:
    name = root.rstrip("/").rpartition("/")[2]
    return text.replace(_inside(_TOP), _inside(root)).replace(_inside(TOP_NAME), _inside(name))


def file_locations(longrepr: Any) -> Iterator[dict[str, Any]]:
    """Those in a serialized error, each with its "path"."""
    if isinstance(longrepr, dict):
        location = longrepr.get("reprfileloc")
        if isinstance(location, dict) and isinstance(location.get("path"), str):
            yield location
        longrepr = list(longrepr.values())
    if isinstance(longrepr, list | tuple):
        for part in longrepr:
            yield from file_locations(part)


def _inside(text: str) -> str:
    """As it stands in the middle of a JSON string."""
    return codec.dumps(text)[1:-1]


#: Compressed bytes that come to more than this are passed on as they are.
_LARGEST = 64 * 1024 * 1024
#: A mapping with this key stands for a value of a type that JSON does not have.
_TYPE = "\ue000type\ue000"


def packed(value: Any, other: Callable[[Any], Any] | None = None) -> Any:
    """A value that xdist would carry between processes, as one that JSON has: see `unpacked`.

    `other`: makes a plain value of what xdist would refuse; without it that raises TypeError. A
    value that contains itself raises RecursionError.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if abs(value) <= codec.MAX_INT else {_TYPE: "int", "value": str(value)}
    if kind is float:
        finite = value - value == 0
        return value if finite else {_TYPE: "float", "value": repr(value)}
    if kind is bytes:
        return {_TYPE: "bytes", "value": base64.b64encode(value).decode("ascii")}
    if kind is list:
        return [packed(one, other) for one in value]
    if kind in (tuple, set, frozenset):
        return {_TYPE: kind.__name__, "value": [packed(one, other) for one in value]}
    if kind is dict:
        if all(type(key) is str and key != _TYPE for key in value):
            return {key: packed(one, other) for key, one in value.items()}
        pairs = [[packed(key, other), packed(one, other)] for key, one in value.items()]
        return {_TYPE: "dict", "value": pairs}
    if other is None:
        raise TypeError(f"a value of type {kind.__name__} does not travel to other machines")
    return other(value)


def unpacked(value: Any) -> Any:
    """What `packed` was given. Raises Malformed."""
    try:
        return _unpacked(value)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Malformed(f"not a packed value: {error!r}"[:300]) from None


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(one) for one in value]
    if not isinstance(value, dict):
        return value
    if _TYPE not in value:
        return {key: _unpacked(one) for key, one in value.items()}
    return _MAKE[value[_TYPE]](value["value"])


_MAKE: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "tuple": lambda values: tuple(map(_unpacked, values)),
    "set": lambda values: set(map(_unpacked, values)),
    "frozenset": lambda values: frozenset(map(_unpacked, values)),
    "dict": lambda pairs: {_unpacked(key): _unpacked(one) for key, one in pairs},
}


def without_root_inside(value: Any, root: str) -> Any:
    """The value with `_TOP` for this path in its compressed texts, as syrupy sends them."""
    return _recompressed(value, lambda text: without_root(text, root))


def with_root_inside(value: Any, root: str) -> Any:
    return _recompressed(value, lambda text: with_root(text, root))


def _recompressed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _recompressed(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_recompressed(one, change) for one in value]
    if not isinstance(value, bytes):
        return value
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(value, _LARGEST).decode("utf-8")
    except (zlib.error, UnicodeDecodeError):
        return value
    whole = reader.eof and not reader.unused_data
    return zlib.compress(change(text).encode("utf-8")) if whole else value


def loads(text: str) -> Any:
    """Raises Malformed."""
    return codec.loads(text)


def dumps(value: Any) -> str:
    """JSON of any value whatever."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return _encode(plain(value))


def plain(value: Any, depth: int = 0) -> Any:
    """The same value of types that JSON knows; what it does not know becomes its `repr`."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int and abs(value) <= codec.MAX_INT:
        return value
    if kind is float and value - value == 0:  # neither infinite nor NaN
        return value
    if depth < _DEPTH:
        if isinstance(value, Mapping):
            return _each(lambda: {_key(k): plain(v, depth + 1) for k, v in value.items()}, value)
        if isinstance(value, (list, tuple, set, frozenset)):
            return _each(lambda: [plain(one, depth + 1) for one in value], value)
        if hasattr(kind, "__fspath__"):
            return _each(lambda: str(value), value)
    return _shown(value)


def _each(make: Callable[[], Any], value: Any) -> Any:
    try:
        return make()
    except Exception:
        return _shown(value)


def _key(key: Any) -> str:
    return key if type(key) is str else _shown(key)


def _shown(value: Any) -> str:
    try:
        return repr(value)[:_LONGEST]
    except Exception as error:
        return f"<{type(value).__name__}: its repr fails with {type(error).__name__}>"


#: Bound now, because tests patch `json.dumps`.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def joined(texts: Iterable[str]) -> str:
    """Captured texts, each ending in a line break."""
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in texts if text)
