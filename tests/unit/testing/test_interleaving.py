"""One thread goes on at a time, and which, a choice says."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from dct_celery.testing.interleaving import AtRandom, Choice, InOrder, Interleaving, Lockstep, Once


def steps(choice: Choice, *counts: int, seed: int = 0) -> list[int]:
    """The threads in the order of their points, each with so many. None of them ever waits, so
    that none is overtaken, however long a busy machine lets it stand.
    """
    interleaving = Interleaving(len(counts), choice, timeout=10, overtake=False, code_points=False)

    def body(lane: int) -> Callable[[Callable[[], None]], None]:
        def run(ready: Callable[[], None]) -> None:
            ready()
            for _ in range(counts[lane]):
                interleaving.point(lane, lambda: "", query=True)

        return run

    assert interleaving.run([body(lane) for lane in range(len(counts))]) == []
    return [step.lane for step in interleaving.steps]


def test_in_order_each_runs_to_its_end() -> None:
    assert steps(InOrder([2, 0, 1]), 2, 2, 2) == [2, 2, 0, 0, 1, 1]


def test_in_lockstep_they_take_turns() -> None:
    # When each comes to its first point, the next one has its turn
    order = steps(Lockstep(0, queries_only=True), 3, 3, 3)
    # Then
    assert order == [0, 1, 2] * 3


def test_a_seed_says_who_goes_on() -> None:
    # Given
    orders = [tuple(steps(AtRandom(random.Random(seed), 0.5), 5, 5, 5)) for seed in (1, 1, 2, 3)]
    # Then
    assert orders[0] == orders[1]
    assert len(set(orders)) == 3


def test_one_thread_is_stopped_once_until_the_others_have_ended() -> None:
    assert steps(Once([1, 0, 2], 2, queries_only=True), 2, 3, 1) == [1, 0, 0, 2, 1, 1]


def test_lockstep_at_queries_ignores_lines() -> None:
    # Given
    choice = Lockstep(0, queries_only=True)
    # Then
    assert choice.at(0, [1, 2], query=False) == 0
    assert choice.at(0, [1, 2], query=True) == 1


def test_a_thread_that_waits_is_overtaken_and_comes_back() -> None:
    # Given
    lock = threading.Lock()
    done: list[int] = []

    def body(lane: int) -> Callable[[Callable[[], None]], None]:
        def run(ready: Callable[[], None]) -> None:
            ready()
            with lock:
                interleaving.point(lane, lambda: "", query=True)
                done.append(lane)

        return run

    interleaving = Interleaving(3, Lockstep(0, queries_only=True), timeout=10, code_points=False)
    # When
    stuck = interleaving.run([body(lane) for lane in range(3)])
    # Then
    assert stuck == []
    assert sorted(done) == [0, 1, 2]


def test_threads_that_wait_for_each_other_are_given_up_with_their_places() -> None:
    # Given
    left, right = threading.Lock(), threading.Lock()

    def body(lane: int, one: threading.Lock, other: threading.Lock) -> Callable[..., None]:
        def run(ready: Callable[[], None]) -> None:
            ready()
            with one:
                interleaving.point(lane, lambda: "", query=True)
                with other:
                    pass

        return run

    interleaving = Interleaving(2, Lockstep(0, queries_only=True), timeout=0.5, code_points=False)
    # When
    stuck = interleaving.run([body(0, left, right), body(1, right, left)])
    # Then
    assert len(stuck) == 2
    assert "test_interleaving.py" in stuck[0]
    assert "with other:" in stuck[1]


def test_a_thread_that_fails_before_it_is_ready_holds_nobody_up() -> None:
    # Given
    done: list[int] = []

    def fails(ready: Callable[[], None]) -> None:
        return

    def body(ready: Callable[[], None]) -> None:
        ready()
        done.append(1)

    # When
    stuck = Interleaving(2, InOrder([0, 1]), timeout=10, code_points=False).run([fails, body])
    # Then
    assert stuck == []
    assert done == [1]
