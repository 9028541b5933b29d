from __future__ import annotations

import io
from typing import Any

import pytest

from dct_celery.core.model import Failure, FixtureRef, FixtureVerdict, Outcome, RunReport
from dct_celery.core.run import events as ev
from dct_celery.ports.reporting import Stopping
from tests.support.factories import held
from tests.support.runs import finished
from tests.unit.reports.scene import Scene, verdict

# -- off a terminal


def test_off_a_terminal_lines_are_plain_and_a_failure_is_printed_at_once() -> None:
    # Given
    scene = Scene()

    # When
    scene.terminal.line("collected 1,234 tests in 2.1 s")
    scene.start(3)
    scene.verdict(verdict("test_a", index=0))
    scene.verdict(verdict("test_x", Outcome.FAILED, index=1))
    scene.verdict(verdict("test_y", Outcome.XPASSED, index=2))

    # Then
    assert scene.lines() == [
        "collected 1,234 tests in 2.1 s",
        "FAIL app.tests.T.test_x  AssertionError: 1 != 2  (build-a/0, 0.12 s)",
        "UNEXPECTED SUCCESS app.tests.T.test_y  (build-a/0, 0.12 s)",
    ]


def test_off_a_terminal_a_heartbeat_comes_every_thirty_seconds() -> None:
    # Given
    scene = Scene()
    scene.start(3015)
    scene.slots(2, 4)
    for index in range(1204):
        outcome = Outcome.FAILED if index < 2 else Outcome.PASSED
        scene.view.judge(verdict(index=index, outcome=outcome), scene.now + 25)
    scene.remaining(80.0)

    # When
    scene.wait(29.5)
    silent = scene.out.getvalue()
    scene.wait(31)

    # Then
    assert silent == ""
    assert scene.lines() == [
        "1,204/3,015 done, 2 failed, 120 tests/s, about 40 s left, 2 slots busy",
        "1,204/3,015 done, 2 failed, about 40 s left, 2 slots busy",
    ]


def test_a_heartbeat_without_a_slot_says_so() -> None:
    # Given
    scene = Scene()
    scene.start(7)

    # When
    scene.wait(31)

    # Then
    assert scene.lines() == ["0/7 done, 0 failed, no slot connected"]


def test_failures_that_run_again_are_counted_as_doubts() -> None:
    # Given
    scene = Scene()
    scene.start(7)
    scene.view.reruns, lease = True, held(1)
    scene.view.take(ev.Claimed(lease))
    # When
    scene.view.take(ev.Recorded(lease, 1, (finished(3, "failed"),)))
    scene.wait(31)
    # Then
    assert "0/7 done, 0 failed, 1 in doubt, " in scene.lines()[-1]


def test_before_the_start_and_after_the_end_there_is_no_heartbeat() -> None:
    # Given
    scene = Scene()

    # When
    scene.wait(40)
    scene.start(1)
    scene.terminal.close()
    scene.wait(40)

    # Then
    assert scene.out.getvalue() == ""


def test_a_worker_that_joins_or_leaves_mid_run_is_reported() -> None:
    # Given
    scene = Scene()
    scene.slots(0, 2, ("build-a",))
    scene.start(3)

    # When
    scene.slots(
        2,
        4,
        (
            "build-a",
            "build-b",
        ),
    )
    scene.slots(
        3,
        4,
        (
            "build-a",
            "build-b",
        ),
    )
    scene.slots(1, 1, ("build-b",))

    # Then
    assert scene.lines() == ["build-b joined: 4 slots connected", "build-a left: 1 slot connected"]


def test_a_fixture_that_fails_says_how_many_tests_it_kept() -> None:
    # Given
    scene = Scene()
    scene.start(3)
    scene.slots(1, 1)

    # When
    failure = Failure("error", "ValueError", "boom", "ValueError: boom")
    scene.fixture(
        FixtureVerdict(
            FixtureRef.parse("setUpClass (app.tests.T)"),
            Outcome.ERROR,
            "build-a",
            0,
            (failure,),
            covers=(0, 1),
        )
    )
    scene.wait(31)

    # Then
    assert scene.lines() == [
        "ERROR setUpClass (app.tests.T)  ValueError: boom  (build-a/0, 2 tests not run)",
        "0/3 done, 1 failed, 1 slot busy",
    ]


