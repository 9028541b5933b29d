"""Claims about `worker.host.run_supervisor`: one run on a worker from start to clean-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.errors import DctError, InfrastructureError, ProjectError, StoreUnavailable
from dct_celery.ports import Announced
from dct_celery.protocol.runs import Announcement, RunState
from dct_celery.protocol.workers import (
    CheckedReport,
    FailedReport,
    ReadyReport,
    RefusedReport,
    RunStage,
    UsageReport,
    WorkerReport,
)
from dct_celery.settings import Settings
from dct_celery.wire.messages import Loaded
from dct_celery.worker.folders.work_folder import WorkFolder
from dct_celery.worker.host import run_supervisor as supervisors
from dct_celery.worker.host.preparation import Prepared
from dct_celery.worker.host.run_supervisor import (
    CHECKS_AFTER,
    GIVE_BACK,
    LINGER,
    POOL_PAUSE,
    RETIRE_SECONDS,
    RunSupervisor,
)
from tests.support.factories import KEY_ID, LATER_MS, NONCE, pool_door
from tests.support.fake_clock import FakeClock

RUN = "run-one"


class Ledger:
    """Keeps the reports."""

    def __init__(self) -> None:
        self.reports: list[WorkerReport] = []
        self.run_state = RunState.OPEN
        self.abandoned = self.away = False
        self.on_report: Callable[[], object] = lambda: None

    def report(self, worker: str, report: WorkerReport) -> None:
        if self.away:
            raise StoreUnavailable("gone")
        self.reports.append(report)
        self.on_report()

    def state(self) -> RunState:
        return self.run_state

    def abandon(self) -> bool:
        self.abandoned = True
        return True


class Pool:
    """Has so many steps of work left."""

    def __init__(self) -> None:
        self.work, self.steps, self.filled, self.quiet = 0, 0, False, False

    def step(self) -> bool:
        self.steps += 1
        self.work -= 1
        return self.work >= 0


class Checks:
    """Begin when the supervisor begins them; a test says what they found."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.began: list[float] = []
        self.found: DctError | bool = False
        self.was_reported = False

    def start(self) -> None:
        self.began.append(self._clock.now)

    def news(self) -> DctError | bool:
        return self.found and not self.was_reported and self.found

    def reported(self) -> None:
        self.was_reported = True


class Scene:
    """A run that its preparation makes ready at once."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.ledger, self.pool = FakeClock(), Ledger(), Pool()
        self.checks = Checks(self.clock)
        self.alive = True
        self.use: dict[str, float] = {}
        prepared = Prepared(
            Loaded(2, "ab", 0.1, {}, []), [], "ab" * 32, "owner", slots=2, templates="reused"
        )
        self.preparation = Mock(pool=self.pool, checks=self.checks)
        self.preparation.prepare.return_value = prepared
        self.preparation.process.alive = lambda: self.alive
        self.preparation.database_use = lambda: self.use
        self.swept: list[Path] = []
        monkeypatch.setattr(supervisors, "Preparation", Mock(return_value=self.preparation))
        monkeypatch.setattr(
            supervisors, "end_marked", lambda folder, clock: self.swept.append(folder)
        )
        self.folder = WorkFolder(folder).run(RUN)
        self.folder.create()
        services: Any = type("Services", (), {})()
        services.clock, services.door, services.folder = self.clock, pool_door(), WorkFolder(folder)
        services.name, services.host, services.settings = "build-a@host", "host", Settings()
        services.ledger = lambda run, door: self.ledger
        self.became_ready: list[float] = []
        announced = Announced(Announcement(RUN, NONCE, 1, LATER_MS), KEY_ID)
        self.supervisor: Any = RunSupervisor(
            services, announced, 4, lambda: self.became_ready.append(self.clock.now)
        )

    def live_for(self, seconds: float) -> None:
        """The run's thread, from its beginning to its end so much later."""
        self.clock.at(seconds, self.supervisor.end)
        self.supervisor._keep()

    def ready(self) -> None:
        """The run is ready, and what is to be said of that was said."""
        self.supervisor._prepare()
        self.ledger.reports.clear()

    def reports(self, kind: type) -> list[Any]:
        return [report for report in self.ledger.reports if isinstance(report, kind)]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_nothing_is_prepared_before_the_start(scene: Scene) -> None:
    assert not scene.supervisor._thread.is_alive()
    assert not scene.preparation.prepare.called
    assert scene.supervisor.done


