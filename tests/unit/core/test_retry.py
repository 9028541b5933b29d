"""Claims about `core.retry`: how often a step is tried, and what it waits for in between."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core import retry
from dct_celery.core.retry import Retry, doubling
from tests.support.fake_clock import FakeClock


class Step:
    """Fails with each of the errors, then answers "done"; every try takes so many seconds."""

    def __init__(self, clock: FakeClock, *errors: Exception, seconds: float = 0.0) -> None:
        self._clock, self._errors, self._seconds = clock, list(errors), seconds
        self.tries = 0

    def __call__(self) -> str:
        self.tries += 1
        self._clock.now += self._seconds
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def call(clock: FakeClock, step: Step, rule: Callable[[OSError], Retry | None]) -> str:
    return retry.call(step, OSError, rule, monotonic=clock.monotonic, sleep=clock.sleep)


def test_a_step_that_succeeds_is_called_once_and_waits_for_nothing() -> None:
    # Given
    clock = FakeClock()
    step = Step(clock)
    # When / Then
    assert call(clock, step, lambda error: Retry(float)) == "done"
    assert (step.tries, clock.waits) == (1, [])


def test_each_failure_is_followed_by_the_pause_of_its_number() -> None:
    # Given
    clock = FakeClock()
    # When
    call(
        clock, Step(clock, OSError(), OSError(), OSError()), lambda error: Retry(lambda n: n * 1.5)
    )
    # Then
    assert clock.waits == [1.5, 3.0, 4.5]


@given(st.integers(1, 6), st.integers(0, 8))
def test_no_more_tries_than_attempts_and_the_last_error_is_raised(
    attempts: int, failing: int
) -> None:
    # Given
    clock = FakeClock()
    errors = [OSError(number) for number in range(failing)]
    step = Step(clock, *errors)
    # When / Then
    if failing < attempts:
        assert call(clock, step, lambda error: Retry(float, attempts)) == "done"
        assert step.tries == failing + 1
    else:
        with pytest.raises(OSError) as raised:  # noqa: PT011 -- it is compared below
            call(clock, step, lambda error: Retry(float, attempts))
        assert raised.value is errors[attempts - 1]
        assert step.tries == attempts


@pytest.mark.parametrize(("seconds", "tries"), [(0.9, 1), (1.0, 2), (4.9, 3), (math.inf, 6)])
def test_a_failure_after_the_deadline_is_the_last_one(seconds: float, tries: int) -> None:
    # Given tries of a second with pauses of a second
    clock = FakeClock()
    step = Step(clock, *[OSError()] * 5, seconds=1.0)
    # When
    with contextlib.suppress(OSError):
        call(clock, step, lambda error: Retry(lambda n: 1.0, seconds=seconds))
    # Then
    assert step.tries == tries


def test_the_rule_is_chosen_for_each_error_and_none_ends_the_tries() -> None:
    # Given
    clock = FakeClock()
    rules = {1: Retry(lambda n: 0.5), 2: Retry(lambda n: 7.0), 3: None}
    step = Step(clock, OSError(1), OSError(2), OSError(3))
    # When
    with pytest.raises(OSError, match="3"):
        call(clock, step, lambda error: rules[error.args[0]])
    # Then
    assert clock.waits == [0.5, 7.0]


def test_another_error_comes_through_at_once() -> None:
    # Given
    clock = FakeClock()
    step = Step(clock, ValueError("no retry for this"))
    # When / Then
    with pytest.raises(ValueError, match="no retry"):
        call(clock, step, lambda error: Retry(float))
    assert step.tries == 1


def test_what_is_not_ready_in_what_is_left_of_the_time_is_not_tried_again() -> None:
    # Given
    clock = FakeClock()
    left: list[float] = []
    step = Step(clock, OSError("first"), OSError("second"), OSError("third"), seconds=2.0)

    def ready(seconds: float) -> bool:
        left.append(seconds)
        return len(left) < 2

    # When
    with pytest.raises(OSError, match="second"):
        call(clock, step, lambda error: Retry(lambda n: 1.0, seconds=10.0, ready=ready))
    # Then: counted from the failure
    assert left == [8.0, 5.0]
    assert clock.waits == [1.0, 1.0]


def test_who_stops_while_it_sleeps_stops_the_tries() -> None:
    # Given
    clock = FakeClock()
    step = Step(clock, OSError("away"))

    def over(seconds: float) -> None:
        raise KeyError("over")

    # When / Then
    with pytest.raises(KeyError) as raised:
        retry.call(step, OSError, lambda error: Retry(float), monotonic=clock.monotonic, sleep=over)
    # And: the end is no consequence of the error
    assert raised.value.__context__ is None


@given(st.floats(0.1, 10.0), st.floats(10.0, 100.0), st.integers(1, 2000))
def test_pauses_double_up_to_the_longest(first: float, longest: float, failures: int) -> None:
    pause = doubling(first, longest)
    assert pause(1) == first
    assert pause(failures + 1) == pytest.approx(min(2 * pause(failures), longest))
