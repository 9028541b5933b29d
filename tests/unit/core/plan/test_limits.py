"""Claims about `core.plan.limits`: a limit is generous where history, or its absence, says so."""

from __future__ import annotations

from dct_celery.core.model import Manifest
from dct_celery.core.plan.limits import FIXTURE_SECONDS, TEST_SECONDS, UNTIMED_SECONDS, Limits
from dct_celery.core.plan.planner import Planner, atoms
from dct_celery.core.plan.timings import Estimates, Sample, class_key
from tests.support.factories import group, make_manifest, make_samples


def limits(*seconds: float | None, class_seconds: float = 0.0) -> Limits:
    """For one class, its tests having taken `seconds`; None is a test never timed."""
    manifest, estimates = history(*seconds, class_seconds=class_seconds)
    return Limits(manifest, estimates)


def history(*seconds: float | None, class_seconds: float = 0.0) -> tuple[Manifest, Estimates]:
    manifest = make_manifest(group("a.T", count=len(seconds)))
    samples = {**make_samples(manifest, seconds), class_key(manifest[0]): Sample(class_seconds, 1)}
    return manifest, Estimates(samples, manifest)


def test_a_quick_test_gets_the_floor_and_no_word_in_the_chunk() -> None:
    found = limits(0.1, 5.9)
    assert (found.base((0, 1)), found.tests((0, 1))) == (TEST_SECONDS, ())


def test_a_slow_test_gets_ten_times_what_it_took() -> None:
    assert limits(0.1, 20.0).tests((0, 1)) == ((1, 200.0),)


def test_a_test_never_timed_may_turn_out_slow() -> None:
    assert limits(0.1, None).tests((0, 1)) == ((1, UNTIMED_SECONDS),)


def test_where_all_are_alike_one_number_says_it() -> None:
    found = limits(None, None, None)
    assert (found.base((0, 1, 2)), found.tests((0, 1, 2))) == (UNTIMED_SECONDS, ())


def test_a_part_of_the_tests_has_a_base_of_its_own() -> None:
    found = limits(0.1, None, 90.0)
    assert (found.base((1, 2)), found.tests((1, 2))) == (UNTIMED_SECONDS, ((2, 900.0),))


def test_fixtures_get_ten_times_what_their_class_took_if_that_is_more() -> None:
    assert limits(0.1, class_seconds=FIXTURE_SECONDS / 10).fixture((0,)) == 0
    assert limits(0.1, class_seconds=40.0).fixture((0,)) == 400.0


def test_without_history_there_are_floors() -> None:
    assert (Limits().base((1,)), Limits().tests((1,)), Limits().fixture((1,))) == (
        TEST_SECONDS,
        (),
        0,
    )


def test_a_chunk_carries_the_limits_of_its_tests_and_a_retry_those_of_the_rest() -> None:
    # Given
    manifest, estimates = history(0.1, None, 20.0, class_seconds=40.0)
    planner = Planner(atoms(manifest, estimates), limits=Limits(manifest, estimates))
    # When
    chunk = planner.next_chunk(1, frozenset())
    assert chunk is not None
    rest = planner.requeue(chunk, (1, 2), fresh_process=True, avoid_worker="build-a")
    # Then
    assert (chunk.test_limit, chunk.limits, chunk.fixture_limit) == (
        TEST_SECONDS,
        ((1, UNTIMED_SECONDS), (2, 200.0)),
        400.0,
    )
    assert (rest.test_limit, rest.limits, rest.fixture_limit) == (
        200.0,
        ((1, UNTIMED_SECONDS),),
        400.0,
    )
    assert rest.avoid_worker == "build-a"


def test_what_another_tool_has_measured_shortens_no_limit() -> None:
    # Given
    manifest = make_manifest(group("a.T"))
    hint = Estimates({f"h:{manifest[0].id}": Sample(0.1, 1)}, manifest)
    # When / Then
    assert Limits(manifest, hint).base((0,)) == UNTIMED_SECONDS
