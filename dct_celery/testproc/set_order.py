"""Sets that a module spells out have the same order in every process.

Python keeps such a set as a constant. One that was compiled just now may be iterated over in
another order than the same one read from a `.pyc` file, even of integers, and test names are made
in that order: with bytecode on one machine only, the suites would differ.
"""

from __future__ import annotations

import marshal
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any

#: Of the formats of marshal, the last that knows nothing of how often an object is referred to.
_FORMAT = 2
#: Kinds of constants that are a set or may have one inside.
_HOLDERS = frozenset({CodeType, tuple, frozenset})


class SetOrder:
    """From `start` to `stop`, modules are imported with their sets in a canonical order."""

    def __init__(self) -> None:
        self._own: Any = None

    def start(self) -> None:
        get_code = SourceFileLoader.get_code

        def get_ordered_code(loader: SourceFileLoader, name: str) -> CodeType | None:
            code = get_code(loader, name)
            return code and _ordered(code)

        self._own = get_ordered_code
        SourceFileLoader.get_code = self._own  # type: ignore[method-assign]

    def stop(self) -> None:
        """A patch that somebody has laid over it meanwhile stays."""
        if self._own is not None and vars(SourceFileLoader).get("get_code") is self._own:
            del SourceFileLoader.get_code  # it is inherited


def _ordered(constant: Any) -> Any:
    """The constant, or one that is equal and has its sets in order."""
    if isinstance(constant, frozenset):
        return frozenset(sorted(constant, key=lambda value: marshal.dumps(value, _FORMAT)))
    is_code = isinstance(constant, CodeType)
    parts = constant.co_consts if is_code else constant
    changed: list[Any] | None = None
    # Each process passes a hundred thousand constants, of which few are of these kinds.
    for index, part in enumerate(parts):
        if type(part) in _HOLDERS and (ordered := _ordered(part)) is not part:
            changed = changed or list(parts)
            changed[index] = ordered
    if changed is None:
        return constant
    return constant.replace(co_consts=tuple(changed)) if is_code else tuple(changed)


SET_ORDER = SetOrder()
