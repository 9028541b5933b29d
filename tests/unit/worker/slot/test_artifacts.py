"""Claims about `worker.slot.artifacts`: what a test left is sent if it is what its record says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dct_celery.core.ids import digest_of
from dct_celery.core.model import Artifact
from dct_celery.errors import StoreUnavailable
from dct_celery.worker.slot import artifacts as module
from dct_celery.worker.slot.artifacts import Artifacts, Send

CONTENT = b"printed\n" * 100
ARTIFACT = Artifact("output.txt", len(CONTENT), digest_of(CONTENT))


class Store:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.away = False

    def send(self, files: object) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.files.update(files)  # type: ignore[call-overload]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def made(tmp_path: Path, store: Store) -> Artifacts:
    send: Send = store.send
    (tmp_path / ARTIFACT.digest).write_bytes(CONTENT)
    return Artifacts(tmp_path, send)


def test_what_a_record_names_is_sent_once(made: Artifacts, store: Store) -> None:
    # When
    made.note([ARTIFACT])
    made.send()
    # Then
    assert store.files == {ARTIFACT.digest: CONTENT}
    # When
    store.files.clear()
    made.send()
    # Then
    assert store.files == {}


def test_a_store_that_is_away_gets_it_later(made: Artifacts, store: Store) -> None:
    # Given
    store.away = True
    made.note([ARTIFACT])
    with pytest.raises(StoreUnavailable):
        made.send()
    # When
    store.away = False
    made.send()
    # Then
    assert list(store.files) == [ARTIFACT.digest]


def test_a_store_that_lost_them_gets_all_of_them_again(made: Artifacts, store: Store) -> None:
    # Given
    made.note([ARTIFACT])
    made.send()
    store.files.clear()
    # When
    made.send_again()
    made.send()
    # Then
    assert list(store.files) == [ARTIFACT.digest]


def other_content(path: Path) -> None:
    path.write_bytes(CONTENT[::-1])


def longer(path: Path) -> None:
    path.write_bytes(CONTENT + b"and more")


def a_link(path: Path) -> None:
    secret = path.parent / "secret"
    secret.write_bytes(CONTENT)
    path.unlink()
    path.symlink_to(secret)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def nothing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "put", [other_content, longer, a_link, a_pipe, a_folder, nothing], ids=lambda put: put.__name__
)
def test_what_is_not_the_file_that_was_named_is_not_sent(
    made: Artifacts, store: Store, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    # Given
    put(tmp_path / ARTIFACT.digest)
    # When
    made.note([ARTIFACT])
    made.send()
    # Then
    assert store.files == {}


def test_an_attempt_with_too_much_of_it_sends_the_first(
    made: Artifacts, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(module, "MAX_BYTES", len(CONTENT))
    more = Artifact("output.txt", 4, digest_of(b"more"))
    (tmp_path / more.digest).write_bytes(b"more")
    # When
    made.note([ARTIFACT, more])
    made.send()
    # Then
    assert list(store.files) == [ARTIFACT.digest]


def test_nothing_stays_on_the_worker(made: Artifacts, tmp_path: Path) -> None:
    # Given
    made.note([ARTIFACT])
    # When
    made.close()
    # Then
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_end_of_the_attempt_names_is_sent_under_its_digest(
    tmp_path: Path, made: Artifacts, store: Store
) -> None:
    # Given
    (tmp_path / "coverage").write_bytes(b"data")
    # When
    kept = made.keep(tmp_path / "coverage")
    made.send()
    # Then
    assert kept == Artifact("coverage", 4, digest_of(b"data"))
    assert store.files == {digest_of(b"data"): b"data"}
    # When
    made.close()
    # Then
    assert [path.name for path in tmp_path.iterdir()] == [ARTIFACT.digest]


def test_a_file_that_is_too_large_is_named_by_nothing(
    tmp_path: Path, made: Artifacts, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(module, "MAX_ARTIFACT", 3)
    (tmp_path / "coverage").write_bytes(b"data")
    # When / Then
    assert made.keep(tmp_path / "coverage") is None
    assert made.keep(tmp_path / "missing") is None
    made.send()
    assert store.files == {}
