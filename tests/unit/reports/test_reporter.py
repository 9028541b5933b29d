"""Claims about many reporters as one: none of them ends the run or the others, and custom ones get
no secret.
"""

from __future__ import annotations

import pytest

from dct_celery import api
from dct_celery.core.model import FixtureRef, FixtureVerdict, Outcome, RunReport
from dct_celery.core.run.view import RunView
from dct_celery.errors import UsageError
from dct_celery.ports.reporting import (
    Failed,
    Finished,
    FixtureJudged,
    Notice,
    PartialReport,
    Started,
    Stopping,
    TestJudged,
    Ticked,
    Warned,
)
from dct_celery.reports.reporter import Masked, Reporters
from dct_celery.security.masking import Masker
from dct_celery.settings import Settings
from tests.support.reporters import Broken, Listener
from tests.unit.reports.scene import verdict


def test_a_reporter_that_fails_is_named_once_and_left_out() -> None:
    # Given one that fails, between two that do not
    before, after = Listener(), Listener()
    reporters = Reporters([before, Broken(ValueError("boom"), TestJudged), after])

    # When
    for _ in range(3):
        reporters.take(TestJudged(verdict()))

    # Then
    for listener in (before, after):
        assert len(listener.all(TestJudged)) == 3
        assert listener.warnings == [
            "the reporter tests.support.reporters.Broken failed at TestJudged and is left out:"
            " ValueError: boom"
        ]


def test_a_reporter_that_fails_at_the_warning_about_another_one_is_left_out_too() -> None:
    # Given
    listener = Listener()
    reporters = Reporters(
        [Broken(ValueError("one"), Notice), Broken(KeyError("two"), Warned), listener]
    )

    # When
    reporters.take(Notice("x"))

    # Then
    assert len(listener.warnings) == 2
    assert listener.notices == ["x"]


def test_a_report_that_cannot_be_written_ends_the_run_after_all_reporters_had_the_event() -> None:
    # Given
    listener = Listener()
    reporters = Reporters([Broken(UsageError("cannot write junit.xml"), Finished), listener])
    finished = Finished(RunReport("r", (), (), 0))

    # When / Then
    with pytest.raises(UsageError, match=r"junit\.xml"):
        reporters.take(finished)
    assert listener.all(Finished) == [finished]

    # And it is not left out
    with pytest.raises(UsageError):
        reporters.take(finished)


def test_a_custom_reporter_gets_no_secret() -> None:
    # Given
    secret = "correct-horse-battery"
    listener = Listener()
    masked = Masked(listener, Masker([secret]))
    bad = verdict(outcome=Outcome.FAILED, output=f"with {secret}")
    fixture = FixtureVerdict(
        FixtureRef.parse("setUpClass (a.T)"), Outcome.ERROR, reason=f"with {secret}"
    )
    report = RunReport("r", (bad,), (fixture,), 1, note=f"with {secret}")

    # When
    for event in (
        Notice(f"with {secret}"),
        Warned(f"with {secret}"),
        Stopping(f"with {secret}", 1),
        Failed(f"with {secret}", 7),
        TestJudged(bad),
        FixtureJudged(fixture),
        PartialReport(report),
        Finished(report),
        Ticked(RunView(1)),
    ):
        masked.take(event)
    masked.take(Started(RunView(1), Settings(), lambda v: v.entry.id, lambda: report))

    # Then
    (started,) = listener.all(Started)
    assert secret not in repr(listener.events) + repr(started.so_far())
    assert len(listener.events) == 10


class MaskingListener(Listener):
    masks = True


def test_a_reporter_that_masks_by_itself_gets_its_events_as_they_are() -> None:
    # Given
    own, other = MaskingListener(), Listener()
    # When
    first, second = api._masked([own, other])
    # Then
    assert first is own
    assert isinstance(second, Masked)
    assert second.inner is other
