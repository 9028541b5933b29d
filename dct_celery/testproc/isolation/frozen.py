"""Keeps what was loaded out of the garbage collector's way, until somebody asks the collector.

A collection writes into every object that it looks at, so one in each fork would copy all memory
that forks share with their loader. What is frozen is not looked at; but then `gc.get_objects()`
does not find it and `gc.collect()` does not free it, as both do in the sequential run. So the first
question thaws it, and pays for that with memory alone.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

#: Functions of the module gc whose answers depend on what is frozen.
_ASKED = (
    "collect", "freeze", "get_freeze_count", "get_objects", "get_referrers", "unfreeze",
)  # fmt: skip
_unfreeze = gc.unfreeze  # before `watch`


class FrozenHeap:
    """What a loader and its forks have frozen."""

    def __init__(self) -> None:
        self._frozen = False

    def watch(self) -> None:
        """Called before the project is imported, as its modules may bind these functions."""
        for name in _ASKED:
            setattr(gc, name, self._thawing(getattr(gc, name)))

    def freeze(self) -> None:
        """Collects garbage, and freezes all that is left."""
        gc.collect()
        gc.freeze()
        self._frozen = True

    def _thawing(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(own)
        def ask(*args: Any, **kwargs: Any) -> Any:
            if self._frozen:
                self._frozen = False
                _unfreeze()
            return own(*args, **kwargs)

        return ask


FROZEN_HEAP = FrozenHeap()
