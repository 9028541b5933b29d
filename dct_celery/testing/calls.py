"""Calls of what a test gives: a function or an `async` one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def called(function: Callable[[], Any]) -> Any:
    """What it returns; what it awaits runs in this thread, with its connections."""
    from asgiref.sync import async_to_sync

    value = function()
    if inspect.iscoroutine(value):
        coroutine = value

        async def finish() -> object:
            return await coroutine

        return async_to_sync(finish)()
    return value
