"""Claims about `worker.host.system_checks`: system checks run once, again after a server's fault,
and are told once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dct_celery.errors import CloneFailed, DatabaseError, DctError, ProjectError
from dct_celery.worker.host.system_checks import SystemChecks


class Pool:
    """Gives clones unless the test refuses them; notes what comes back."""

    def __init__(self) -> None:
        self.taken, self.back = 0, list[str]()
        self.paused: list[DctError] = []
        self.empty = False

    def take_all(self) -> dict[str, str]:
        if self.empty:
            raise CloneFailed("disk full")
        self.taken += 1
        return {"default": f"test_{self.taken}"}

    def give_back(self, names: Any) -> None:
        self.back += list(names)

    def pause(self, error: DctError) -> None:
        self.paused.append(error)


class Scene:
    """Checks that find one of these after the other, then nothing."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.found: list[Exception] = []
        templates: Any = type("Templates", (), {"run_checks": self._run})()
        pool: Any = self.pool
        self.woken = threading.Event()
        self.checks = SystemChecks(templates, pool, self.woken.set)
        #: Set by a test whose checks take long to clean up.
        self.cleaned_up = threading.Event()
        self.cleaned_up.set()

    def _run(self, names: dict[str, str], passed: Callable[[], None]) -> None:
        if self.found:
            raise self.found.pop(0)
        passed()
        self.cleaned_up.wait(10)

    def round(self) -> DctError | bool:
        """The pool's thread once around; the checks have ended by then."""
        self.checks.start()
        self.checks.join()
        return self.checks.news()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_checks_that_pass_are_to_report_until_they_are(scene: Scene) -> None:
    # When / Then
    assert scene.round() is True
    assert scene.checks.news() is True
    scene.checks.reported()
    assert scene.checks.news() is False
    # And they do not run again
    scene.round()
    assert scene.pool.taken == 1
    assert scene.pool.back == ["test_1"]


def test_checks_that_pass_are_news_before_their_process_has_ended(scene: Scene) -> None:
    # Given
    scene.cleaned_up.clear()
    # When
    scene.checks.start()
    scene.woken.wait(10)
    # Then
    assert scene.checks.news() is True
    assert scene.pool.back == []
    # And their clones are given back later
    scene.cleaned_up.set()
    scene.checks.join()
    assert scene.pool.back == ["test_1"]


def test_what_they_find_is_to_report(scene: Scene) -> None:
    # Given
    scene.found = [ProjectError("W001")]
    # When / Then
    assert str(scene.round()) == "W001"
    assert scene.woken.is_set()
    assert not scene.checks.passed
    assert scene.pool.back == ["test_1"]


def test_a_fault_of_the_server_is_not_reported_and_they_run_again_after_a_pause(
    scene: Scene,
) -> None:
    # Given
    scene.found = [DatabaseError("is away"), DatabaseError("is away")]
    # When / Then
    assert [scene.round() for _ in range(3)] == [False, False, True]
    assert len(scene.pool.paused) == 2
    assert scene.pool.back == ["test_1", "test_2", "test_3"]


def test_a_server_that_keeps_them_from_an_answer_five_times_is_reported(scene: Scene) -> None:
    # Given
    scene.found = [DatabaseError(f"is away {number}") for number in range(9)]
    # When
    news = [scene.round() for _ in range(5)]
    # Then
    assert news[:4] == [False] * 4
    assert str(news[4]) == "is away 4"


def test_without_clones_they_are_not_begun_and_may_be_later(scene: Scene) -> None:
    # Given
    scene.pool.empty = True
    # When / Then
    with pytest.raises(CloneFailed):
        scene.checks.start()
    assert scene.checks.news() is False
    scene.pool.empty = False
    assert scene.round() is True


def test_a_template_that_was_built_here_was_checked_with_it(scene: Scene) -> None:
    # Given
    scene.checks.passed = True
    # When
    scene.checks.start()
    # Then
    assert scene.pool.taken == 0
    assert scene.checks.news() is False
