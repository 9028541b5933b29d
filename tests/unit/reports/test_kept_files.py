"""Claims about `reports.kept_files`: files of tests are written into the checkout, and nowhere
else.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dct_celery.core.model import KeptFile
from dct_celery.errors import UsageError
from dct_celery.ports.reporting import FileArrived
from dct_celery.reports.kept_files import KeptFilesHome


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    return root


def take(root: Path, place: str, content: bytes = b"new") -> None:
    KeptFilesHome().take(FileArrived(root, place, KeptFile("any", 3, "a" * 40), content))


def test_a_file_is_where_a_sequential_run_would_have_left_it(root: Path) -> None:
    # Given
    (root / "shots").mkdir()
    (root / "shots" / "a.png").write_bytes(b"old")
    # When
    take(root, "shots/a.png")
    take(root, "shots/deep/b.png")
    # Then
    assert (root / "shots/a.png").read_bytes() == b"new"
    assert (root / "shots/deep/b.png").read_bytes() == b"new"
    assert stat.S_IMODE((root / "shots/a.png").stat().st_mode) & 0o600 == 0o600
    assert sorted(path.name for path in (root / "shots").iterdir()) == ["a.png", "deep"]


def test_a_link_of_that_name_is_replaced_and_not_followed(root: Path, tmp_path: Path) -> None:
    # Given
    (tmp_path / "outside").write_bytes(b"kept")
    (root / "a.png").symlink_to(tmp_path / "outside")
    # When
    take(root, "a.png")
    # Then
    assert (tmp_path / "outside").read_bytes() == b"kept"
    assert (root / "a.png").read_bytes() == b"new"


@pytest.mark.parametrize(
    "place",
    [
        "../a.png",
        "/a.png",
        "a/../../b.png",
        "link/a.png",
        ".git/hooks/pre-commit",
        "sub/.git",
        ".GIT/config",
        "a\n",
    ],
)
def test_nothing_is_written_outside_of_the_checkout(root: Path, tmp_path: Path, place: str) -> None:
    # Given
    (root / "link").symlink_to(tmp_path)
    # When / Then
    with pytest.raises(UsageError, match="leads out of the project"):
        take(root, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkout"]


def test_a_place_that_cannot_be_written_is_one_line(root: Path) -> None:
    # Given
    (root / "shots").write_text("a file")
    # When / Then
    with pytest.raises(UsageError, match=r"^shots/a.png of the tests cannot be written: "):
        take(root, "shots/a.png")
