"""Typed JSON: plain values in, frozen dataclasses out, and back.

The one parser of everything that another process has written. A field's type is its rule;
`Annotated` narrows it (`AtLeast`, `Matches`, `AtMost`). What does not fit raises `Malformed`, in
one line that names the field, and never another exception. Numbers are finite and exact in every
JSON reader; a bool is not a number. A class with `to_json` and `from_json` has a form of its own.
"""

from __future__ import annotations

import functools
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, TypeVar

T = TypeVar("T")
Decode = Callable[[Any], Any]

#: Largest whole number that every JSON reader keeps exactly.
MAX_INT = 2**53


class Malformed(ValueError):
    """A value that does not have the shape it must have."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The minimum of a number."""

    least: float


@dataclass(frozen=True, slots=True)
class AtMost:
    """The maximum length of a text or list."""

    length: int


@dataclass(frozen=True, slots=True)
class Matches:
    """A regular expression that a whole text must match."""

    pattern: str


Count = Annotated[int, AtLeast(0)]
Number = Annotated[int, AtLeast(1)]
Seconds = Annotated[float, AtLeast(0.0)]
#: A plain JSON value that is passed on unchanged.
Json = Any


def loads(text: str | bytes) -> Any:
    """The plain value. Raises Malformed, also for `NaN` and `Infinity`."""
    try:
        return _decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError, MemoryError) as error:
        raise Malformed(f"not JSON ({_short(error)})") from None


