"""Claims about `worker.host.run_supervisor`: what a store that is away for a while may cost a run
on this worker, which is nothing; and which refusals are for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery import __version__
from dct_celery.core.model import Manifest
from dct_celery.errors import (
    CloneFailed,
    ConfigError,
    DatabaseError,
    DatabaseUnfit,
    DctError,
    InfrastructureError,
    LeaseLost,
    ProjectError,
    StoreUnavailable,
    TestProcessError,
    Untrusted,
)
from dct_celery.ports import Announced
from dct_celery.protocol.runs import Announcement, ManifestSummary, RunSpec
from dct_celery.protocol.workers import FailedReport, RefusedReport, RunStage, WorkerReport
from dct_celery.worker.host import run_supervisor as supervisors
from dct_celery.worker.host.preparation import Preparation, Refused
from dct_celery.worker.host.run_supervisor import RunSupervisor
from tests.support.factories import KEY_ID, LATER_MS, NONCE, make_spec, run_door
from tests.support.fake_clock import FakeClock

MANIFEST = ManifestSummary(Manifest(()).digest, 0, {})
REFUSED = RefusedReport("the suite differs", permanent=True)


class Ledger:
    """Keeps the reports; the first `failures` calls of any kind find no store."""

    def __init__(
        self, failures: int = 0, spec: RunSpec | Exception | None = None, manifest: object = None
    ) -> None:
        """A `spec` or `manifest` that is an exception is raised."""
        self.failures = failures
        self.reports: list[WorkerReport] = []
        self._spec = spec
        self._manifest = manifest

    def _answer(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise StoreUnavailable("gone")

    def report(self, worker: str, report: WorkerReport) -> None:
        self._answer()
        self.reports.append(report)

    def spec(self) -> RunSpec | None:
        return self._given(self._spec)

    def manifest(self) -> ManifestSummary | None:
        return self._given(self._manifest)

    def _given(self, answer: Any) -> Any:
        self._answer()
        if isinstance(answer, Exception):
            raise answer
        return answer


def supervisor(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, outcome: Exception) -> Any:
    """A supervisor without its thread, whose preparation ends in `outcome`."""
    monkeypatch.setattr(
        supervisors,
        "Preparation",
        Mock(return_value=Mock(prepare=Mock(side_effect=outcome), pool=None)),
    )
    services: Any = Mock(clock=FakeClock(), ledger=lambda run, door: ledger)
    services.name = "build-a"
    announced = Announced(Announcement("run-one", NONCE, 1, LATER_MS), KEY_ID)
    return RunSupervisor(services, announced, 1, lambda: None)


def test_a_refusal_is_reported_though_the_store_was_away_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    ledger = Ledger(failures=2)
    one = supervisor(monkeypatch, ledger, Refused("the suite differs"))
    # When
    one._prepare()
    assert one.state is RunStage.REFUSED
    for _ in range(3):
        one._tend()
    # Then
    assert ledger.reports == [REFUSED]


def test_a_store_that_was_wiped_gets_earlier_reports_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a wipe between the report and the first poll after it
    ledger = Ledger()
    one = supervisor(monkeypatch, ledger, Refused("the suite differs"))
    one._prepare()
    # When
    ledger.reports.clear()
    one.hear(replace(one.announced, announcement=replace(one.announced.announcement, epoch=2)))
    one._tend()
    # Then
    assert ledger.reports == [REFUSED]


def test_a_run_that_a_wiped_store_does_not_know_yet_is_prepared_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    one = supervisor(monkeypatch, Ledger(), LeaseLost("the run is over"))
    # When
    one._prepare()
    # Then: the host removes what has ended, and polls again
    assert one.ended


def test_the_manifest_is_waited_for_while_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    ledger: Any = Ledger(failures=3, manifest=MANIFEST)
    preparation = Preparation(
        Mock(clock=FakeClock()), "run-one", Mock(), ledger, lambda: False, 1, run_door("run-one")
    )
    # Then
    assert preparation._manifest() == MANIFEST


def test_a_run_whose_loader_died_is_prepared_again_once_slots_have_given_back_what_they_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    one = supervisor(monkeypatch, Ledger(), LeaseLost("over"))
    one.state = RunStage.READY
    one._preparation.process.alive.return_value = True
    one._check_loader(100.0)
    assert one.state is RunStage.READY
    # When
    one._preparation.process.alive.return_value = False
    one._check_loader(101.0)
    # Then: nothing is begun here
    assert (one.state, one.ended) == (RunStage.PREPARING, False)
    one._folder.unpublish.assert_called_once_with()
    # And later
    one._check_loader(101.0 + supervisors.GIVE_BACK + 0.1)
    assert one.ended


def test_a_store_that_is_away_while_clones_are_made_is_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given
    one = supervisor(monkeypatch, Ledger(), LeaseLost("over"))
    one.state = RunStage.READY
    one._folder.refusal = ""
    one._preparation.pool = Mock(step=Mock(side_effect=StoreUnavailable("the store is away")))
    # When
    busy = one._tend()
    # Then
    assert not busy
    assert [(r.getMessage(), r.exc_info) for r in caplog.records] == [
        ("run run-one: the store is away", None)
    ]


# -- what no retry fixes -----------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        Refused("the environment differs"),
        ConfigError("no checkout"),
        DatabaseUnfit("may not create databases"),
        Untrusted("has a wrong signature"),
    ],
)
def test_what_no_retry_fixes_is_refused_for_good(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    # Given
    ledger = Ledger()
    # When
    supervisor(monkeypatch, ledger, error)._prepare()
    # Then
    assert ledger.reports == [RefusedReport(str(error), permanent=True)]


@pytest.mark.parametrize(
    "error",
    [
        DatabaseError("is away"),
        CloneFailed("no room"),
        InfrastructureError("no blob"),
        TestProcessError("it died"),
    ],
)
def test_what_a_retry_may_fix_is_refused_for_now(
    monkeypatch: pytest.MonkeyPatch, error: DctError
) -> None:
    # Given
    ledger = Ledger()
    # When
    supervisor(monkeypatch, ledger, error)._prepare()
    # Then
    assert ledger.reports == [RefusedReport(str(error))]


def test_a_project_that_fails_is_no_refusal_and_its_output_is_cut_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    ledger = Ledger()
    # When
    supervisor(
        monkeypatch, ledger, ProjectError("migrate failed", detail="x" * 100_000 + "the end")
    )._prepare()
    # Then
    (report,) = ledger.reports
    assert isinstance(report, FailedReport)
    assert report.message == "migrate failed"
    assert len(report.detail) == 20_000
    assert report.detail.endswith("the end")


def test_a_fault_of_the_worker_itself_is_no_refusal_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    ledger = Ledger()
    one = supervisor(monkeypatch, ledger, ZeroDivisionError("oops"))
    one.end()
    # When
    one._keep()
    # Then
    (report,) = ledger.reports
    assert isinstance(report, RefusedReport)
    assert (report.message, report.permanent) == (
        "internal error of the worker: ZeroDivisionError: oops",
        False,
    )
    assert "Traceback" in report.detail


def preparation(ledger: Any) -> Preparation:
    return Preparation(
        Mock(clock=FakeClock()), "run-one", Mock(), ledger, lambda: False, 1, run_door("run-one")
    )


@pytest.mark.parametrize(
    ("ledger", "ask", "reason"),
    [
        (
            Ledger(spec=Untrusted("has a wrong signature")),
            Preparation._spec,
            "the run's specification has a wrong signature",
        ),
        (
            Ledger(manifest=Untrusted("is malformed")),
            Preparation._manifest,
            "the run's manifest is malformed",
        ),
        (
            Ledger(spec=make_spec(version="0.0.1")),
            Preparation._spec,
            "the dispatcher runs dct_celery 0.0.1, this worker ",
        ),
        (
            Ledger(spec=make_spec(version=__version__, protocol=99)),
            Preparation._spec,
            "the dispatcher runs dct_celery ",
        ),
    ],
    ids=["specification", "manifest", "version", "protocol"],
)
def test_an_untrusted_part_of_a_run_refuses_it(
    ledger: Ledger, ask: Callable[[Preparation], object], reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        ask(preparation(ledger))
    assert refused.value.reason.startswith(reason)


def test_a_run_of_this_version_is_taken() -> None:
    spec = make_spec(version=__version__)
    assert preparation(Ledger(spec=spec))._spec() == spec


def test_a_run_that_is_gone_is_over_and_not_refused() -> None:
    with pytest.raises(LeaseLost):
        preparation(Ledger(spec=None))._spec()