def test_a_run_is_prepared_offered_to_the_slots_reported_and_cleaned_up(scene: Scene) -> None:
    # Given
    seen: list[object] = []
    scene.clock.at(1.0, lambda: seen.extend([scene.supervisor.state, scene.folder.published()]))
    # When
    scene.live_for(5.0)
    # Then
    stage, published = seen
    assert stage is RunStage.READY
    assert published.owner == "owner"  # type: ignore[attr-defined]
    assert scene.became_ready == [1000.0]
    (report,) = scene.reports(ReadyReport)
    assert (report.host, report.templates, report.checked) == ("host", "reused", False)
    assert scene.supervisor.state is RunStage.OVER
    assert not scene.folder.path.exists()
    assert scene.swept == [scene.folder.path]
    scene.preparation.close.assert_called_once_with()


def test_the_slots_that_the_servers_have_room_for_are_those_that_count(scene: Scene) -> None:
    # When
    scene.ready()
    # Then
    assert (scene.supervisor.fit, scene.supervisor.working) == (2, 2)
    # And one that backs off is not counted
    (scene.folder.backoff / "0").write_text(f"{scene.clock.now + 5} no room")
    assert (scene.supervisor.backing_off(), scene.supervisor.working) == (["no room"], 1)
    scene.clock.now += 5
    assert scene.supervisor.working == 2


def test_there_is_no_pause_while_the_pool_has_work(scene: Scene) -> None:
    # Given
    scene.pool.work = 7
    # When
    scene.live_for(3.5 * POOL_PAUSE)
    # Then
    assert scene.clock.waits == [POOL_PAUSE] * 4
    assert scene.pool.steps == 7 + 4