def dumps(value: Any) -> str:
    """`encode` as compact text, ASCII only, so that lone surrogates in a test's output survive."""
    return _encode(value)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _one_level(value: Any) -> Any:
    """Replaces a value that JSON does not know by one that it does.

    Values inside it are left alone: the encoder calls this again for each of them.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(kind := type(value)):
        return {
            name: one
            for name, default in _defaults(kind)
            if (one := getattr(value, name)) != default
        }
    raise TypeError(f"{type(value).__name__} has no JSON form")


#: Bound now, because tests patch `json.dumps` and `json.loads`.
_encode = json.JSONEncoder(separators=(",", ":"), default=_one_level).encode
_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def decode(cls: type[T], value: Any, *, lenient: bool = False) -> T:
    """An instance of the dataclass `cls`. Raises Malformed.

    `lenient` ignores fields that `cls` does not have.
    """
    found: T = decoder(cls, lenient)(value)  # type: ignore[arg-type]  # every type is hashable
    return found


@functools.cache
def decoder(cls: Any, lenient: bool = False) -> Decode:
    """A function that decodes plain values into `cls`.

    `cls` is a dataclass, or any type that a field may have.
    """
    if not is_dataclass(cls) or hasattr(cls, "from_json"):
        return _typed(cls)
    assert isinstance(cls, type)
    return _dataclass(cls, lenient)


def encode(value: Any) -> Any:
    """The plain value. Fields with their default value are left out; decoding restores them."""
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [encode(one) for one in value]
    # Most values here are dicts, and the abstract check in `_one_level` costs ten times as much.
    if kind is not dict:
        value = _one_level(value)
    return {name: encode(one) for name, one in value.items()} if isinstance(value, dict) else value


@functools.cache
def _defaults(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((each.name, _default(each)) for each in fields(cls))


def _default(each: Field[Any]) -> Any:
    """MISSING, which equals nothing, where the field has none."""
    return each.default if each.default_factory is MISSING else each.default_factory()


def _dataclass(cls: type[Any], lenient: bool) -> Decode:
    hints = typing.get_type_hints(cls, include_extras=True)
    each = {field.name: _typed(hints[field.name]) for field in fields(cls)}
    needed = frozenset(field.name for field in fields(cls) if _default(field) is MISSING)

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise Malformed(f"{cls.__name__} must be an object, not {_kind(value)}")
        given = {}
        name = ""
        try:
            for name, one in value.items():
                given[name] = each[name](one)
        except Malformed as error:
            raise Malformed(f"{name}: {error}") from None
        except KeyError:
            if not lenient:
                raise Malformed(f"{cls.__name__} has no field {name[:40]!a}") from None
            return read({name: one for name, one in value.items() if name in each})
        if not needed <= given.keys():
            raise Malformed(f"{cls.__name__} lacks {min(needed - given.keys())}")
        return cls(**given)

    return read


def _typed(hint: Any) -> Decode:
    if hint is Any or hint is object:
        return _as_it_is
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _narrowed(_typed(arguments[0]), arguments[1:])
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is typing.Literal:
        return _literal(arguments)
    if origin is tuple:
        return _sequence(arguments[0], tuple) if arguments[1:] == (...,) else _row(arguments)
    if origin is list:
        return _sequence(arguments[0], list)
    if origin in (dict, Mapping):
        return _mapping(arguments[1])
    if hint in _PLAIN:
        return _PLAIN[hint]
    if hasattr(hint, "from_json"):
        return _own(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    return decoder(hint)


def _as_it_is(value: Any) -> Any:
    return value


def _str(value: Any) -> str:
    if type(value) is not str:
        raise Malformed(f"must be text, not {_kind(value)}")
    return value


def _int(value: Any) -> int:
    if type(value) is not int or not -MAX_INT <= value <= MAX_INT:
        raise Malformed(f"must be a whole number, not {_kind(value)}")
    return value


def _float(value: Any) -> float:
    if type(value) not in (int, float) or not -MAX_INT <= value <= MAX_INT:
        raise Malformed(f"must be a number, not {_kind(value)}")
    return float(value)


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise Malformed(f"must be true or false, not {_kind(value)}")
    return value


def _none(value: Any) -> None:
    if value is not None:
        raise Malformed(f"must be null, not {_kind(value)}")


_PLAIN: dict[Any, Decode] = {str: _str, int: _int, float: _float, bool: _bool, type(None): _none}


def _narrowed(read: Decode, rules: tuple[Any, ...]) -> Decode:
    checks = [_check(rule) for rule in rules]

    def narrowed(value: Any) -> Any:
        found = read(value)
        for check in checks:
            check(found)
        return found

    (first, *others) = checks
    if others:
        return narrowed

    def narrowed_once(value: Any) -> Any:
        found = read(value)
        first(found)
        return found

    return narrowed_once


def _check(rule: AtLeast | AtMost | Matches) -> Callable[[Any], None]:
    match rule:
        case AtLeast(least):

            def check(value: Any) -> None:
                if value < least:
                    raise Malformed(f"must be at least {least:g}, not {value}")

        case AtMost(length):

            def check(value: Any) -> None:
                if len(value) > length:
                    raise Malformed(f"must not be longer than {length}, it has {len(value)}")

        case Matches(pattern):
            matcher = re.compile(pattern)

            def check(value: Any) -> None:
                if not matcher.fullmatch(value):
                    raise Malformed(f"must match {pattern}, not {_kind(value)}")

        case _:
            typing.assert_never(rule)
    return check


def _union(arguments: tuple[Any, ...]) -> Decode:
    if type(None) not in arguments or len(arguments) != 2:
        raise TypeError(f"of unions, only `X | None` has a JSON form: {arguments}")
    read = _typed(next(one for one in arguments if one is not type(None)))
    return lambda value: None if value is None else read(value)


def _literal(allowed: tuple[Any, ...]) -> Decode:
    def read(value: Any) -> Any:
        if type(value) is not str or value not in allowed:
            raise Malformed(f"must be one of {', '.join(map(str, allowed))}, not {_kind(value)}")
        return value

    return read


def _enum(cls: type[Enum]) -> Decode:
    members: dict[Any, Enum] = {member.value: member for member in cls}

    def read(value: Any) -> Enum:
        if type(value) is not str or value not in members:
            raise Malformed(f"must be one of {', '.join(map(str, members))}, not {_kind(value)}")
        return members[value]

    return read


def _sequence(hint: Any, make: Callable[[list[Any]], Any]) -> Decode:
    read = _typed(hint)

    def sequence(value: Any) -> Any:
        if not isinstance(value, list):
            raise Malformed(f"must be a list, not {_kind(value)}")
        return make([read(one) for one in value])

    return sequence


def _row(hints: tuple[Any, ...]) -> Decode:
    reads = [_typed(hint) for hint in hints]

    def row(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(reads):
            raise Malformed(f"must be a list of {len(reads)}, not {_kind(value)}")
        return tuple(read(one) for read, one in zip(reads, value, strict=True))

    return row


def _mapping(hint: Any) -> Decode:
    read = _typed(hint)

    def mapping(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Malformed(f"must be an object, not {_kind(value)}")
        return {name: read(one) for name, one in value.items()}

    return mapping


def _own(cls: Any) -> Decode:
    def read(value: Any) -> Any:
        try:
            return cls.from_json(value)
        except Malformed:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Malformed(f"is not a valid {cls.__name__} ({_short(error)})") from None

    return read


def _kind(value: Any) -> str:
    """The value, short and printable."""
    if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
        return "one beyond 2**53"  # some have more digits than Python prints
    if isinstance(value, (str, int, float, bool)) or value is None:
        return ascii(value)[:60]
    return "an object" if isinstance(value, dict) else "a list"


def _short(error: BaseException) -> str:
    return str(error)[:80].encode("ascii", "backslashreplace").decode() or type(error).__name__
