"""Values as plain data that is equal in two processes and on two hosts.

It contains no addresses, no folders of this host, and no translations.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import pathlib
import re
import types
import uuid
from collections.abc import Mapping
from typing import Any

from dct_celery.testproc.local_paths import LocalPaths

#: Types whose repr is complete and independent of the process.
_REPR = (
    int, float, complex, bytes, range, decimal.Decimal, uuid.UUID,
    datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo,
)  # fmt: skip
#: Deeper than any setting; also ends the walk through a value that contains itself.
_DEPTH = 20


class StableValues:
    """Converts values of one tree into plain data.

    Nothing lazy is evaluated: a text yields what it is translated from, as it does for migrate,
    which switches translation off, and a `reverse_lazy` does not import the URLs.
    """

    def __init__(self, root: str) -> None:
        self.text = LocalPaths(root).replaced

    def value(self, value: Any, depth: int = 0) -> Any:
        """JSON-ready data. What has no stable content is represented by the name of its type."""
        from django.utils.functional import LazyObject

        if value is None or value is True or value is False:
            return value
        if issubclass(type(value), LazyObject):  # isinstance would evaluate it
            return _name(type(value))
        if isinstance(value, str) and not isinstance(value, enum.Enum):
            return self.text(str(value))
        if depth > _DEPTH:
            return "..."
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple)):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, (set, frozenset)):
            return sorted((self.value(item, depth + 1) for item in value), key=repr)
        return self._object(value, depth)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        pairs = (
            [self.value(key, depth + 1), self.value(item, depth + 1)] for key, item in value.items()
        )
        return {"": sorted(pairs, key=repr)}

    def _object(self, value: Any, depth: int) -> Any:
        if isinstance(value, enum.Enum):
            return [_name(type(value)), value.name, self.value(value.value, depth + 1)]
        if isinstance(value, _REPR):
            return [type(value).__name__, self.text(repr(value))]
        if isinstance(value, pathlib.PurePath):
            return self.text(str(value))
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
            return _name(value)
        if isinstance(value, functools.partial):
            return ["partial", *self.value([value.func, value.args, value.keywords], depth + 1)]
        if isinstance(value, types.MethodType):
            return [self.value(value.__self__, depth + 1), value.__func__.__qualname__]
        if isinstance(value, re.Pattern):
            return ["pattern", self.value(value.pattern, depth + 1), value.flags]
        return self._deconstructed(value, depth)

    def _deconstructed(self, value: Any, depth: int) -> Any:
        """What fields, validators, indexes, expressions and lazy texts say they are made of."""
        from django.utils.functional import Promise

        try:
            if isinstance(value, Promise):
                return self.value(value.__reduce__()[1], depth + 1)
            if callable(getattr(value, "deconstruct", None)):
                return [_name(type(value)), self.value(value.deconstruct(), depth + 1)]
        except Exception as error:  # user code: whatever it raises, only its type can be used
            return [_name(type(value)), type(error).__name__]
        return _name(type(value))


def _name(thing: Any) -> str:
    return (
        f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"
    )
