"""Claims about `security.files`: what a reader of our files may see, and who has a lock."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dct_celery.security.files import TAIL, replacing, tail, tail_of, try_lock, write_private


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def test_a_file_is_replaced_whole(file: Path) -> None:
    # Given
    file.write_text("old")
    # When
    with replacing(file) as draft:
        draft.write_text("half")
        seen = file.read_text()
        draft.write_text("new")
    # Then
    assert (seen, file.read_text()) == ("old", "new")
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_file_as_it_was(file: Path) -> None:
    # Given
    file.write_text("old")
    # When
    with pytest.raises(UnicodeEncodeError), replacing(file) as draft:
        draft.write_text("half \udcff", encoding="utf-8")
    # Then
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_two_writers_do_not_share_a_draft(file: Path) -> None:
    # When
    with replacing(file) as one, replacing(file) as other:
        one.write_text("one")
        other.write_text("other")
    # Then: the one that ends last wins
    assert file.read_text() == "one"


@pytest.mark.parametrize("before", [None, 0o644])
def test_a_private_file_is_its_owners_alone(file: Path, before: int | None) -> None:
    # Given
    if before is not None:
        file.write_text("old")
        file.chmod(before)
    # When
    write_private(file, "password")
    # Then
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == "password"


def test_a_lock_has_one_holder_and_ends_with_its_file(file: Path) -> None:
    # Given
    with file.open("w") as one, file.open("r") as other:
        # When / Then
        assert try_lock(one)
        assert not try_lock(other)
    with file.open("r") as third:
        assert try_lock(third.fileno())


@pytest.mark.parametrize(
    "content", [b"", b"short", b"x" * TAIL, b"y" * TAIL + b"the end", b"\xff\xfe"]
)
def test_the_tail_of_a_log_is_its_last_bytes_whatever_they_are(file: Path, content: bytes) -> None:
    # Given
    file.write_bytes(content)
    # When
    with file.open("rb") as log:
        text = tail(log)
    # Then
    assert text == content[-TAIL:].decode(errors="backslashreplace") == tail_of(file)


def test_a_log_that_is_not_there_has_no_tail(file: Path) -> None:
    assert tail_of(file) == ""
