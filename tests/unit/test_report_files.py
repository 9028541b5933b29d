"""Report files: whole or not at all, and one clear line if they cannot be written."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from dct_celery.core.model import Artifact, Entry, Outcome, Phase, RunReport, Verdict
from dct_celery.errors import UsageError
from dct_celery.reports.file_reporters import of_settings
from dct_celery.reports.files import write_json, write_junit
from dct_celery.security.outputs import check_writable
from dct_celery.settings import Settings

ENTRY = Entry(
    0, "app.tests.T.test_a", "app.tests.T", "app.tests", Phase.ISOLATED, "app/tests.py", 7
)
REPORT = RunReport(
    "r1", (Verdict(ENTRY, Outcome.SKIPPED, reason="a \ud800 lone surrogate"),), (), 0
)

Write = Callable[[Path, RunReport], None]
both = pytest.mark.parametrize("write", [write_junit, write_json])


def test_both_reports_can_be_read_back(tmp_path: Path) -> None:
    # When
    write_junit(tmp_path / "junit.xml", REPORT)
    write_json(tmp_path / "run.json", REPORT)

    # Then
    assert ET.parse(tmp_path / "junit.xml").getroot().get("tests") == "1"
    assert (
        json.loads((tmp_path / "run.json").read_text("ascii"))["tests"][0]["message"]
        == "a \ud800 lone surrogate"
    )


def test_the_family_reaches_the_document(tmp_path: Path) -> None:
    # When
    write_junit(tmp_path / "junit.xml", REPORT, "xunit2")

    # Then
    case = ET.parse(tmp_path / "junit.xml").find(".//testcase")
    assert case is not None
    assert "file" not in case.attrib


@pytest.mark.parametrize(
    ("artifacts", "junit_xml", "marker", "property_"),
    [
        ("artifacts", "junit.xml", "artifacts", "artifacts"),
        ("out/artifacts", "out/junit.xml", "out/artifacts", "artifacts"),
        ("artifacts", "out/junit.xml", "artifacts", "../artifacts"),
        ("../artifacts", "junit.xml", "{above}/artifacts", "../artifacts"),
    ],
)
def test_the_document_names_files_of_tests_for_the_job_and_for_those_who_have_the_files_alone(
    tmp_path: Path, artifacts: str, junit_xml: str, marker: str, property_: str
) -> None:
    # Given
    start = tmp_path / "project"
    settings = Settings(project_dir=str(start), artifacts=artifacts, junit_xml=junit_xml)
    (report,) = of_settings(settings, lambda: 5.0)
    verdict = Verdict(ENTRY, Outcome.FAILED, artifacts=(Artifact("output.txt", 1, "0" * 40),))
    # When
    report.write(RunReport("r1", (verdict,), (), 1))
    # Then
    case = ET.parse(start / junit_xml).find(".//testcase")
    assert case is not None
    path = "00000-app.tests.T.test_a/output.txt"
    above = marker.format(above=tmp_path)
    assert case.findtext("system-out") == f"[[ATTACHMENT|{above}/{path}]]\n"
    found = case.find("properties/property[@name='dct.artifact']")
    assert found is not None
    assert found.get("value") == f"{property_}/{path}"


@both
def test_the_old_file_is_replaced_and_nothing_else_is_left(tmp_path: Path, write: Write) -> None:
    # Given
    path = tmp_path / "report"
    path.write_text("old")

    # When
    write(path, REPORT)

    # Then
    assert path.read_text() != "old"
    assert os.listdir(tmp_path) == ["report"]


@both
def test_a_write_that_fails_leaves_the_old_file_whole(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a disk that is full when the new file is nearly there
    path = tmp_path / "report"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dct_celery.security.outputs.os.replace", full)

    # When
    with pytest.raises(UsageError, match="No space left"):
        write(path, REPORT)

    # Then
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report"]


@both
def test_missing_folders_are_made(tmp_path: Path, write: Write) -> None:
    # When
    write(tmp_path / "reports" / "today" / "report", REPORT)

    # Then
    assert (tmp_path / "reports" / "today" / "report").stat().st_size > 0


@both
def test_a_new_file_has_the_modes_of_any_new_file(tmp_path: Path, write: Write) -> None:
    # Given: the account that collects artifacts is often another one, so 0600 would lose the report
    (tmp_path / "ordinary").touch()

    # When
    write(tmp_path / "report", REPORT)

    # Then
    assert (tmp_path / "report").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    # Given
    (tmp_path / "link").symlink_to(tmp_path / "real")

    # When
    write_json(tmp_path / "link", REPORT)

    # Then
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").exists()


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    # Given what /dev/stdout is in a pipeline; replacing it would put a file in the place of a
    # device
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    # When
    check_writable(pipe, "--json")
    write_json(pipe, REPORT)

    # Then
    assert pipe.is_fifo()
    assert json.loads(os.read(reader, 65536))["run"] == "r1"
    os.close(reader)


def test_a_check_makes_no_file_and_takes_none_away(tmp_path: Path) -> None:
    # Given
    (tmp_path / "old").write_text("old")

    # When
    check_writable(tmp_path / "old", "--json")
    check_writable(tmp_path / "new", "--json")

    # Then
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "it is a folder"),
        ("file/junit.xml", "Not a directory"),
        ("file/deeper/junit.xml", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
        ("nul\x00byte", "embedded null "),
        ("two\nlines", "it is a folder"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line_with_its_origin_and_reason(
    tmp_path: Path, name: str, reason: str
) -> None:
    # Given
    (tmp_path / "folder").mkdir()
    (tmp_path / "two\nlines").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    # When
    with pytest.raises(UsageError) as before:
        check_writable(tmp_path / name, "--junit-xml")
    with pytest.raises(UsageError) as after:
        write_junit(tmp_path / name, REPORT)

    # Then
    for message in (str(before.value), str(after.value)):
        assert str(tmp_path) in message
        assert reason in message
        assert "\n" not in message
    assert "(from --junit-xml)" in str(before.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_found_up_front(tmp_path: Path) -> None:
    # Given
    tmp_path.chmod(0o500)

    # When / Then
    with pytest.raises(UsageError, match="Permission denied"):
        check_writable(tmp_path / "junit.xml", "--junit-xml")


def test_a_file_system_that_is_not_for_files_is_found_up_front() -> None:
    # When / Then: also for root
    with pytest.raises(UsageError, match=r"cannot write /proc/junit\.xml \(from --junit-xml\): "):
        check_writable(Path("/proc/junit.xml"), "--junit-xml")
