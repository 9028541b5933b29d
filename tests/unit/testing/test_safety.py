"""assert_concurrent_safety without a database; tests/concurrency_app has it with databases."""

from __future__ import annotations

import collections
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from dct_celery.errors import UsageError
from dct_celery.testing import assert_concurrent_safety

cache: dict[str, Any] = {}
numbers: list[int] = []
lock = threading.Lock()


class Counter:
    total = 0

    def __init__(self) -> None:
        self.n = 0
        self.by: collections.Counter[str] = collections.Counter()

    def count(self) -> None:
        self.n += 1

    def count_by(self) -> None:
        self.by["a"] += 1

    def count_locked(self) -> None:
        with lock:
            self.n += 1

    @classmethod
    def count_in_class(cls) -> None:
        cls.total += 1


def make_list() -> None:
    if "list" not in cache:
        cache["list"] = []
    cache["list"].append(1)


def set_default() -> None:
    cache.setdefault("list", []).append(1)


def remember() -> int:
    if "answer" not in cache:
        cache["answer"] = 42
    return int(cache["answer"])


def count_in_one_line() -> None:
    cache["n"] = cache.get("n", 0) + 1


def append_length() -> None:
    numbers.append(len(numbers))


def closing_over() -> Callable[[], None]:
    n = 0

    def count() -> None:
        nonlocal n
        n += 1

    return count


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (Counter().count, "Counter.n is"),
        (Counter().count_by, "Counter.by['a'] is"),
        (Counter.count_in_class, "Counter.total is"),
        (make_list, "cache['list'] is list of"),
        (count_in_one_line, "cache['n'] is"),
        (append_length, "numbers["),
        (closing_over(), "n is"),
    ],
)
def test_a_race_on_shared_state_is_named(function: Callable[[], None], named: str) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_concurrent_safety(function)
    # Then
    message = str(caught.value)
    assert named in message.splitlines()[0] + message.splitlines()[1]
    assert "Again: assert_concurrent_safety(…, seed=" in message


@pytest.mark.parametrize(
    "function",
    [
        Counter().count_locked,
        set_default,
        remember,
        random.random,
        lambda: [2 * number for number in range(3)],
    ],
)
def test_a_sound_function_passes(function: Callable[[], object]) -> None:
    assert_concurrent_safety(function)


def test_state_is_as_before_afterwards() -> None:
    # Given
    cache["kept"], numbers[:] = {"inner": [1]}, [5]

    def change() -> None:
        with lock:
            cache["kept"]["inner"].append(2)
            cache["new"] = 1
            numbers.clear()
            Counter.total = 9

    inner = cache["kept"]["inner"]
    # When
    assert_concurrent_safety(change, iterations=2)
    # Then
    assert cache.pop("kept") == {"inner": [1]}
    assert inner == [1]
    assert (cache, numbers, Counter.total) == ({}, [5], 0)
    numbers.clear()


def test_a_function_that_fails_alone_is_no_race() -> None:
    def fail() -> None:
        raise ValueError("always")

    # Then
    with pytest.raises(AssertionError, match=r"^fail\(\) fails without concurrency: ValueError"):
        assert_concurrent_safety(fail)


def test_an_assertion_within_the_function_may_not_fail_one_after_the_other() -> None:
    def only_once() -> None:
        with lock:
            numbers.append(1)
        assert len(numbers) == 1

    # Then
    with pytest.raises(AssertionError, match="fails without concurrency"):
        assert_concurrent_safety(only_once)


def test_an_invariant_that_never_holds_is_no_race() -> None:
    with pytest.raises(AssertionError, match="the invariant is broken without concurrency"):
        assert_concurrent_safety(remember, invariant=lambda: not cache)


def test_one_seed_says_the_same_and_others_do_not() -> None:
    # Given
    def said(seed: int) -> str:
        with pytest.raises(AssertionError) as caught:
            assert_concurrent_safety(make_list, seed=seed)
        return str(caught.value)

    # Then
    assert said(1) == said(1)
    assert len({said(seed) for seed in range(4)}) > 2


def nothing() -> None:
    pass


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"test_func": 3}, "3 is no function: give one, or a list"),
        ({"test_func": []}, "[] is no function"),
        ({"test_func": nothing, "max_workers": 1}, "max_workers=1 is too few: give at least 2"),
        ({"test_func": [nothing] * 3, "max_workers": 2}, "give at least 3"),
        ({"test_func": nothing, "iterations": 0}, "iterations=0 is too few: give at least 1"),
        ({"test_func": nothing, "iterations": "x"}, "iterations='x' is no whole number"),
        ({"test_func": nothing, "max_workers": 2.5}, "max_workers=2.5 is no whole number"),
        ({"test_func": nothing, "max_workers": True}, "max_workers=True is no whole number"),
        ({"test_func": nothing, "timeout": 0}, "timeout=0: give seconds above 0"),
        ({"test_func": nothing, "timeout": float("nan")}, "timeout=nan: give seconds above 0"),
        ({"test_func": nothing, "timeout": "x"}, "timeout='x': give seconds above 0"),
        ({"test_func": nothing, "seed": []}, "seed=[]: give a whole number"),
        ({"test_func": nothing, "setup": 5}, "setup: 5 is no function: give one"),
        ({"test_func": nothing, "invariant": "x"}, "invariant: 'x' is no function: give one"),
        ({"test_func": nothing, "refused": "x"}, "refused='x': give an exception class"),
        ({"test_func": nothing, "refused": (ValueError, 5)}, "give an exception class"),
        ({"test_func": nothing, "ignore": [5]}, "ignore=[5]: give a list of names"),
        ({"test_func": nothing, "ignore": None}, "ignore=None: give a list of names"),
        ({"test_func": generator}, "generator() is a generator, of which a call runs nothing"),
        ({"test_func": [nothing, async_generator]}, "async_generator() is a generator"),
        ({"test_func": [lambda: 1 for _ in range(7)]}, "5040 orders, of which at most 720"),
    ],
)
def test_bad_arguments_are_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        assert_concurrent_safety(**arguments)
    # Then
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