def test_verbosity_two_has_a_line_per_test_as_in_django() -> None:
    # Given
    scene = Scene(verbosity=2)
    scene.start(7)

    # When
    scene.verdict(verdict("test_a"))
    scene.verdict(verdict("test_b", Outcome.FAILED, attempt=2))
    scene.verdict(verdict("test_c", Outcome.ERROR))
    scene.verdict(verdict("test_d", Outcome.SKIPPED, reason="no db"))
    scene.verdict(verdict("test_e", Outcome.XFAILED))
    scene.verdict(verdict("test_f", Outcome.XPASSED))
    scene.verdict(verdict("test_g", Outcome.NOT_RUN, reason="cancelled"))
    scene.fixture(
        FixtureVerdict(FixtureRef.parse("setUpClass (app.tests.U)"), Outcome.SKIPPED, reason="why")
    )

    # Then
    assert scene.lines() == [
        "test_a (app.tests.T.test_a) ... ok",
        "test_b (app.tests.T.test_b) ... FAIL (attempt 2)",
        "test_c (app.tests.T.test_c) ... ERROR",
        "test_d (app.tests.T.test_d) ... skipped 'no db'",
        "test_e (app.tests.T.test_e) ... expected failure",
        "test_f (app.tests.T.test_f) ... unexpected success",
        "test_g (app.tests.T.test_g) ... not run (cancelled)",
        "setUpClass (app.tests.U) ... skipped 'why'",
    ]


@pytest.mark.parametrize("tty", [True, False])
def test_verbosity_zero_is_silent_but_for_warnings_until_the_summary(tty: bool) -> None:
    # Given
    scene = Scene(verbosity=0, tty=tty)

    # When
    scene.terminal.line("collected 1 test")
    scene.start(2)
    scene.slots(1, 1, ("build-a",))
    scene.slots(
        1,
        2,
        (
            "build-a",
            "build-b",
        ),
    )
    scene.verdict(verdict(outcome=Outcome.FAILED))
    scene.wait(31)
    scene.terminal.warn("slow")

    # Then
    assert scene.out.getvalue() == ""
    assert scene.err.getvalue() == "warning: slow\n"


# -- on a terminal


def running(width: int = 100, **options: Any) -> Scene:
    scene = Scene(tty=True, width=width, **options)
    scene.terminal.line("collected 1,200 tests in 2.1 s")
    scene.slots(2, 4)
    scene.start(1200)
    scene.remaining(80.0)
    for index in range(300):
        scene.verdict(verdict(f"test_{index}", index=index))
    scene.wait(0.2)
    return scene


def test_on_a_terminal_failures_stand_above_the_live_line() -> None:
    # Given
    scene = running()

    # When
    scene.verdict(verdict("test_x", Outcome.FAILED, index=300))
    scene.wait(0.2)

    # Then
    assert scene.screen() == [
        "collected 1,200 tests in 2.1 s",
        "FAIL app.tests.T.test_x  AssertionError: 1 != 2  (build-a/0, 0.12 s)",
        "━━━━━───────────────    301/1,200  1 failed  301/s  40 s left  2/4 slots  T.test_x",
    ]


@pytest.mark.parametrize("width", range(1, 130, 7))
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_live_line_is_never_as_wide_as_the_window(width: int, encoding: str) -> None:
    # Given
    stream = io.TextIOWrapper(io.BytesIO(), encoding, newline="")
    scene = Scene(tty=True, width=width, out=stream)
    scene.start(1200)
    scene.slots(2, 4)

    # When
    scene.verdict(verdict("test_漢字漢字漢字漢字漢字漢字漢字"))
    scene.wait(0.5)

    # Then
    stream.seek(0)
    scene.out.write(stream.read())
    row = scene.screen()[-1]
    assert len(row) + sum(1 for char in row if char in "漢字") < max(width, 2)


