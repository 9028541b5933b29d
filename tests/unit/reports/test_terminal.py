from __future__ import annotations

import io
from typing import Any

import pytest

from dct_celery.core.model import Failure, FixtureRef, FixtureVerdict, Outcome, RunReport
from dct_celery.ports.reporting import Stopping
from tests.unit.reports.desk import Desk, verdict

# -- off a terminal


def test_off_a_terminal_lines_are_plain_and_a_failure_is_printed_at_once() -> None:
    # Given
    desk = Desk()

    # When
    desk.terminal.line("collected 1,234 tests in 2.1 s")
    desk.start(3)
    desk.verdict(verdict("test_a", index=0))
    desk.verdict(verdict("test_x", Outcome.FAILED, index=1))
    desk.verdict(verdict("test_y", Outcome.XPASSED, index=2))

    # Then
    assert desk.lines() == [
        "collected 1,234 tests in 2.1 s",
        "FAIL app.tests.T.test_x  AssertionError: 1 != 2  (build-a/0, 0.12 s)",
        "UNEXPECTED SUCCESS app.tests.T.test_y  (build-a/0, 0.12 s)",
    ]


def test_off_a_terminal_a_heartbeat_comes_every_thirty_seconds() -> None:
    # Given
    desk = Desk()
    desk.start(3015)
    desk.slots(2, 4)
    for index in range(1204):
        outcome = Outcome.FAILED if index < 2 else Outcome.PASSED
        desk.view.judge(verdict(index=index, outcome=outcome), desk.now + 25)
    desk.remaining(80.0)

    # When
    desk.wait(29.5)
    silent = desk.out.getvalue()
    desk.wait(31)

    # Then
    assert silent == ""
    assert desk.lines() == [
        "1,204/3,015 done, 2 failed, 120 tests/s, about 40 s left, 2 slots busy",
        "1,204/3,015 done, 2 failed, about 40 s left, 2 slots busy",
    ]


def test_a_heartbeat_without_a_slot_says_so() -> None:
    # Given
    desk = Desk()
    desk.start(7)

    # When
    desk.wait(31)

    # Then
    assert desk.lines() == ["0/7 done, 0 failed, no slot connected"]


def test_before_the_start_and_after_the_end_there_is_no_heartbeat() -> None:
    # Given
    desk = Desk()

    # When
    desk.wait(40)
    desk.start(1)
    desk.terminal.close()
    desk.wait(40)

    # Then
    assert desk.out.getvalue() == ""


def test_a_worker_that_joins_or_leaves_mid_run_is_reported() -> None:
    # Given
    desk = Desk()
    desk.slots(0, 2, ("build-a",))
    desk.start(3)

    # When
    desk.slots(
        2,
        4,
        (
            "build-a",
            "build-b",
        ),
    )
    desk.slots(
        3,
        4,
        (
            "build-a",
            "build-b",
        ),
    )
    desk.slots(1, 1, ("build-b",))

    # Then
    assert desk.lines() == ["build-b joined: 4 slots connected", "build-a left: 1 slot connected"]


def test_a_fixture_that_fails_says_how_many_tests_it_kept() -> None:
    # Given
    desk = Desk()
    desk.start(3)
    desk.slots(1, 1)

    # When
    failure = Failure("error", "ValueError", "boom", "ValueError: boom")
    desk.fixture(
        FixtureVerdict(
            FixtureRef.parse("setUpClass (app.tests.T)"),
            Outcome.ERROR,
            "build-a",
            0,
            (failure,),
            covers=(0, 1),
        )
    )
    desk.wait(31)

    # Then
    assert desk.lines() == [
        "ERROR setUpClass (app.tests.T)  ValueError: boom  (build-a/0, 2 tests not run)",
        "0/3 done, 1 failed, 1 slot busy",
    ]


