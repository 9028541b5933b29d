"""simulate_concurrent_requests without a database; tests/concurrency_app has it with clients."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.test import Client

from dct_celery.errors import UsageError
from dct_celery.testing import simulate_concurrent_requests

NOTHING: dict[str, int] = {}


def answer() -> int:
    return 204


def test_calls_are_made_at_the_same_time() -> None:
    # Given
    together = threading.Barrier(5)
    # When
    answers = simulate_concurrent_requests(lambda: together.wait(10) >= 0, num_requests=5)
    # Then
    assert [one.request_id for one in answers] == [0, 1, 2, 3, 4]
    assert all(one["status"] == "success" and one["result"] for one in answers)


def test_a_status_code_may_be_returned_by_itself() -> None:
    assert simulate_concurrent_requests(answer, num_requests=2).statuses == [204, 204]


def test_what_is_raised_is_kept() -> None:
    # When
    answers = simulate_concurrent_requests(lambda: NOTHING["key"], num_requests=1)
    # Then
    assert answers[0]["status"] == "error"
    assert isinstance(answers.errors[0], KeyError)
    assert repr(answers).startswith("<1 requests: no answer, 1 errors, median 0.0")
    with pytest.raises(KeyError):
        answers[0]["statuss"]


@pytest.mark.parametrize("ending", [SystemExit(3), pytest.skip.Exception("not here")])
def test_what_ends_a_test_ends_it_from_a_thread_too(ending: BaseException) -> None:
    # Given
    def request() -> None:
        raise ending

    # When
    with pytest.raises(type(ending)) as caught:
        simulate_concurrent_requests(request, num_requests=2)
    # Then
    assert caught.value is ending


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_requests": 0}, "num_requests=0 is too few: give at least 1"),
        ({"num_requests": "x"}, "num_requests='x' is no whole number"),
        ({"timeout": float("nan")}, "timeout=nan: give seconds above 0"),
        ({"seed": {}}, "seed={}: give a whole number"),
        ({"request_func": None}, "None is no function: give one"),
        ({"request_func": lambda client: client, "client": 5}, "client=5 is no test client"),
        ({"request_func": lambda client: client, "client": Client}, "give one as Client()"),
        ({"delay_range": (2, 1)}, "delay_range=(2, 1): give (min, max) in seconds"),
        ({"delay_range": (-1, 1)}, "0 <= min <= max"),
        ({"client": object()}, "request_func takes no client: give it one parameter, or leave"),
    ],
)
def test_bad_arguments_are_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        simulate_concurrent_requests(**{"request_func": answer, **arguments})
    # Then
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
