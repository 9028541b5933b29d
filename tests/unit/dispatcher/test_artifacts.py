"""Claims about `dispatcher.artifacts`: files are fetched when their verdict is given, and a missing
one is named.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.core.ids import digest_of
from dct_celery.core.model import Artifact, Outcome, Verdict
from dct_celery.dispatcher import artifacts as module
from dct_celery.dispatcher.artifacts import ArtifactFetcher
from dct_celery.errors import StoreUnavailable
from dct_celery.ports.reporting import ArtifactArrived
from dct_celery.security import masking
from tests.support.factories import group, make_manifest
from tests.support.memory_ledger import MemoryBlobs, MemoryStore
from tests.support.reporters import Listener

CONTENT = b"printed"


class Scene:
    def __init__(self, *, folder: str | None = "artifacts") -> None:
        self.blobs = MemoryBlobs(MemoryStore())
        self.listener = Listener()
        #: Names of artifacts that an earlier dispatcher has kept.
        self.kept: list[str] = []
        services: Any = Mock(
            files=self.blobs,
            report=self.listener.take,
            has_artifact=lambda entry, artifact: artifact.name in self.kept,
        )
        services.settings.artifacts = folder
        self.fetcher = ArtifactFetcher(services)

    def verdict(self, content: bytes = CONTENT, *, sent: bool = True) -> Verdict:
        artifact = Artifact("output.txt", len(content), digest_of(content))
        if sent:
            self.blobs.put([(artifact.digest, content)])
        return Verdict(
            make_manifest(group("app.tests.A"))[0], Outcome.FAILED, artifacts=(artifact,)
        )

    @property
    def arrived(self) -> list[bytes]:
        return [event.content for event in self.listener.all(ArtifactArrived)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_file_is_fetched_once_and_leaves_the_store_at_the_end(scene: Scene) -> None:
    # Given
    verdict = scene.verdict()
    scene.fetcher.want(verdict)
    # When
    scene.fetcher.fetch()
    scene.fetcher.fetch()
    scene.fetcher.finish()
    # Then
    assert scene.arrived == [CONTENT]
    assert scene.blobs.missing([verdict.artifacts[0].digest])


def test_two_tests_that_left_the_same_content_have_a_file_each(scene: Scene) -> None:
    # Given
    for _ in range(2):
        scene.fetcher.want(scene.verdict())
    # When
    scene.fetcher.fetch()
    scene.fetcher.fetch()
    # Then
    assert scene.arrived == [CONTENT, CONTENT]
    assert scene.listener.warnings == []


def test_a_store_that_is_away_at_the_end_is_a_warning(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    scene.fetcher.want(scene.verdict())
    monkeypatch.setattr(scene.blobs, "get", Mock(side_effect=StoreUnavailable("away")))
    # When
    scene.fetcher.finish()
    # Then
    assert scene.listener.warnings == ["the files of 1 test were not fetched: away"]


def test_a_round_fetches_one_and_the_end_of_a_run_all(scene: Scene) -> None:
    # Given
    for number in range(3):
        scene.fetcher.want(scene.verdict(b"%d" % number))
    # When
    scene.fetcher.fetch()
    # Then
    assert len(scene.arrived) == 1
    # When
    scene.fetcher.finish()
    # Then
    assert scene.arrived == [b"0", b"1", b"2"]


def test_one_that_did_not_arrive_is_a_warning(scene: Scene) -> None:
    # When
    scene.fetcher.want(scene.verdict(sent=False))
    scene.fetcher.fetch()
    # Then
    assert scene.arrived == []
    (warning,) = scene.listener.warnings
    assert warning.startswith("output.txt of ")
    assert warning.endswith(" did not arrive from its worker")


def test_one_that_an_earlier_dispatcher_has_kept_is_not_missed(scene: Scene) -> None:
    # Given
    scene.kept.append("output.txt")
    # When
    scene.fetcher.want(scene.verdict(sent=False))
    scene.fetcher.fetch()
    # Then
    assert scene.listener.events == []


def test_a_store_that_is_away_is_asked_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    scene.fetcher.want(scene.verdict())
    with monkeypatch.context() as away:
        away.setattr(scene.blobs, "get", Mock(side_effect=StoreUnavailable("away")))
        with pytest.raises(StoreUnavailable):
            scene.fetcher.fetch()
    # When
    scene.fetcher.fetch()
    # Then
    assert scene.arrived == [CONTENT]


def test_a_run_takes_so_much_and_says_that_the_rest_is_not_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(module, "MAX_ARTIFACTS", len(CONTENT))
    verdicts = [scene.verdict(content) for content in (CONTENT, b"more", b"and more")]
    for verdict in verdicts:
        scene.fetcher.want(verdict)
    # When
    scene.fetcher.finish()
    # Then
    assert scene.arrived == [CONTENT]
    assert len(scene.listener.warnings) == 1
    assert len(scene.blobs.missing([one.artifacts[0].digest for one in verdicts])) == 3


def test_without_the_option_nothing_is_fetched() -> None:
    # Given
    scene = Scene(folder=None)
    # When
    scene.fetcher.want(scene.verdict())
    scene.fetcher.fetch()
    # Then
    assert scene.listener.events == []


def test_secrets_are_masked_in_text(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(masking, "PROCESS", masking.Masker())
    masking.PROCESS.learn(["swordfish-and-chips"])
    # When
    scene.fetcher.want(scene.verdict(b"it is swordfish-and-chips"))
    scene.fetcher.fetch()
    # Then
    assert scene.arrived == [b"it is **"]


def test_what_is_no_text_stays_as_it_is(scene: Scene) -> None:
    # When
    scene.fetcher.want(scene.verdict(b"\xff\x00binary"))
    scene.fetcher.fetch()
    # Then
    assert scene.arrived == [b"\xff\x00binary"]
