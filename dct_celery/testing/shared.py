"""Shared state of this process: what the project's code changes without an argument or a database.

That is plain data (values.py) in globals of the project's modules, in attributes of their classes
and in what a function closes over; besides it the mails in `django.core.mail.outbox` and what is in
local-memory caches.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator
from types import CellType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from dct_celery.testing.project import is_being_imported, is_project_class, is_project_file
from dct_celery.testing.values import MAPPINGS, SEQUENCES, Flat, Flattener, Path, TooLarge, leaf

#: What modules and classes hold that is not data.
_CODE = (ModuleType, FunctionType, MethodType, type, staticmethod, classmethod, property)

#: Puts one thing back.
_Undo = Callable[[], None]


class SharedState:
    """Remembers each piece of shared state when it first hears of it, and can put it back.

    What is heard of: what `functions` close over, and the modules of functions that are `started`.
    """

    def __init__(self, functions: Iterator[Callable[..., object]]) -> None:
        self._namespaces: dict[int, dict[str, Any]] = {}
        self._cells: dict[str, CellType] = {}
        self._owners: dict[str, Any] = {}
        self._undo: list[_Undo] = []
        for function in functions:
            self._add_function(function)
        self._django = {name: contents.copy() for name, contents in _of_django().items()}
        #: As it was at first.
        self.first: Flat = self.flat()

    def started(self, frame: FrameType) -> None:
        """A function of the project is about to run: its module is remembered before."""
        if frame.f_code.co_name != "<module>":
            self._add_namespace(frame.f_globals)

    def put_back(self) -> None:
        """As it was when it was first heard of, in the same objects."""
        for undo in self._undo:
            undo()
        for name, contents in _of_django().items():
            _put_back_contents(contents, self._django.get(name, type(contents)()))

    def flat(self) -> Flat:
        """As it is now."""
        found: Flat = {}
        for namespace in self._namespaces.values():
            found |= flat_namespace(namespace)
        for name, cell in self._cells.items():
            found |= flat_value((name,), _contents(cell))
        for name, owner in self._owners.items():
            found |= flat_value((name,), owner)
        return found | _flat_django()

    def _add_function(self, function: Any) -> None:
        while isinstance(function, functools.partial):
            function = function.func
        if isinstance(function, MethodType):
            owner = function.__self__
            self._remember(owner)
            self._owners[type(owner).__name__] = owner
            function = function.__func__
        function = inspect.unwrap(function)
        if not isinstance(function, FunctionType):
            if is_project_class(type(function)):
                self._remember(function)
                self._owners[type(function).__name__] = function
            return
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            if any(known is cell for known in self._cells.values()):
                continue
            value = _contents(cell)
            self._cells[name if name not in self._cells else f"{name}'"] = cell
            if isinstance(value, FunctionType):
                self._add_function(value)
            elif value is not _EMPTY:
                self._undo.append(functools.partial(setattr, cell, "cell_contents", value))
                self._remember(value)

    def _add_namespace(self, namespace: dict[str, Any]) -> None:
        if id(namespace) in self._namespaces or is_being_imported(namespace):
            return
        self._namespaces[id(namespace)] = namespace
        first = dict(namespace)
        self._undo.append(lambda: _put_back_names(namespace, first))
        for other in _named_modules(namespace):
            self._add_namespace(other)
        for kind in _classes(namespace):
            own = dict(vars(kind))
            self._undo.append(functools.partial(_put_back_attributes, kind, own))
        for path, value in _data(namespace):
            self._remember(value)
            self.first |= flat_value(path, value)

    def _remember(self, value: Any) -> None:
        """What `value` holds, and what that holds."""
        flattener = Flattener(self._remember_container)
        try:
            flattener.add((), value)
        except TooLarge:
            return

    def _remember_container(self, value: Any) -> None:
        if type(value) in MAPPINGS or type(value) in SEQUENCES or isinstance(value, set):
            self._undo.append(functools.partial(_put_back_contents, value, value.copy()))
        elif not isinstance(value, (tuple, frozenset)):
            parts = value.__dict__
            self._undo.append(functools.partial(_put_back_contents, parts, parts.copy()))


_EMPTY = object()


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _classes(namespace: dict[str, Any]) -> Iterator[type]:
    own = namespace.get("__name__")
    for value in list(namespace.values()):
        if isinstance(value, type) and value.__module__ == own:
            yield value


def _named_modules(namespace: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of the project that it imports, or classes of: it may change their state."""
    for value in list(namespace.values()):
        module = sys.modules.get(value.__module__) if isinstance(value, type) else value
        if isinstance(module, ModuleType) and is_project_file(
            getattr(module, "__file__", "") or "<"
        ):
            yield vars(module)