def test_verbosity_two_has_a_line_per_test_as_in_django() -> None:
    # Given
    desk = Desk(verbosity=2)
    desk.start(7)

    # When
    desk.verdict(verdict("test_a"))
    desk.verdict(verdict("test_b", Outcome.FAILED, attempt=2))
    desk.verdict(verdict("test_c", Outcome.ERROR))
    desk.verdict(verdict("test_d", Outcome.SKIPPED, reason="no db"))
    desk.verdict(verdict("test_e", Outcome.XFAILED))
    desk.verdict(verdict("test_f", Outcome.XPASSED))
    desk.verdict(verdict("test_g", Outcome.NOT_RUN, reason="cancelled"))
    desk.fixture(
        FixtureVerdict(FixtureRef.parse("setUpClass (app.tests.U)"), Outcome.SKIPPED, reason="why")
    )

    # Then
    assert desk.lines() == [
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
    desk = Desk(verbosity=0, tty=tty)

    # When
    desk.terminal.line("collected 1 test")
    desk.start(2)
    desk.slots(1, 1, ("build-a",))
    desk.slots(
        1,
        2,
        (
            "build-a",
            "build-b",
        ),
    )
    desk.verdict(verdict(outcome=Outcome.FAILED))
    desk.wait(31)
    desk.terminal.warn("slow")

    # Then
    assert desk.out.getvalue() == ""
    assert desk.err.getvalue() == "warning: slow\n"


# -- on a terminal


def running(width: int = 100, **options: Any) -> Desk:
    desk = Desk(tty=True, width=width, **options)
    desk.terminal.line("collected 1,200 tests in 2.1 s")
    desk.slots(2, 4)
    desk.start(1200)
    desk.remaining(80.0)
    for index in range(300):
        desk.verdict(verdict(f"test_{index}", index=index))
    desk.wait(0.2)
    return desk


def test_on_a_terminal_failures_stand_above_the_live_line() -> None:
    # Given
    desk = running()

    # When
    desk.verdict(verdict("test_x", Outcome.FAILED, index=300))
    desk.wait(0.2)

    # Then
    assert desk.screen() == [
        "collected 1,200 tests in 2.1 s",
        "FAIL app.tests.T.test_x  AssertionError: 1 != 2  (build-a/0, 0.12 s)",
        "━━━━━───────────────    301/1,200  1 failed  301/s  40 s left  2/4 slots  T.test_x",
    ]


@pytest.mark.parametrize("width", range(1, 130, 7))
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_live_line_is_never_as_wide_as_the_window(width: int, encoding: str) -> None:
    # Given
    stream = io.TextIOWrapper(io.BytesIO(), encoding, newline="")
    desk = Desk(tty=True, width=width, out=stream)
    desk.start(1200)
    desk.slots(2, 4)

    # When
    desk.verdict(verdict("test_漢字漢字漢字漢字漢字漢字漢字"))
    desk.wait(0.5)

    # Then
    stream.seek(0)
    desk.out.write(stream.read())
    row = desk.screen()[-1]
    assert len(row) + sum(1 for char in row if char in "漢字") < max(width, 2)


def test_a_narrow_window_keeps_the_count_and_the_failures() -> None:
    # Given / When
    desk = running(width=25)

    # Then
    assert desk.screen()[-1] == "  300/1,200  0 failed"


def test_a_window_that_changes_is_measured_again() -> None:
    # Given
    width = 100
    desk = running(measure=lambda: width)

    # When
    width = 25
    desk.wait(0.2)

    # Then
    assert desk.screen()[-1] == "  300/1,200  0 failed"


def test_the_live_line_is_painted_at_most_ten_times_a_second() -> None:
    # Given
    desk = Desk(tty=True)
    desk.start(5000)

    # When a second passes with a thousand verdicts and as many ticks
    for index in range(1000):
        desk.now += 0.001
        desk.verdict(verdict(index=index))
        desk.terminal.tick()

    # Then
    assert 9 <= desk.out.getvalue().count("\x1b[?7l") <= 11


def test_a_warning_does_not_end_on_the_live_line() -> None:
    # Given
    desk = running()
    desk.terminal._screen._err = desk.out

    # When
    desk.terminal.warn("build-b is behind")

    # Then
    assert desk.screen()[1] == "warning: build-b is behind"
    assert desk.screen()[2].startswith("━━━━━")


def test_the_end_leaves_nothing_of_the_live_line() -> None:
    # Given
    desk = running()

    # When
    desk.finish(RunReport("r1", (verdict(),), (), 0, {"wall": 1.0}))

    # Then
    assert desk.screen() == [
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
    desk = Desk(verbosity=2)
    desk.start(1)
    set_up = FixtureRef.parse("setUpClass (app.tests.T)")

    # When
    desk.fixture(FixtureVerdict(set_up, Outcome.SKIPPED, reason="no server"))
    desk.verdict(verdict("test_a", Outcome.NOT_RUN, covered_by=set_up))

    # Then
    assert desk.lines()[1] == "test_a (app.tests.T.test_a) ... skipped 'no server'"


def test_what_a_run_waits_for_stands_in_the_heartbeat_and_in_the_live_line() -> None:
    for tty in (False, True):
        # Given
        desk = Desk(tty=tty, width=100)
        desk.start(3)
        desk.slots(0, 2)

        # When
        desk.view.waiting = "waiting for build-a to prepare code and databases"
        desk.wait(31)

        # Then
        assert desk.screen()[-1 if tty else 0].endswith(
            "waiting for build-a to prepare code and databases"
        )
        assert "/s" not in desk.screen()[-1 if tty else 0]


def test_a_run_that_stops_says_why_and_what_may_still_end() -> None:
    # Given
    desk = Desk()
    desk.start(9)

    # When
    desk.terminal.take(Stopping("stopped after 3 failures (--maxfail 3)", 7))

    # Then
    assert desk.lines() == [
        "stopping: stopped after 3 failures (--maxfail 3); 7 slots still running"
    ]


def test_a_worker_that_refuses_has_not_left() -> None:
    # Given
    desk = Desk()
    desk.slots(0, 2, ("build-a",))
    desk.start(3)

    # When
    desk.slots(0, 0, (), present=("build-a",))

    # Then
    assert desk.lines() == ["build-a takes no part any more: 0 slots connected"]


def test_the_cursor_rests_where_the_live_line_begins_for_windows_that_shrink() -> None:
    # Given
    desk = running()

    # When: the window breaks the line in two, and the cursor stays with its beginning
    painted = desk.out.getvalue()
    desk.terminal.line("next")

    # Then: from there on everything is erased
    assert painted.endswith("\x1b[J\x1b[?7h\r")
    assert desk.out.getvalue()[len(painted) :].startswith("\r\x1b[Jnext\n")
