"""Claims about `worker.host.preparation`: for how long it waits for what, and that the end of the
run ends every wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.core.model import Manifest
from dct_celery.errors import DatabaseError, LeaseLost, ServerFault, StoreUnavailable, Untrusted
from dct_celery.protocol.runs import ManifestSummary
from dct_celery.settings import Settings
from dct_celery.worker.host.preparation import BELIEF_SECONDS, Preparation, Refused
from tests.support.factories import run_door
from tests.support.fake_clock import FakeClock

MANIFEST = ManifestSummary(Manifest(()).digest, 0, {})


class Step:
    """Fails with this until its time has come; notes when it is tried."""

    def __init__(self, clock: FakeClock, error: Callable[[], Exception], seconds: float) -> None:
        self._clock, self._error, self._end = clock, error, clock.now + seconds
        self.tries: list[float] = []

    def __call__(self) -> str:
        self.tries.append(self._clock.now - 1000.0)
        if self._clock.now < self._end:
            raise self._error()
        return "done"


class Scene:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.over = False
        self.ledger = Mock()
        self.preparation: Any = Preparation(
            Mock(clock=self.clock, settings=Settings()),
            "run-one",
            Mock(),
            self.ledger,
            lambda: self.over,
            4,
            run_door("run-one"),
        )


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    return Scene()


def lacks(fault: ServerFault | None) -> Callable[[], Exception]:
    return lambda: DatabaseError("it failed", fault=fault)


def test_a_server_that_is_away_is_waited_for_with_longer_pauses_up_to_four_seconds(
    scene: Scene,
) -> None:
    # Given
    step = Step(scene.clock, lacks(ServerFault.AWAY), 19.0)
    # When / Then
    assert scene.preparation._patiently(120.0, step) == "done"
    assert step.tries == pytest.approx([0, 1, 3, 6, 10, 14, 18, 22])


def test_a_server_that_stays_away_is_given_up_when_its_time_is_over(scene: Scene) -> None:
    # Given
    step = Step(scene.clock, lacks(ServerFault.AWAY), 1e9)
    # When / Then
    with pytest.raises(DatabaseError):
        scene.preparation._patiently(3.5, step)
    assert step.tries == pytest.approx([0, 1, 3, 6])


@pytest.mark.parametrize("fault", [ServerFault.CONNECTIONS, ServerFault.DISK])
def test_a_server_that_lacks_something_is_tried_four_times_however_long_it_may_be_away(
    scene: Scene, fault: ServerFault
) -> None:
    # Given
    step = Step(scene.clock, lacks(fault), 1e9)
    # When / Then
    with pytest.raises(DatabaseError):
        scene.preparation._patiently(120.0, step)
    assert step.tries == pytest.approx([0, 1, 3, 7])
    assert len(step.tries) == 1 + Settings().database_retries


def test_what_is_not_the_servers_fault_is_tried_once(scene: Scene) -> None:
    # Given
    step = Step(scene.clock, lacks(None), 1e9)
    # When / Then
    with pytest.raises(DatabaseError):
        scene.preparation._patiently(120.0, step)
    assert step.tries == [0.0]


def test_a_store_is_waited_for_however_long_it_is_away(scene: Scene) -> None:
    # Given
    step = Step(scene.clock, lambda: StoreUnavailable("gone"), 500.0)
    # When / Then
    assert scene.preparation._persistently(step) == "done"
    assert 800 < len(step.tries) <= 1001


def test_what_is_not_signed_is_asked_for_again_for_twenty_seconds(scene: Scene) -> None:
    # Given
    step = Step(scene.clock, lambda: Untrusted("has a wrong signature"), 1e9)
    # When / Then
    with pytest.raises(Refused, match="the run's manifest has a wrong signature"):
        scene.preparation._believed("manifest", step)
    assert step.tries[-1] == pytest.approx(BELIEF_SECONDS, abs=0.6)


def test_what_its_dispatcher_corrects_in_time_is_accepted(scene: Scene) -> None:
    # Given
    step = Step(scene.clock, lambda: Untrusted("has a wrong signature"), BELIEF_SECONDS - 1)
    # When / Then
    assert scene.preparation._believed("manifest", step) == "done"


@pytest.mark.parametrize(
    "error",
    [lacks(ServerFault.AWAY), lambda: StoreUnavailable("gone"), lambda: Untrusted("is malformed")],
    ids=["database server", "store", "signature"],
)
def test_the_end_of_the_run_ends_every_wait_within_a_moment(
    scene: Scene, error: Callable[[], Exception]
) -> None:
    # Given
    step = Step(scene.clock, error, 1e9)
    scene.clock.at(3.3, lambda: setattr(scene, "over", True))
    # When / Then
    with pytest.raises(LeaseLost):
        scene.preparation._patiently(
            120.0,
            lambda: scene.preparation._believed(
                "specification", lambda: scene.preparation._persistently(step)
            ),
        )
    assert scene.clock.now - 1000.0 == pytest.approx(3.4, abs=0.11)


def test_clones_are_made_while_the_manifest_is_waited_for(scene: Scene) -> None:
    # Given
    ready: list[ManifestSummary] = []
    scene.clock.at(1.0, lambda: ready.append(MANIFEST))
    scene.ledger.manifest = lambda: ready[0] if ready else None
    steps: list[float] = []
    scene.preparation.pool = Mock(step=lambda: steps.append(scene.clock.now), filled=False)
    scene.preparation.checks = Mock()
    # When / Then
    assert scene.preparation._manifest() == MANIFEST
    assert len(steps) == pytest.approx(50, abs=2)


@pytest.mark.parametrize(("filled", "room"), [(1.0, 2.0), (2.0, 1.0)])
def test_system_checks_begin_before_the_manifest_is_there_once_slots_have_their_clones(
    scene: Scene, filled: float, room: float
) -> None:
    # Given a pool that is filled after a while, and a server that has no room at first
    ready: list[ManifestSummary] = []
    scene.clock.at(3.0, lambda: ready.append(MANIFEST))
    scene.ledger.manifest = lambda: ready[0] if ready else None
    pool = scene.preparation.pool = Mock(step=lambda: False, filled=False, quiet=True)
    scene.clock.at(filled, lambda: setattr(pool, "filled", True))
    scene.clock.at(room, lambda: setattr(pool, "quiet", False))
    began: list[float] = []
    scene.preparation.checks = Mock(start=lambda: began.append(scene.clock.now))
    # When
    scene.preparation._manifest()
    # Then
    assert began[0] == pytest.approx(1002.0, abs=0.05)


def test_system_checks_that_get_no_clone_do_not_keep_a_run_from_being_prepared(
    scene: Scene,
) -> None:
    # Given
    ready: list[ManifestSummary] = []
    scene.clock.at(1.0, lambda: ready.append(MANIFEST))
    scene.ledger.manifest = lambda: ready[0] if ready else None
    scene.preparation.pool = Mock(step=lambda: False, filled=True, quiet=False)
    scene.preparation.checks = Mock(start=Mock(side_effect=DatabaseError("disk full")))
    # When / Then
    assert scene.preparation._manifest() == MANIFEST


def test_each_step_of_the_preparation_is_timed(scene: Scene) -> None:
    # When
    scene.clock.now += 1.5
    scene.preparation._step("load")
    scene.clock.now += 0.25
    scene.preparation._step("connect")
    # Then
    assert scene.preparation._steps == {"load": 1.5, "connect": 0.25}
