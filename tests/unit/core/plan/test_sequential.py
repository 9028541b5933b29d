"""Claims about `core.plan.sequential`: what a trial measured stands for the very same tests."""

from __future__ import annotations

import pytest

from dct_celery.core.model import SequentialTime
from dct_celery.core.plan import timings
from dct_celery.core.plan.sequential import encoded, remembered

TIME = SequentialTime(17.5, "d" * 64, 1_790_000_000.0)


def test_it_is_remembered_for_the_tests_that_were_measured_and_no_others() -> None:
    # Given
    stored = {"t:app.T.test_a": "[0.5,3]", **encoded(TIME)}
    # Then
    assert remembered(stored, "d" * 64) == TIME
    assert remembered(stored, "e" * 64) is None
    assert remembered({}, "d" * 64) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"seconds":1}', '{"seconds":"1","digest":"d","at":0}']
)
def test_what_is_damaged_counts_as_not_known(text: str) -> None:
    assert remembered(dict.fromkeys(encoded(TIME), text), "d" * 64) is None


def test_it_is_no_sample_of_a_test() -> None:
    assert timings.decode_all(encoded(TIME)) == {}
