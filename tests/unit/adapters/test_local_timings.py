"""Claims about the timings of local runs; `tests.contract.test_timings` has what all stores do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.adapters.local_timings import KEEP, FileTimings
from dct_celery.errors import StoreUnavailable


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"a": 1}'])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    # Given
    timings = FileTimings(tmp_path, "shop")
    timings.save({"a": "1 1"})
    next(tmp_path.glob("*.json")).write_bytes(content)
    # When / Then
    assert timings.load() == {}


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    # When
    FileTimings(tmp_path / "timings", "shop").save({"a": "1 1"})
    # Then
    (file,) = (tmp_path / "timings").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600


def test_files_of_old_projects_go(tmp_path: Path) -> None:
    # When
    for number in range(KEEP + 3):
        FileTimings(tmp_path, f"shop-{number}").save({"a": "1 1"})
    # Then
    assert len(list(tmp_path.glob("*.json"))) == KEEP
    assert FileTimings(tmp_path, f"shop-{KEEP + 2}").load() == {"a": "1 1"}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    # Given
    (tmp_path / "timings").write_text("no folder")
    # When
    with pytest.raises(StoreUnavailable) as refused:
        FileTimings(tmp_path / "timings", "shop").save({"a": "1 1"})
    # Then
    assert "cannot be written" in str(refused.value)
    assert "XDG_STATE_HOME" in str(refused.value)
