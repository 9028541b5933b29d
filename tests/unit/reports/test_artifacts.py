"""Claims about `reports.artifacts`: each file is below the folder, whatever its test's id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dct_celery.core.model import Artifact, Entry, Outcome, Phase, Verdict
from dct_celery.errors import UsageError
from dct_celery.ports.reporting import ArtifactArrived
from dct_celery.reports.artifacts import ArtifactFolder, check, relative_path

ENTRY = Entry(7, "app.tests.T.test_a", "app.tests.T", "app.tests", Phase.ISOLATED)
ARTIFACT = Artifact("output.txt", 4, "0" * 40)


def arrived(entry: Entry = ENTRY, content: bytes = b"text") -> ArtifactArrived:
    return ArtifactArrived(Verdict(entry, Outcome.FAILED), ARTIFACT, content)


def test_a_file_lies_in_a_folder_of_its_test(tmp_path: Path) -> None:
    # When
    ArtifactFolder(tmp_path / "made").take(arrived())
    # Then
    written = tmp_path / "made" / "00007-app.tests.T.test_a" / "output.txt"
    assert written.read_bytes() == b"text"


@pytest.mark.parametrize("id_", ["../../etc/passwd", "a/b", "..", "/", "x" * 500, "ä ö\n\x00", ""])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, id_: str) -> None:
    # When
    ArtifactFolder(tmp_path / "in").take(arrived(replace(ENTRY, id=id_)))
    # Then
    (written,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written.parent.parent == tmp_path / "in"


def test_two_tests_of_one_id_have_two_folders() -> None:
    assert relative_path(ENTRY, ARTIFACT) != relative_path(replace(ENTRY, index=8), ARTIFACT)


def test_what_a_link_of_that_name_leads_to_stays_as_it_is(tmp_path: Path) -> None:
    # Given
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path = tmp_path / relative_path(ENTRY, ARTIFACT)
    path.parent.mkdir()
    path.symlink_to(precious)
    # When
    ArtifactFolder(tmp_path).take(arrived())
    # Then
    assert precious.read_text() == "precious"
    assert path.read_bytes() == b"text"


def test_a_file_is_there_once_it_was_written_in_this_run(tmp_path: Path) -> None:
    # Given
    folder = ArtifactFolder(tmp_path)
    assert not folder.has(ENTRY, ARTIFACT, 0.0)
    # When
    folder.take(arrived())
    # Then
    written = (tmp_path / relative_path(ENTRY, ARTIFACT)).stat().st_mtime
    assert folder.has(ENTRY, ARTIFACT, since=written)
    assert not folder.has(ENTRY, ARTIFACT, since=written + 1), "an earlier run has left it"


def test_a_folder_that_cannot_be_made_is_reported_at_once(tmp_path: Path) -> None:
    # Given
    (tmp_path / "file").touch()
    # Then
    with pytest.raises(UsageError, match=r"file/artifacts \(DCT_ARTIFACTS\) cannot be made: Not a"):
        check(tmp_path / "file" / "artifacts", "DCT_ARTIFACTS")