def test_a_narrow_window_keeps_the_count_and_the_failures() -> None:
    # Given / When
    scene = running(width=25)

    # Then
    assert scene.screen()[-1] == "  300/1,200  0 failed"


def test_a_window_that_changes_is_measured_again() -> None:
    # Given
    width = 100
    scene = running(measure=lambda: width)

    # When
    width = 25
    scene.wait(0.2)

    # Then
    assert scene.screen()[-1] == "  300/1,200  0 failed"


def test_the_live_line_is_painted_at_most_ten_times_a_second() -> None:
    # Given
    scene = Scene(tty=True)
    scene.start(5000)

    # When a second passes with a thousand verdicts and as many ticks
    for index in range(1000):
        scene.now += 0.001
        scene.verdict(verdict(index=index))
        scene.terminal.tick()

    # Then
    assert 9 <= scene.out.getvalue().count("\x1b[?7l") <= 11


def test_a_warning_does_not_end_on_the_live_line() -> None:
    # Given
    scene = running()
    scene.terminal._screen._err = scene.out

    # When
    scene.terminal.warn("build-b is behind")

    # Then
    assert scene.screen()[1] == "warning: build-b is behind"
    assert scene.screen()[2].startswith("━━━━━")


def test_the_end_leaves_nothing_of_the_live_line() -> None:
    # Given
    scene = running()

    # When
    scene.finish(RunReport("r1", (verdict(),), (), 0, {"wall": 1.0}))

    # Then
    assert scene.screen() == [
        "collected 1,200 tests in 2.1 s",
        "",
        "-" * 70,
        "Ran 1 test in 1.0 s",
        "",
        "OK",
        "",
    ]


def test_a_test_that_its_fixture_skips_says_why() -> None:
    # Given
    scene = Scene(verbosity=2)
    scene.start(1)
    set_up = FixtureRef.parse("setUpClass (app.tests.T)")

    # When
    scene.fixture(FixtureVerdict(set_up, Outcome.SKIPPED, reason="no server"))
    scene.verdict(verdict("test_a", Outcome.NOT_RUN, covered_by=set_up))

    # Then
    assert scene.lines()[1] == "test_a (app.tests.T.test_a) ... skipped 'no server'"


def test_what_a_run_waits_for_stands_in_the_heartbeat_and_in_the_live_line() -> None:
    for tty in (False, True):
        # Given
        scene = Scene(tty=tty, width=100)
        scene.start(3)
        scene.slots(0, 2)

        # When
        scene.view.waiting = "waiting for build-a to prepare code and databases"
        scene.wait(31)

        # Then
        assert scene.screen()[-1 if tty else 0].endswith(
            "waiting for build-a to prepare code and databases"
        )
        assert "/s" not in scene.screen()[-1 if tty else 0]


def test_a_run_that_stops_says_why_and_what_may_still_end() -> None:
    # Given
    scene = Scene()
    scene.start(9)

    # When
    scene.terminal.take(Stopping("stopped after 3 failures (--maxfail 3)", 7))

    # Then
    assert scene.lines() == [
        "stopping: stopped after 3 failures (--maxfail 3); 7 slots still running"
    ]


def test_a_worker_that_refuses_has_not_left() -> None:
    # Given
    scene = Scene()
    scene.slots(0, 2, ("build-a",))
    scene.start(3)

    # When
    scene.slots(0, 0, (), present=("build-a",))

    # Then
    assert scene.lines() == ["build-a takes no part any more: 0 slots connected"]


def test_the_cursor_rests_where_the_live_line_begins_for_windows_that_shrink() -> None:
    # Given
    scene = running()

    # When: the window breaks the line in two, and the cursor stays with its beginning
    painted = scene.out.getvalue()
    scene.terminal.line("next")

    # Then: from there on everything is erased
    assert painted.endswith("\x1b[J\x1b[?7h\r")
    assert scene.out.getvalue()[len(painted) :].startswith("\r\x1b[Jnext\n")
