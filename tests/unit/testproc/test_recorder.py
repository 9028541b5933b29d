"""Claims about `testproc.recorder`.

Each test of a chunk has one record, whatever framework speaks of it, and however it ends.
"""

from __future__ import annotations

import pytest

from dct_celery.core.model import Artifact, Failure, FixtureRef, Outcome
from dct_celery.core.run.leaks import LeakKind, LeakRecord
from dct_celery.testproc import recorder as module
from dct_celery.wire import messages
from tests.support.inprocess import Bench

SET_UP, MODULE = FixtureRef.parse("setUpClass (app.T)"), FixtureRef.parse("setUpModule (app)")
TEAR_DOWN = FixtureRef.parse("tearDownClass (app.T)")
OUTSIDE = FixtureRef.parse("tearDownSession (stopTestRun)")
SCOPES = ("app.T", "app")
FAILURE = Failure("failure", "AssertionError", "1 != 2", "Traceback")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def run(bench: Bench, index: int, seconds: float = 0.5, scopes: tuple[str, ...] = SCOPES) -> None:
    """A test that passes."""
    test = object()
    bench.recorder.begin(test, index, scopes, fixtures=False)
    bench.recorder.started(test)
    bench.recorder.end(seconds)


def test_a_test_without_an_event_has_passed(bench: Bench) -> None:
    # When
    run(bench, 3)
    # Then
    assert bench.sent() == [messages.TestStarted(3), messages.TestFinished(3, Outcome.PASSED, 0.5)]


def test_the_start_of_a_test_is_sent_before_it_runs_and_its_record_may_wait(bench: Bench) -> None:
    # When
    bench.recorder.begin(object(), 1, SCOPES, fixtures=False)
    # Then
    assert bench.channel.sent == [messages.TestStarted(1)]
    # When
    bench.recorder.event(Outcome.FAILED, FAILURE)
    bench.recorder.end(0.1)
    assert len(bench.channel.sent) == 1
    bench.recorder.flush()
    # Then
    assert len(bench.channel.sent) == 2


def test_the_start_of_a_test_with_fixtures_goes_with_the_first_of_them(bench: Bench) -> None:
    # When
    bench.recorder.begin(object(), 1, SCOPES, fixtures=True)
    assert bench.channel.sent == []
    bench.recorder.fixture(SET_UP)
    # Then
    assert bench.channel.sent == [messages.TestStarted(1), messages.FixtureStarted(SET_UP)]


def test_the_outcome_is_the_worst_of_all_events_and_every_failure_is_kept(bench: Bench) -> None:
    # Given
    bench.recorder.begin(object(), 1, SCOPES, fixtures=False)
    other = Failure("error", "OSError", "no", "Traceback")
    # When
    bench.recorder.event(Outcome.SKIPPED, None, "not today", "SELECT 1")
    bench.recorder.event(Outcome.ERROR, other)
    bench.recorder.event(Outcome.FAILED, FAILURE, sql="SELECT 2")
    bench.output.printed = "words"
    bench.recorder.end(0.2)
    # Then
    assert bench.finished() == [
        messages.TestFinished(
            1, Outcome.ERROR, 0.2, (other, FAILURE), "not today", "words", "SELECT 1\nSELECT 2"
        )
    ]


def test_what_a_passing_test_printed_is_in_its_record(bench: Bench) -> None:
    # Given
    test = object()
    bench.recorder.begin(test, 1, SCOPES, fixtures=False)
    bench.recorder.started(test)
    bench.output.printed = "words"
    # When
    bench.recorder.end(0.2)
    # Then
    assert bench.finished() == [messages.TestFinished(1, Outcome.PASSED, 0.2, output="words")]


def test_a_test_that_never_started_did_not_pass(bench: Bench) -> None:
    # When another test than the current one has started, in a run inside it
    bench.recorder.begin(object(), 1, SCOPES, fixtures=False)
    bench.recorder.started(object())
    bench.recorder.end(0.2)
    # Then
    assert bench.finished() == [
        messages.TestFinished(1, Outcome.NOT_RUN, 0.0, reason="never started")
    ]


