"""Samples, their stored form, and the estimates made of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.model import Phase

# The module, not its names: pytest would take `test_key` for a test.
from dct_celery.core.plan import timings
from dct_celery.core.plan.timings import Estimates, Sample, decode, encode, fold, learn
from tests.support.factories import group, make_entry, make_manifest

DURATIONS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
NO_DURATIONS = [-1.0, math.nan, math.inf, -math.inf]
SAMPLES = st.builds(Sample, DURATIONS, st.integers(min_value=1, max_value=10**9))


@given(SAMPLES)
def test_a_stored_sample_comes_back_exactly(sample: Sample) -> None:
    # When
    stored = encode(sample)
    # Then
    assert decode(stored) == sample


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1.5",
        "null",
        "{}",
        '"12"',
        "[]",
        "[1.5]",
        "[1.5,2,3]",
        '["1.5",2]',
        "[1.5,2.5]",
        "[true,1]",
        "[1.5,true]",
        "[NaN,1]",
        "[Infinity,1]",
        "[-0.5,1]",
        "[1.5,0]",
        "[1.5,-3]",
        f"[1{'0' * 400},1]",
        f"[1{'0' * 9000},1]",
        "[" * 100_000,
    ],
)
def test_garbage_in_the_store_is_no_sample(text: str) -> None:
    assert decode(text) is None


@given(st.text())
def test_no_text_makes_decoding_raise(text: str) -> None:
    # When
    sample = decode(text)
    # Then
    assert sample is None or sample.count > 0


def test_the_first_measurement_is_taken_as_it_is() -> None:
    assert fold(None, 2.0) == Sample(2.0, 1)
    assert fold(Sample(0.0, 0), 2.0) == Sample(2.0, 1)


def test_a_later_measurement_weighs_three_tenths() -> None:
    # When
    sample = fold(Sample(1.0, 4), 2.0)
    # Then
    assert sample.seconds == pytest.approx(1.3)
    assert sample.count == 5


@given(SAMPLES, DURATIONS)
def test_an_average_lies_between_what_was_and_what_is_new(old: Sample, seconds: float) -> None:
    # When
    new = fold(old, seconds)
    # Then
    low, high = sorted([old.seconds, seconds])
    assert low * (1 - 1e-9) <= new.seconds <= high * (1 + 1e-9)


@pytest.mark.parametrize("seconds", NO_DURATIONS)
def test_a_measurement_that_is_no_duration_changes_nothing(seconds: float) -> None:
    assert fold(Sample(1.0, 4), seconds) == Sample(1.0, 4)
    assert fold(None, seconds).count == 0


def test_a_test_and_a_class_of_one_name_have_samples_of_their_own() -> None:
    # Given
    entry = make_entry(cls="app.tests.T", id="app.tests.T")
    # When
    keys = timings.test_key(entry), timings.class_key(entry)
    # Then
    assert keys == ("t:app.tests.T", "c:app.tests.T")


def test_a_test_never_timed_has_no_estimate_and_its_class_costs_nothing() -> None:
    # Given
    entry = make_entry()
    # When
    estimates = Estimates({})
    # Then
    assert estimates.test(entry) is None
    assert estimates.class_cost(entry.cls) == 0.0


def test_estimates_are_what_was_stored() -> None:
    # Given
    entry = make_entry()
    samples = {timings.test_key(entry): Sample(0.4, 3), timings.class_key(entry): Sample(1.5, 3)}
    # When
    estimates = Estimates(samples)
    # Then
    assert estimates.test(entry) == 0.4
    assert estimates.class_cost(entry.cls) == 1.5


@pytest.mark.parametrize(
    "sample", [Sample(1.0, 0), *(Sample(seconds, 2) for seconds in NO_DURATIONS)]
)
def test_a_sample_that_says_nothing_counts_as_unknown(sample: Sample) -> None:
    # Given
    entry = make_entry()
    # When
    estimates = Estimates({timings.test_key(entry): sample}, [entry])
    # Then
    assert estimates.test(entry) is None
    assert estimates.default(entry.phase) == timings.FALLBACK_SECONDS


def test_the_default_is_the_median_of_the_phase_then_of_all_tests_then_a_constant() -> None:
    # Given
    manifest = make_manifest(
        group("a.T", Phase.ISOLATED, 3),
        group("a.L", Phase.TRANSACTIONAL, 2),
        group("a.N", Phase.NO_DATABASE),
    )
    times = [0.1, 0.3, 9.0, 5.0, 7.0]
    samples = {timings.test_key(manifest[i]): Sample(seconds, 1) for i, seconds in enumerate(times)}
    samples["c:a.T"] = Sample(1000.0, 1)
    # When
    estimates = Estimates(samples, manifest)
    # Then
    assert estimates.default(Phase.ISOLATED) == 0.3
    assert estimates.default(Phase.TRANSACTIONAL) == 6.0
    assert estimates.default(Phase.NO_DATABASE) == 5.0
    assert Estimates({}, manifest).default(Phase.ISOLATED) == timings.FALLBACK_SECONDS


def test_a_run_teaches_only_what_it_touched() -> None:
    # Given
    known, new = make_entry(0), make_entry(1)
    old = {
        timings.test_key(known): Sample(1.0, 2),
        "t:elsewhere": Sample(3.0, 1),
        "c:app.tests.Case": Sample(1.0, 1),
    }
    # When
    samples = learn([(known, 2.0), (new, 0.5)], {"app.tests.Case": 2.0}, old)
    # Then
    assert samples == {
        timings.test_key(known): fold(Sample(1.0, 2), 2.0),
        timings.test_key(new): Sample(0.5, 1),
        "c:app.tests.Case": fold(Sample(1.0, 1), 2.0),
    }


def test_entries_that_share_an_id_teach_their_mean_once() -> None:
    # Given
    twins = [make_entry(index, id="app.tests.Case.test_twin") for index in range(2)]
    # When
    samples = learn([(twins[0], 1.0), (twins[1], 3.0)], {}, {})
    # Then
    assert samples == {"t:app.tests.Case.test_twin": Sample(2.0, 1)}


@pytest.mark.parametrize("seconds", NO_DURATIONS)
def test_a_measurement_that_is_no_duration_teaches_nothing(seconds: float) -> None:
    # Given
    bad, twin = make_entry(0, id="same"), make_entry(1, id="same")
    # When / Then
    assert learn([(bad, seconds)], {"app.tests.Case": seconds}, {}) == {}
    assert learn([(bad, seconds), (twin, 2.0)], {}, {}) == {"t:same": Sample(2.0, 1)}


def test_a_plan_knows_what_was_measured_before_what_a_hint_says() -> None:
    # Given
    measured, hinted, new = make_manifest(group("a.T", count=3)).entries
    samples = {
        timings.test_key(measured): Sample(1.0, 4),
        f"h:{measured.id}": Sample(9.0, 1),
        f"h:{hinted.id}": Sample(2.0, 1),
    }
    # When
    estimates = Estimates(samples)
    # Then
    assert [estimates.planned(entry) for entry in (measured, hinted, new)] == [1.0, 2.0, None]
    assert estimates.test(hinted) is None, "no limit is made of a hint"


def test_a_hint_at_a_file_is_shared_by_its_tests_until_one_of_them_is_measured() -> None:
    # Given the folder of a project below the top of its tree
    manifest = make_manifest(
        group("a.T", count=4, file="site/tests/test_a.py"), group("b.T", file="tests/test_a.py")
    )
    hint = {"h:tests/test_a.py": Sample(6.0, 1)}
    # When
    estimates = Estimates(hint, manifest.entries, "site")
    later = Estimates(
        hint | {timings.test_key(manifest[0]): Sample(0.5, 1)}, manifest.entries, "site"
    )
    # Then
    assert [estimates.planned(entry) for entry in manifest] == [1.5, 1.5, 1.5, 1.5, None]
    assert later.planned(manifest[1]) is None
    assert estimates.default(Phase.ISOLATED) == 1.5


def test_hints_at_what_was_measured_are_stale() -> None:
    # Given
    samples = {key: Sample(1.0, 1) for key in ("t:a", "h:a", "h:b", "c:b")}
    # Then
    assert timings.without_stale_hints(samples).keys() == {"t:a", "h:b", "c:b"}
