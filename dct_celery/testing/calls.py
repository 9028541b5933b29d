"""What a test gives to the tools: values in their types, and functions, `async` or not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dct_celery.errors import UsageError
from dct_celery.testing.overrides import problem_of


def check_count(place: str, value: object, least: int) -> None:
    """Raises UsageError unless it is a whole number, at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{place}={value!r} is no whole number: give at least {least}")
    if value < least:
        raise UsageError(f"{place}={value} is too few: give at least {least}")


def check_seconds(place: str, value: object) -> None:
    """Raises UsageError unless it is a time above 0."""
    if problem := problem_of("slow_request_seconds", value):
        raise UsageError(f"{place}={value!r}: {problem}")


def check_seed(place: str, value: object) -> None:
    """Raises UsageError unless it makes the same choices again."""
    if problem := problem_of("seed", value):
        raise UsageError(f"{place}={value!r}: {problem}")


def check_function(place: str, function: object, advice: str = "give one") -> None:
    """Raises UsageError for what cannot be called, or does nothing when it is called."""
    if not callable(function):
        raise UsageError(f"{place}: {function!r} is no function: {advice}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        name = getattr(function, "__name__", repr(function))
        raise UsageError(
            f"{place}: {name}() is a generator, of which a call runs nothing: "
            "give a function that goes through it"
        )


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