@pytest.mark.parametrize("fixture", [SET_UP, MODULE])
def test_a_test_that_never_started_is_covered_by_the_set_up_that_failed(
    bench: Bench, fixture: FixtureRef
) -> None:
    # Given
    bench.recorder.begin(object(), 1, SCOPES, fixtures=True)
    bench.recorder.fixture(fixture)
    bench.output.printed = "words"
    # When
    bench.recorder.fixture_finished(fixture, Outcome.ERROR, FAILURE)
    bench.recorder.end(0.2)
    bench.recorder.begin(object(), 2, ("app.U", "other"), fixtures=True)
    bench.recorder.end(0.2)
    # Then
    sent = bench.sent()
    assert messages.FixtureFinished(fixture, Outcome.ERROR, (FAILURE,), output="words") in sent
    assert [
        (each.index, each.covered_by) for each in sent if isinstance(each, messages.TestFinished)
    ] == [
        (1, fixture),
        (2, None),
    ]


def test_a_tear_down_that_failed_covers_nothing(bench: Bench) -> None:
    # Given
    bench.recorder.fixture_finished(TEAR_DOWN, Outcome.ERROR, FAILURE)
    # When
    bench.recorder.begin(object(), 1, SCOPES, fixtures=False)
    bench.recorder.end(0.0)
    # Then
    assert [each.covered_by for each in bench.finished()] == [None]


def test_what_covers_a_class_covers_it_in_later_chunks_too(bench: Bench) -> None:
    # Given
    bench.recorder.fixture_finished(MODULE, Outcome.SKIPPED, None, "not here")
    # When
    bench.recorder.start_chunk("c2")
    # Then
    assert bench.recorder.cover([(1, SCOPES), (2, ("b.T", "b"))]) == [2]
    assert [(each.index, each.outcome, each.covered_by) for each in bench.finished()] == [
        (1, Outcome.NOT_RUN, MODULE)
    ]


