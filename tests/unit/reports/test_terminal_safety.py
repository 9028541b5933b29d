from __future__ import annotations

import io
import re

import pytest

from dct_celery.core.model import (
    Entry,
    Failure,
    FixturePhase,
    FixtureRef,
    FixtureScope,
    FixtureVerdict,
    Outcome,
    Phase,
    RunReport,
    Verdict,
)
from dct_celery.core.run.view import RunView
from dct_celery.reports.terminal.terminal import Terminal
from tests.unit.reports.scene import Scene, verdict


def test_nothing_a_test_says_reaches_the_terminal_raw() -> None:
    # Given
    nasty = "a\x1b[2Jb\x1b]0;title\x07c\x07d\re\x9b1mf\u202eg\x00\nh\ti\udcff\x1b"
    entry = Entry(0, f"app.T.test_{nasty}", "app.T", "app", Phase.ISOLATED)
    failure = Failure("error", f"E{nasty}", nasty, nasty, subtest=nasty)
    v = Verdict(entry, Outcome.ERROR, 0.1, f"w{nasty}", 0, 1, (failure,), nasty, nasty, nasty)
    f = FixtureVerdict(
        FixtureRef(FixturePhase.SET_UP, FixtureScope.CLASS, nasty),
        Outcome.FAILED,
        nasty,
        0,
        (failure,),
        nasty,
        nasty,
        (0,),
    )
    kept = Verdict(entry, Outcome.NOT_RUN, reason=nasty)
    slot = {"worker": nasty, "slot": 0, "busy_seconds": 1.0, "chunks": 1}

    # When
    texts = []
    for verbosity in (1, 2):
        scene = Scene(verbosity=verbosity)
        scene.terminal.line(nasty)
        scene.terminal.warn(nasty)
        scene.slots(1, 1, ())
        scene.start(1, durations=0)
        scene.slots(1, 1, (nasty,))
        scene.verdict(v)
        scene.fixture(f)
        scene.finish(RunReport("r", (v, kept), (f,), 1, slots=(slot,), note=nasty))
        texts += [scene.out.getvalue(), scene.err.getvalue()]

    # Then
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", "".join(texts))
    assert "abc\\x07d\\ref\\u202eg\\x00\nh\ti\\udcff\\x1b" in texts[0]
    assert "FAIL" in texts[0]


def test_windows_line_ends_are_no_control_characters() -> None:
    # Given
    scene = Scene()

    # When
    scene.terminal.line("one\r\ntwo")

    # Then
    assert scene.lines() == ["one", "two"]


def test_a_stream_that_cannot_say_a_character_gets_it_spelt_out() -> None:
    # Given
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", newline="")
    scene = Scene(out=stream, tty=True, width=60)

    # When
    scene.start(2)
    scene.verdict(verdict("test_ü\udcff", Outcome.FAILED))

    # Then
    stream.seek(0)
    assert "test_\\xfc\\udcff" in stream.read()


def test_without_colour_no_escape_is_written_and_with_colour_the_end_is_painted() -> None:
    # Given
    def end(exit_code: int, *, colour: bool) -> str:
        scene = Scene(colour=colour)
        scene.finish(RunReport("r1", (verdict(outcome=Outcome.XPASSED),), (), exit_code))
        return scene.out.getvalue()

    # When
    plain, green, red = end(1, colour=False), end(0, colour=True), end(1, colour=True)

    # Then
    assert "\x1b" not in plain
    assert "\x1b[1;32mOK (unexpected successes=1)\x1b[0m\n" in green
    assert "\x1b[1;31mFAILED (unexpected successes=1)\x1b[0m\n" in red


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("env", "tty", "live", "colour"),
    [
        ({}, True, True, True),
        ({}, False, False, False),
        ({"TERM": "dumb"}, True, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, True, False),
        ({"NO_COLOR": ""}, True, True, True),
        ({"FORCE_COLOR": "1"}, False, False, True),
        ({"CLICOLOR_FORCE": "1", "CI": "true"}, False, False, True),
        ({"CLICOLOR_FORCE": "0"}, False, False, False),
        ({"CI": "true"}, True, False, False),
        ({"CI": "true", "GITHUB_ACTIONS": "true"}, False, False, True),
        ({"CI": "false"}, True, True, True),
    ],
)
def test_the_environment_decides_in_its_order(
    env: dict[str, str], tty: bool, live: bool, colour: bool
) -> None:
    # Given
    out = Tty() if tty else io.StringIO()

    # When
    terminal = Terminal.detect(env, out=out, err=out, verbosity=1, clock=lambda: 0.0)
    terminal.start(RunView(1))
    terminal.verdict(verdict(outcome=Outcome.FAILED))

    # Then
    assert ("\x1b[?7l" in out.getvalue()) is live
    assert ("\x1b[1;31mFAIL" in out.getvalue()) is colour


def test_warnings_that_go_to_a_file_have_no_colour() -> None:
    # Given
    err = io.StringIO()

    # When
    Terminal.detect({}, out=Tty(), err=err, verbosity=1, clock=lambda: 0.0).warn("slow")

    # Then
    assert err.getvalue() == "warning: slow\n"
