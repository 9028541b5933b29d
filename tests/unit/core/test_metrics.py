"""What tests use, as it travels: short text that says the same as the numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core import codec
from dct_celery.core.metrics import MEASURED, FixtureUse, TestMetrics, named, packed, total
from dct_celery.core.run.records import TestRecord

NUMBERS = st.lists(st.integers(0, 10**15 - 1), min_size=11, max_size=11)
TEXTS = st.from_regex(MEASURED, fullmatch=True)


def test_what_is_zero_takes_no_room() -> None:
    assert packed([3, 0, 0, 412, 0, 0, 0, 0, 0, 0, 0]) == "3,,,412"
    assert packed([0] * 11) == ""


@given(NUMBERS)
def test_metrics_are_read_as_they_were_packed(numbers: list[int]) -> None:
    # When
    metrics = TestMetrics.of(packed(numbers))
    # Then
    assert (metrics.queries, metrics.reads, metrics.writes) == tuple(numbers[:3])
    assert metrics.db_seconds == pytest.approx(numbers[3] / 1e6)
    assert metrics.rss_growth == numbers[5] * 1024
    assert metrics.connections == numbers[10]


@given(TEXTS)
def test_any_text_that_passes_the_door_can_be_read(text: str) -> None:
    # Given
    sent = ["setUpClass (app.T)", 1.0, text]
    assert codec.decoder(FixtureUse)(sent) == tuple(sent)
    # When
    metrics, words = TestMetrics.of(text), named(text)
    # Then
    assert {name: json.loads(value) for name, value in words} == metrics.used()
    assert TestMetrics.of(metrics.packed()) == metrics


@pytest.mark.parametrize(
    "text", ["-", "0", "1,-0", "007", "1;2", "1,--2", ",".join("1" * 12), "1" * 16, "1.5", "x"]
)
def test_other_text_does_not_pass(text: str) -> None:
    with pytest.raises(codec.Malformed, match="measured"):
        codec.decode(
            TestRecord, {"index": 0, "outcome": "passed", "seconds": 0.0, "measured": text}
        )


def test_together_everything_is_added_but_the_peak_which_is_the_highest() -> None:
    # When
    both = total(["3,1,,500,2,-4,90", "", "2,,1,250,,8,70"])
    # Then
    assert both == TestMetrics(5, 1, 1, 0.00075, rows=2, rss_growth=4 * 1024, rss_peak=90 * 1024)