def test_the_end_of_a_chunk_says_what_it_held(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    bench = Bench("a thread")
    clock = [10.00004]
    monkeypatch.setattr(module, "now", lambda: clock[0])
    # When
    run(bench, 1)
    clock[0] = 11.0
    run(bench, 2, scopes=("app.U", "app"))
    bench.recorder.class_over("app.T")
    clock[0] = 12.0
    bench.recorder.begin_again()
    bench.recorder.class_took("app.T", 0.25)
    bench.recorder.class_took("app.T", 0.5)
    end = bench.recorder.finish([7, 8], "failfast")
    # Then
    leak = LeakRecord(LeakKind.THREAD, "a thread", "app.U")
    assert end == messages.ChunkFinished(
        "c1", 2, {"app.T": 0.75}, (7, 8), "failfast", (leak,), (10.0, 12.0)
    )
    assert bench.leaks.checked == ["app.T"]


def test_a_chunk_begins_with_nothing_of_the_last_one(bench: Bench) -> None:
    # Given
    run(bench, 1)
    bench.recorder.class_took("app.T", 1.0)
    # When
    bench.recorder.start_chunk("c2")
    # Then
    assert bench.recorder.finish() == messages.ChunkFinished("c2", 0, {})
    assert bench.leaks.begun == 2


def test_a_test_from_which_an_exception_escapes_is_its_error(bench: Bench) -> None:
    # Given
    bench.recorder.begin(object(), 1, SCOPES, fixtures=True)
    bench.recorder.fixture(SET_UP)
    bench.recorder.fixture(None)
    # When
    done = bench.recorder.abort(KeyboardInterrupt("now"), OUTSIDE)
    # Then
    assert done
    (record,) = bench.finished()
    assert (record.index, record.outcome, record.failures[0].type) == (
        1,
        Outcome.ERROR,
        "KeyboardInterrupt",
    )


def test_a_recorder_is_busy_with_a_test_or_with_a_fixture(bench: Bench) -> None:
    # When
    states = [bench.recorder.busy]
    bench.recorder.begin(object(), 1, SCOPES, fixtures=False)
    states.append(bench.recorder.busy)
    bench.recorder.end(0.1)
    states.append(bench.recorder.busy)
    bench.recorder.fixture(TEAR_DOWN)
    states.append(bench.recorder.busy)
    # Then
    assert states == [False, True, False, True]


def test_a_fixture_from_which_an_exception_escapes_is_its_error_and_covers_the_test(
    bench: Bench,
) -> None:
    # Given
    bench.recorder.begin(object(), 1, SCOPES, fixtures=True)
    bench.recorder.fixture(SET_UP)
    # When
    done = bench.recorder.abort(SystemExit("out"), OUTSIDE)
    # Then
    assert not done
    assert [
        each.fixture for each in bench.sent() if isinstance(each, messages.FixtureFinished)
    ] == [SET_UP]
    assert bench.recorder.cover([(1, SCOPES)]) == []


def test_a_fixture_that_is_over_is_not_blamed_for_what_comes_after_it(bench: Bench) -> None:
    # Given
    bench.recorder.fixture(TEAR_DOWN)
    # When
    bench.recorder.fixture_over()
    bench.recorder.abort(SystemExit("out"), OUTSIDE)
    # Then
    assert [
        each.fixture for each in bench.sent() if isinstance(each, messages.FixtureFinished)
    ] == [OUTSIDE]


def test_an_exception_outside_of_tests_and_fixtures_is_that_of_the_hook(bench: Bench) -> None:
    # Given
    run(bench, 1)
    # When
    done = bench.recorder.abort(SystemExit("out"), OUTSIDE)
    # Then
    assert not done
    assert [
        each.fixture for each in bench.sent() if isinstance(each, messages.FixtureFinished)
    ] == [OUTSIDE]


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.PASSED, 0), (Outcome.ERROR, 1)])
def test_a_forked_child_that_comes_back_ends_without_a_record(
    bench: Bench, outcome: Outcome, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)
        raise InterruptedError

    monkeypatch.setattr(module, "_exit", end)
    bench.recorder.begin(object(), 1, SCOPES, fixtures=False)
    bench.recorder.event(outcome, None)
    bench.sent()
    bench.channel.ours = False
    # When
    with pytest.raises(InterruptedError):
        bench.recorder.end(0.1)
    # Then
    assert ended == [status]
    assert bench.sent() == []


@pytest.mark.parametrize(
    ("folder", "outcome", "kept"),
    [
        ("/artifacts", Outcome.FAILED, True),
        ("/artifacts", Outcome.SKIPPED, False),
        ("", Outcome.FAILED, False),
    ],
    ids=["a failure", "a skip", "none is wanted"],
)
def test_the_whole_output_of_a_failure_is_kept_where_it_is_wanted(
    bench: Bench, folder: str, outcome: Outcome, kept: bool
) -> None:
    # Given
    artifact = Artifact("output.txt", 70_000, "0" * 40)
    bench.output.kept = (artifact,)
    bench.recorder.start_chunk("c1", folder)
    # When
    bench.recorder.begin(object(), 1, SCOPES, fixtures=False)
    bench.recorder.event(outcome, FAILURE)
    bench.recorder.end(0.1)
    # Then
    (record,) = bench.finished()
    assert record.artifacts == ((artifact,) if kept else ())


def test_what_a_framework_reports_goes_with_the_record_of_its_test(bench: Bench) -> None:
    # Given a test that passes, of which there is something to say
    test = object()
    bench.recorder.begin(test, 4, SCOPES, fixtures=False)
    bench.recorder.started(test)
    bench.output.printed = "printed\n"
    # When
    bench.recorder.end(0.5, output="captured\n", reports="{}")
    run(bench, 5)
    # Then
    assert bench.sent() == [
        messages.TestStarted(4),
        messages.TestFinished(4, Outcome.PASSED, 0.5, output="captured\nprinted\n", reports="{}"),
        messages.TestStarted(5),
        messages.TestFinished(5, Outcome.PASSED, 0.5),
    ]
