"""Points in the project's code at which another thread may go on: each line, and within it before
each call and each store into something that may be shared.
"""

from __future__ import annotations

import dis
import functools
import linecache
import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, TracebackType
from typing import Any, Protocol, Self

from dct_celery.testing.project import is_project_file

#: A thread's number, and what it is about to do.
AtPoint = Callable[[int, Callable[[], str]], None]
#: A function of the project is about to run.
Started = Callable[[FrameType], None]

_KINDS = {
    **dict.fromkeys(("STORE_GLOBAL", "STORE_NAME", "STORE_DEREF", "STORE_ATTR"), "store"),
    **dict.fromkeys(("STORE_SUBSCR", "STORE_SLICE"), "store"),
    **dict.fromkeys(("DELETE_GLOBAL", "DELETE_DEREF", "DELETE_ATTR", "DELETE_SUBSCR"), "delete"),
    **dict.fromkeys(("CALL", "CALL_KW", "CALL_FUNCTION_EX"), "call"),
    **dict.fromkeys(("BEFORE_WITH", "BEFORE_ASYNC_WITH"), "enter"),
}


class Points(Protocol):
    """In those threads that have begun, until the block ends."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def begin(self, number: int) -> None:
        """From now on in this thread, which has this number."""

    def end(self) -> None:
        """No more in this thread."""


def points(at: AtPoint | None, started: Started | None) -> Points:
    """`at` is called at each point, `started` at the start of each function; None: not at all."""
    # sys.settrace misses instructions in Python 3.12.1 and 3.13.0, and has crashed there.
    # sys.monitoring leaves the measurement of coverage alone, too.
    return _Traced(at, started) if sys.version_info < (3, 12) else _Monitored(at, started)


class _Traced:
    """By the trace function and the profile function of each thread."""

    def __init__(self, at: AtPoint | None, started: Started | None) -> None:
        self._at = at
        self._started = started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, number: int) -> None:
        if self._started is not None:
            sys.setprofile(functools.partial(self._profile, self._started))
        if self._at is not None:
            sys.settrace(functools.partial(self._trace, self._at, number))

    def end(self) -> None:
        if self._started is not None:
            sys.setprofile(None)
        if self._at is not None:
            sys.settrace(None)

    def _profile(self, started: Started, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and is_project_file(frame.f_code.co_filename):
            started(frame)

    def _trace(self, at: AtPoint, number: int, frame: FrameType, event: str, _: object) -> Any:
        if event != "call" or not is_project_file(frame.f_code.co_filename):
            return None
        places = _places(frame.f_code)

        def local(frame: FrameType, event: str, _: object) -> Any:
            code = frame.f_code
            if event == "line":
                at(number, functools.partial(_text, code, frame.f_lineno))
            elif event == "opcode" and frame.f_lasti in places:
                at(number, functools.partial(_text, code, *places[frame.f_lasti]))
            return local

        frame.f_trace_opcodes = bool(places)
        return local


class _Monitored:
    """By sys.monitoring, which is one for all threads."""

    def __init__(self, at: AtPoint | None, started: Started | None) -> None:
        self._at = at
        self._started = started
        self._numbers: dict[int, int] = {}
        self._codes: set[CodeType] = set()
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        self._tool = next(n for n in (3, 4, 2, 5) if self._monitoring.get_tool(n) is None)

    def __enter__(self) -> Self:
        events = self._monitoring.events
        self._monitoring.use_tool_id(self._tool, "dct_celery.testing")
        for event, function in (
            (events.PY_START, self._start),
            (events.LINE, self._line),
            (events.INSTRUCTION, self._instruction),
        ):
            self._monitoring.register_callback(self._tool, event, function)
        self._monitoring.set_events(self._tool, events.PY_START)
        return self

    def __exit__(self, *_: object) -> None:
        self._monitoring.set_events(self._tool, 0)
        for code in self._codes:
            self._monitoring.set_local_events(self._tool, code, 0)
        events = self._monitoring.events
        for event in (events.PY_START, events.LINE, events.INSTRUCTION):
            self._monitoring.register_callback(self._tool, event, None)
        self._monitoring.free_tool_id(self._tool)

    def begin(self, number: int) -> None:
        self._numbers[threading.get_ident()] = number

    def end(self) -> None:
        self._numbers.pop(threading.get_ident(), None)

    def _start(self, code: CodeType, _: int) -> None:
        if threading.get_ident() not in self._numbers or not is_project_file(code.co_filename):
            return
        if self._started is not None:
            self._started(sys._getframe(1))
        if self._at is not None and code not in self._codes:
            self._codes.add(code)
            events = self._monitoring.events
            self._monitoring.set_local_events(self._tool, code, events.LINE | events.INSTRUCTION)

    def _line(self, code: CodeType, line: int) -> None:
        number = self._numbers.get(threading.get_ident())
        if number is not None and self._at is not None:
            self._at(number, functools.partial(_text, code, line))

    def _instruction(self, code: CodeType, offset: int) -> None:
        place = _places(code).get(offset)
        if place is None:
            return
        number = self._numbers.get(threading.get_ident())
        if number is not None and self._at is not None:
            self._at(number, functools.partial(_text, code, *place))


@functools.cache
def _places(code: CodeType) -> Mapping[int, tuple[int, str]]:
    """Offset -> (line, kind), of instructions that are points."""
    found = {}
    line = code.co_firstlineno
    for one in dis.get_instructions(code):
        line = (one.positions.lineno if one.positions else None) or line
        if one.opname in _KINDS:
            found[one.offset] = (line, _KINDS[one.opname])
    return found


def _text(code: CodeType, line: int, kind: str = "") -> str:
    source = linecache.getline(code.co_filename, line).strip()
    return f"{os.path.relpath(code.co_filename)}:{line}: {source}" + f"  [{kind}]" * bool(kind)