def test_a_pool_that_fails_does_not_end_the_run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(scene.pool, "step", lambda: 1 // 0)
    # When
    scene.live_for(5.0)
    # Then
    assert scene.clock.now >= 1005.0


# -- what is reported --------------------------------------------------------------------


def test_new_use_of_databases_is_reported_once_a_second(
    scene: Scene,
) -> None:
    # Given
    scene.clock.at(0.5, lambda: scene.use.update(cloned=2.0))
    scene.clock.at(0.9, lambda: scene.use.update(cloned=3.0))
    scene.clock.at(3.5, lambda: scene.use.update(cloned=5.0))
    # When
    scene.live_for(6.0)
    # Then
    assert [report.use for report in scene.reports(UsageReport)] == [
        {"cloned": 3.0},
        {"cloned": 2.0},
    ]


def test_what_a_slot_finds_that_keeps_the_worker_from_the_run_refuses_it(scene: Scene) -> None:
    # Given
    scene.ready()
    # When
    scene.folder.refuse("default leads to db.other")
    scene.supervisor._tend()
    # Then
    assert scene.ledger.reports == [RefusedReport("default leads to db.other", permanent=True)]
    assert scene.folder.published() is None
    assert scene.supervisor.state is RunStage.REFUSED


def test_checks_begin_once_the_slots_have_their_clones(scene: Scene) -> None:
    # Given
    scene.clock.at(1.0, lambda: setattr(scene.pool, "filled", True))
    # When
    scene.live_for(1.2)
    # Then
    assert scene.checks.began[0] == pytest.approx(1001.0, abs=POOL_PAUSE)


def test_what_the_checks_found_is_reported_when_they_wake_the_run(scene: Scene) -> None:
    # Given
    wake = supervisors.Preparation.call_args.args[-1]  # type: ignore[attr-defined]

    def end() -> None:
        scene.checks.found = True
        wake()

    moment = 1.25 * POOL_PAUSE
    scene.clock.at(moment, end)
    reported: list[float] = []
    scene.ledger.on_report = lambda: reported.append(scene.clock.now - 1000.0)
    # When
    scene.live_for(1.0)
    # Then
    assert reported[-1] == moment


def test_checks_begin_after_a_while_though_a_slot_has_none(scene: Scene) -> None:
    # When
    scene.live_for(5.0)
    # Then
    assert scene.checks.began[0] == pytest.approx(1000.0 + CHECKS_AFTER, abs=2 * POOL_PAUSE)


def test_checks_do_not_begin_while_the_server_refuses_clones(scene: Scene) -> None:
    # Given
    scene.pool.quiet = scene.pool.filled = True
    # When
    scene.live_for(5.0)
    # Then
    assert scene.checks.began == []


@pytest.mark.parametrize(
    ("found", "report"),
    [
        (True, CheckedReport()),
        (ProjectError("W001", detail="hint"), FailedReport("W001", "hint")),
        (InfrastructureError("gone"), RefusedReport("system checks could not be run: gone")),
    ],
    ids=["passed", "failed", "not run"],
)
def test_what_checks_found_is_reported_once(
    scene: Scene, found: DctError | bool, report: WorkerReport
) -> None:
    # Given
    scene.ready()
    # When
    scene.checks.found = found
    for _ in range(3):
        scene.supervisor._tend()
    # Then
    assert [one for one in scene.ledger.reports if not isinstance(one, UsageReport)] == [report]


def test_reports_wait_for_a_store_that_is_away_in_their_order(scene: Scene) -> None:
    # Given
    scene.ledger.away = True
    scene.supervisor._prepare()
    scene.checks.found = True
    scene.supervisor._tend()
    # When
    scene.ledger.away = False
    scene.supervisor._tend()
    # Then
    assert [type(report) for report in scene.ledger.reports] == [ReadyReport, CheckedReport]


# -- whether it is still wanted ----------------------------------------------------------


def test_a_run_that_was_closed_is_over_at_once(scene: Scene) -> None:
    scene.ledger.run_state = RunState.CLOSED
    assert not scene.supervisor.still_wanted()
    assert not scene.ledger.abandoned


def test_a_run_that_is_not_announced_any_more_is_kept_for_a_while(scene: Scene) -> None:
    # When
    scene.clock.now += LINGER - 1
    # Then
    assert scene.supervisor.still_wanted()
    assert not scene.supervisor.stale
    # And then given up for good
    scene.clock.now += 2
    assert scene.supervisor.stale
    assert not scene.supervisor.still_wanted()
    assert scene.ledger.abandoned


@pytest.mark.parametrize(
    ("later_ms", "stale"), [(0, True), (1, False)], ids=["the same announcement", "a newer one"]
)
def test_only_a_newer_announcement_shows_that_the_dispatcher_lives(
    scene: Scene, later_ms: int, stale: bool
) -> None:
    # Given
    scene.clock.now += LINGER + 1
    before = scene.supervisor.announced
    # When
    again = replace(before.announcement, expires_ms=before.announcement.expires_ms + later_ms)
    scene.supervisor.hear(replace(before, announcement=again))
    # Then
    assert scene.supervisor.stale is stale


# -- the end -----------------------------------------------------------------------------


def test_a_dead_loader_restarts_the_run_when_slots_have_given_back_what_they_had(
    scene: Scene,
) -> None:
    # Given
    scene.clock.at(2.0, lambda: setattr(scene, "alive", False))
    published: list[object] = []
    scene.clock.at(3.0, lambda: published.append(scene.folder.published()))
    # When: nothing ends it
    scene.supervisor._keep()
    # Then
    assert published == [None]
    assert scene.clock.now - 1000.0 == pytest.approx(2.0 + GIVE_BACK, abs=0.3)
    assert scene.supervisor.ended


def test_the_end_kills_the_loader_so_that_nothing_waits_for_it(scene: Scene) -> None:
    # Given
    scene.preparation.lasting = False
    # When
    scene.supervisor.end()
    scene.supervisor.end()
    # Then
    scene.preparation.process.kill.assert_called_once_with()
    assert scene.folder.over


@pytest.mark.parametrize("stage", [RunStage.PREPARING, RunStage.READY])
def test_a_loader_that_has_something_to_tear_down_is_not_killed(
    scene: Scene, stage: RunStage
) -> None:
    # Given
    scene.preparation.lasting = True
    scene.supervisor.state = stage
    # When
    scene.supervisor.end()
    # Then
    scene.preparation.process.kill.assert_not_called()


@pytest.mark.parametrize(
    ("given_back", "waited"),
    [(0.0, 0.0), (3.0, 3.0), (99.0, RETIRE_SECONDS)],
    ids=["none", "soon", "too late"],
)
def test_slots_get_some_time_to_give_back_their_clones(
    scene: Scene, given_back: float, waited: float
) -> None:
    # Given
    if given_back:
        scene.folder.clones.note("test_a", "default")
        scene.clock.at(given_back, lambda: scene.folder.clones.forget("test_a"))
    closed: list[float] = []
    scene.preparation.close = lambda: closed.append(scene.clock.now - 1000.0)
    # When
    scene.supervisor._clean_up()
    # Then
    assert closed == [pytest.approx(waited, abs=0.06)]
    assert not scene.folder.path.exists()


def test_a_clean_up_that_fails_still_removes_folder_and_processes(scene: Scene) -> None:
    # Given
    scene.preparation.close.side_effect = InfrastructureError("gone")
    # When
    scene.live_for(0.5)
    # Then
    assert scene.swept == [scene.folder.path]
    assert not scene.folder.path.exists()
