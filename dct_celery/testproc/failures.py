"""Exceptions of the project as text: a `Failure` for the report.

It works whatever the exception does when its text is asked for.
"""

from __future__ import annotations

import traceback
from typing import Any

from dct_celery.core.model import Failure
from dct_celery.testproc.place import place

#: Longest traceback or message in characters; the middle is cut out.
MAX_TEXT = 256 * 1024
#: The same for a first line, a type or a subtest's description.
MAX_LINE = 1000
#: Bound at import, as tests patch it.
_format_exception = traceback.format_exception


def failure_of(error: BaseException, root: str, *, kind: str = "error") -> Failure:
    """An exception that no framework has formatted. `root`: see `describe`."""
    try:
        text = "".join(_format_exception(error))
    except BaseException as failure:  # of the exception itself, or of one behind it
        text = f"<the traceback cannot be shown: {type_name(type(failure))}>"
    return describe(type(error), error, text, root, kind=kind)


def describe(
    cls: Any, error: Any, text: str, root: str, *, kind: str = "error", subtest: str = ""
) -> Failure:
    """The exception `error` of class `cls` (None if there is none), with its formatted traceback.

    `root` ends in a separator; files below it are named relative to it, as that is the same on
    every machine.
    """
    file, line = place(error, text, root)
    return Failure(
        kind=kind,
        type=type_name(cls),
        message=first_line(error),
        text=cut(text.replace(root, "")),
        subtest=subtest,
        file=file,
        line=line,
    )


def type_name(cls: Any) -> str:
    """The dotted name, without the module for builtins."""
    if cls is None:
        return "Error"
    try:
        module, name = str(cls.__module__), str(cls.__qualname__)
    except BaseException:  # of a metaclass, say
        return "Error"
    return cut(name if module in ("builtins", "") else f"{module}.{name}", MAX_LINE)


def first_line(error: Any) -> str:
    """The first line of the exception's message; empty for None.

    A line that only announces something, as of a flush that failed, goes on with that of the
    exception behind it.
    """
    line = _first_line(error)
    if line.endswith(":") and isinstance(error, BaseException):
        return cut(f"{line} {_first_line(_cause(error))}".rstrip(), MAX_LINE)
    return line


def _cause(error: BaseException) -> BaseException | None:
    try:
        return error.__cause__
    except BaseException:  # of a class that answers every question itself
        return None


def _first_line(error: Any) -> str:
    if error is None:
        return ""
    try:
        lines = str(error).strip().splitlines()
    except BaseException as failure:
        return f"<str() of the exception failed: {type(failure).__name__}>"
    return cut(lines[0], MAX_LINE) if lines else ""


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """The text, without its middle where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - limit} characters cut …]\n{text[-half:]}"
