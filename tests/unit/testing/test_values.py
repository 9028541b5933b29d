"""Values as texts that can be compared."""

from __future__ import annotations

import datetime
import time
from decimal import Decimal
from typing import Any

import pytest
from django.http import HttpResponse, JsonResponse

from dct_celery.testing.values import columns, flat, leaf


class Mine:
    """A class of the project, as it is in no installed package."""

    def __init__(self, **parts: object) -> None:
        self.__dict__.update(parts)


def response(content: str, status: int = 200) -> HttpResponse:
    return HttpResponse(content, status=status, content_type="text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, "1"),
        (1, 1.0),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": None}),
        ({1, 2}, {1, 3}),
        (Decimal("1.0"), Decimal("1.00")),
        (Mine(n=1), Mine(n=2)),
        ({"a": []}, {"a": {}}),
        (response("a"), response("b")),
        (response("a"), response("a", status=201)),
        (None, False),
    ],
)
def test_different_values_have_different_texts(one: object, other: object) -> None:
    assert flat(one) != flat(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}),
        ({3, 1, 2}, {1, 2, 3}),
        (Mine(n=1), Mine(n=1)),
        (object(), object()),
        (float("nan"), float("nan")),
        (memoryview(b"x"), bytearray(b"x")),
    ],
)
def test_equal_values_have_equal_texts(one: object, other: object) -> None:
    assert flat(one) == flat(other)


def test_moments_of_this_check_are_all_the_same() -> None:
    # Given
    now = datetime.datetime.now(datetime.UTC)
    moments: list[Any] = [time.time(), int(time.time()), now, now.replace(tzinfo=None)]
    # Then
    assert {leaf(moment) for moment in moments} == {"<now>"}
    assert leaf(now - datetime.timedelta(days=1)) != "<now>"


def test_the_parts_of_a_json_response_have_names() -> None:
    # Given
    answer = JsonResponse(
        {"total": 3, "items": [{"id": 7}]}, content_type="application/json; charset=utf-8"
    )
    # When
    named = columns(flat(answer))
    # Then
    assert named == {"status_code": "200", "json.total": "3", "json.items[0].id": "7"}


def test_an_empty_part_of_a_result_has_a_name() -> None:
    assert columns(flat({"items": []})) == {"items": "list of 0"}
    assert columns(flat([])) == {"": "list of 0"}


def test_a_value_that_holds_itself_ends() -> None:
    # Given
    loop: list[object] = []
    loop.append(loop)
    # Then
    assert flat(loop) == flat(loop)


def test_what_is_too_large_counts_by_its_type() -> None:
    assert flat(list(range(20_000))) == flat(list(range(30_000)))
