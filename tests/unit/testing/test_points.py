"""Where another thread may go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FrameType

import pytest

from dct_celery.testing.points import points

box: dict[str, int] = {}
lock = threading.Lock()


def at_points(function: Callable[[], object]) -> list[str]:
    """What a thread was about to do, after the line's number."""
    seen: list[str] = []

    def run() -> None:
        in_code.begin(7)
        try:
            function()
        finally:
            in_code.end()

    def at(number: int, text: Callable[[], str]) -> None:
        assert number == 7
        seen.append(text().split(": ", 1)[1])

    with points(at, None) as in_code:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    return seen


def change() -> None:
    with lock:
        box["n"] = len("abc")
    del box["n"]


def test_lines_calls_stores_and_locks_are_points() -> None:
    # When
    seen = at_points(change)
    # Then
    assert seen[:5] == [
        "with lock:",
        "with lock:  [enter]",
        'box["n"] = len("abc")',
        'box["n"] = len("abc")  [call]',
        'box["n"] = len("abc")  [store]',
    ]
    assert 'del box["n"]  [delete]' in seen


def test_code_of_others_has_none() -> None:
    assert at_points(threading.Event().is_set) == []


@pytest.mark.parametrize("_", range(3))
def test_they_are_there_each_time(_: int) -> None:
    assert len(at_points(change)) >= 7


def test_functions_of_the_project_are_named_before_they_run() -> None:
    # Given
    names: list[str] = []

    def started(frame: FrameType) -> None:
        names.append(frame.f_code.co_name)

    def run() -> None:
        in_code.begin(0)
        change()
        in_code.end()

    # When
    with points(None, started) as in_code:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    # Then
    assert names == ["change"]
