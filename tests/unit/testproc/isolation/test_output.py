"""Claims about `testproc.isolation.output`: a long output is kept whole, as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dct_celery.core.ids import digest_of
from dct_celery.testproc.isolation import output
from dct_celery.testproc.isolation.output import HEAD, OutputFile


class Kept(OutputFile):
    """Reads a file without being behind the descriptors of this process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._taken = 0
        self._own = ()  # type: ignore[assignment]

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path / "log")
    yield made
    os.close(made._fd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "artifacts"
    made.mkdir()
    return made


def test_a_long_output_is_a_file_under_its_digest(printed: Kept, folder: Path) -> None:
    # Given
    text = b"line\n" * HEAD
    printed.write(text)
    # When
    (artifact,) = printed.keep(str(folder))
    # Then
    assert (artifact.name, artifact.size) == ("output.txt", len(text))
    assert artifact.digest == digest_of(text)
    assert (folder / artifact.digest).read_bytes() == text
    # And nothing of it is taken
    assert printed.take().startswith("line\n")


def test_only_what_came_since_the_last_record_is_in_it(printed: Kept, folder: Path) -> None:
    # Given
    printed.write(b"another test's")
    printed.take()
    printed.write(b"x" * (HEAD + 1))
    # When
    (artifact,) = printed.keep(str(folder))
    # Then
    assert (folder / artifact.digest).read_bytes() == b"x" * (HEAD + 1)


def test_a_short_output_is_in_every_report_as_it_is(printed: Kept, folder: Path) -> None:
    # Given
    printed.write(b"x" * HEAD)
    # Then
    assert printed.keep(str(folder)) == ()
    assert list(folder.iterdir()) == []


def test_one_without_end_is_cut(
    printed: Kept, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(output, "MAX_ARTIFACT", HEAD + 200)
    printed.write(b"x" * (HEAD + 300))
    # When
    (artifact,) = printed.keep(str(folder))
    # Then
    content = (folder / artifact.digest).read_bytes()
    assert artifact.size == len(content) <= HEAD + 200
    assert content == b"x" * (HEAD + 100) + b"\n[\xe2\x80\xa6 200 bytes cut]\n"


def test_a_disk_that_refuses_it_costs_the_file_alone(printed: Kept, tmp_path: Path) -> None:
    # Given
    printed.write(b"x" * (HEAD + 1))
    # Then
    assert printed.keep(str(tmp_path / "not there")) == ()
    assert printed.take() == "x" * (HEAD + 1)