def _data(namespace: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Each global that holds data, and each such attribute of the module's classes."""
    own = str(namespace.get("__name__"))
    for name, value in list(namespace.items()):
        if _is_data(name, value):
            yield (own, f".{name}"), value
    for kind in _classes(namespace):
        for name, value in list(vars(kind).items()):
            if _is_data(name, value) and not hasattr(value, "__get__"):
                yield (own, f".{kind.__qualname__}", f".{name}"), value


def _is_data(name: str, value: object) -> bool:
    return not name.startswith("__") and not isinstance(value, _CODE)


def flat_namespace(namespace: dict[str, Any]) -> Flat:
    """The data of a module."""
    found: Flat = {}
    for path, value in _data(namespace):
        found |= flat_value(path, value)
    return found


def flat_value(path: Path, value: Any) -> Flat:
    """The value and its parts below `path`; too large ones count by their type."""
    flattener = Flattener()
    try:
        flattener.add(path, value)
    except TooLarge:
        return {path: leaf(value)}
    return flattener.flat


def _put_back_contents(container: Any, first: Any) -> None:
    """Only if it has other contents now: nobody may see it empty in between without need."""
    if _same(container, first):
        return
    container.clear()
    if isinstance(container, SEQUENCES):
        container.extend(first)
    else:
        container.update(first)


def _same(container: Any, first: Any) -> bool:
    """Whether both have the same objects in the same order."""
    if len(container) != len(first):
        return False
    pairs = list(zip(list(container), list(first), strict=True))
    if isinstance(container, MAPPINGS):
        pairs += zip(list(container.values()), list(first.values()), strict=True)
    return all(one is other for one, other in pairs)


def _put_back_names(namespace: dict[str, Any], first: dict[str, Any]) -> None:
    for name, value in list(namespace.items()):
        if name not in first and _is_data(name, value):
            del namespace[name]
    for name, value in first.items():
        if _is_data(name, value) and namespace.get(name, _EMPTY) is not value:
            namespace[name] = value


def _put_back_attributes(kind: type, first: dict[str, Any]) -> None:
    for name, value in list(vars(kind).items()):
        if name not in first and _is_data(name, value):
            delattr(kind, name)
    for name, value in first.items():
        if _is_data(name, value) and vars(kind).get(name, _EMPTY) is not value:
            setattr(kind, name, value)


def _of_django() -> dict[tuple[str, str], Any]:
    """The list of mails, and the dictionaries of local-memory caches: values, and when they end."""
    from django.core import mail

    found: dict[tuple[str, str], Any] = {("outbox", ""): getattr(mail, "outbox", [])}
    locmem = sys.modules.get("django.core.cache.backends.locmem")
    for kind in ("_caches", "_expire_info"):
        for cache, contents in list(getattr(locmem, kind, {}).items()):
            found[kind, cache] = contents
    return found


def _flat_django() -> Flat:
    found: Flat = {}
    for (kind, cache), contents in _of_django().items():
        if kind == "outbox":
            found["mail.outbox", "<length>"] = f"{len(contents)} mails"
        elif kind == "_caches":
            place = ("cache", f"[{cache!r}]") if cache else ("cache",)
            for key, pickled in list(contents.items()):
                found |= flat_value((*place, f"[{key!r}]"), _value(pickled))
    return found


def _value(pickled: bytes) -> Any:
    try:
        return pickle.loads(pickled)
    except Exception:
        return pickled
