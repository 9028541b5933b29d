"""Claims about Ctrl-C: the first is acknowledged at once, the second ends the process with what
there is.
"""

from __future__ import annotations

import os
import signal

import pytest

from dct_celery.cli.interrupts import Interrupts
from dct_celery.core.model import RunReport
from dct_celery.core.run.view import RunView
from dct_celery.ports.reporting import Finished, Started
from dct_celery.settings import Settings

REPORT = RunReport("r", (), (), 7)


class Exited(Exception):
    pass


class Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[tuple[Settings, RunReport]] = []
        self.settings = Settings(junit_xml="junit.xml")
        self.interrupts = Interrupts(
            lambda settings, report: self.written.append((settings, report))
        )

        def leave(code: int) -> None:
            raise Exited(code)

        monkeypatch.setattr(os, "_exit", leave)

    def start(self) -> None:
        self.interrupts.take(
            Started(RunView(1), self.settings, lambda v: v.entry.id, lambda: REPORT)
        )


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_the_first_interrupt_is_a_flag_and_says_at_once_what_a_second_one_does(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    # When
    with scene.interrupts:
        before = scene.interrupts.seen()
        os.kill(os.getpid(), signal.SIGINT)

    # Then
    assert (before, scene.interrupts.seen()) == (False, True)
    assert capfd.readouterr().err == (
        "interrupted: the slots stop, and then the reports are written; once more to end at once\n"
    )
    assert scene.written == []


def test_the_second_interrupt_writes_the_reports_as_far_as_they_are_and_ends(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    # Given
    scene.start()

    # When
    with scene.interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Exited) as exited:
            os.kill(os.getpid(), signal.SIGTERM)

    # Then
    assert exited.value.args == (2,)
    assert scene.written == [(scene.settings, REPORT)]
    assert capfd.readouterr().err.splitlines()[1] == "interrupted again: ending at once"


def test_a_report_that_is_complete_is_not_replaced_by_what_was_known_before(scene: Scene) -> None:
    # Given
    scene.start()
    scene.interrupts.take(Finished(REPORT))

    # When
    with scene.interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Exited):
            os.kill(os.getpid(), signal.SIGINT)

    # Then
    assert scene.written == []


def test_signals_are_handled_as_before_once_the_run_is_over(scene: Scene) -> None:
    # Given
    before = signal.getsignal(signal.SIGINT)

    # When
    with scene.interrupts:
        assert signal.getsignal(signal.SIGINT) != before

    # Then
    assert signal.getsignal(signal.SIGINT) == before
