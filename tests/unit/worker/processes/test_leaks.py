"""Claims about `worker.processes.leaks`: which test is named for a process that was left, and when
a test process is worn out.
"""

from __future__ import annotations

from typing import Any

import pytest

from dct_celery.core.run.leaks import LeakKind, LeakRecord
from dct_celery.wire.messages import ChunkFinished
from dct_celery.worker.processes import leaks
from dct_celery.worker.processes.leaks import MAX_GROWTH, leaks_of, wears_out
from dct_celery.worker.processes.strays import Stray
from tests.support.fake_clock import FakeClock
from tests.support.fake_process import FakeProcess

THREAD = LeakRecord(LeakKind.THREAD, "worker")
STATE = LeakRecord(LeakKind.STATE, "os.environ['A']")


class Started(Stray):
    """A stray that was started within these seconds."""

    span: tuple[float, float]

    def __init__(self, pid: int, earliest: float, latest: float, parent: int = 0) -> None:
        super().__init__(pid, 0, parent, "sleep 60")
        object.__setattr__(self, "span", (earliest, latest))

    @property
    def started(self) -> tuple[float, float]:
        return self.span


class Scene:
    """A chunk of the tests 7, 8 and 9, which began at 10, 20 and 30 s."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process: Any = FakeProcess(FakeClock())
        self.ended: list[Stray] = []
        monkeypatch.setattr(leaks, "end", lambda strays, clock: self.ended.extend(strays))

    def told(
        self,
        *strays: Stray,
        said: tuple[LeakRecord, ...] = (),
        began: tuple[float, ...] = (10.0, 20.0, 30.0),
    ) -> list[LeakRecord]:
        self.process.left = list(strays)
        message = ChunkFinished("c1", 3, {}, leaks=said, began=began)
        return leaks_of(self.process, (7, 8, 9), message, FakeClock())


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


@pytest.mark.parametrize(
    ("earliest", "latest", "first", "last"),
    [
        (11.0, 12.0, 7, 7),
        (25.0, 25.1, 8, 8),
        (99.0, 99.0, 9, 9),
        (19.9, 20.1, 7, 8),
        (9.9, 10.1, 7, 7),
        (20.0, 20.0, 8, 8),
    ],
)
def test_a_process_is_reported_with_the_tests_that_ran_when_it_was_started(
    scene: Scene, earliest: float, latest: float, first: int, last: int
) -> None:
    # When
    (leak,) = scene.told(Started(4711, earliest, latest))
    # Then
    assert leak == LeakRecord(LeakKind.PROCESS, "4711, sleep 60", first=first, last=last)


@pytest.mark.parametrize("began", [(), (10.0,)])
def test_a_process_from_before_all_tests_is_reported_with_none(
    scene: Scene, began: tuple[float, ...]
) -> None:
    assert scene.told(Started(4711, 1.0, 2.0), began=began) == [
        LeakRecord(LeakKind.PROCESS, "4711, sleep 60")
    ]


def test_of_a_process_tree_the_root_is_reported_and_all_are_ended(scene: Scene) -> None:
    # Given
    parent, child = Started(200, 11.0, 11.0), Started(201, 11.0, 11.0, parent=200)
    # When
    told = scene.told(parent, child)
    # Then
    assert [leak.what for leak in told] == ["200, sleep 60"]
    assert scene.ended == [parent, child]


def test_leaks_that_the_process_reports_come_last_and_the_list_is_bounded(
    scene: Scene,
) -> None:
    # When
    told = scene.told(Started(200, 11.0, 11.0), said=(THREAD,) * 80)
    # Then
    assert told[0].kind is LeakKind.PROCESS
    assert len(told) == 50


@pytest.mark.parametrize(
    ("grown", "told", "worn"),
    [
        (0, [], False),
        (0, [STATE], False),
        (0, [LeakRecord(LeakKind.FILE, "media/a.txt")], False),
        (0, [THREAD], True),
        (MAX_GROWTH, [], False),
        (MAX_GROWTH + 1, [], True),
    ],
)
def test_a_process_is_worn_out_by_what_goes_on_in_it_or_by_its_size(
    scene: Scene, grown: int, told: list[LeakRecord], worn: bool
) -> None:
    # Given
    scene.process.grown = grown
    # Then
    assert wears_out(scene.process, told) is worn
