"""Claims about the files of timings that a run reads and writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dct_celery.core.plan.timings import Sample
from dct_celery.dispatcher import timing_files
from dct_celery.dispatcher.timing_files import TimingFiles
from dct_celery.errors import UsageError
from dct_celery.security import masking
from dct_celery.settings import Settings

MEASURED = {"t:a.T.x": Sample(1.5, 3), "c:a.T": Sample(0.5, 3)}


def files_of(folder: Path, **given: Any) -> TimingFiles:
    """Of a run in this folder; each setting has its flag as origin."""
    origins = {name: f"--{name.replace('_', '-')}" for name in given}
    return TimingFiles.of(Settings(project_dir=str(folder), **given), origins)


def test_a_file_that_lasts_need_not_be_there_and_is_written_at_the_end(tmp_path: Path) -> None:
    # Given
    files = files_of(tmp_path, timings_file="new/timings.json")
    assert files.imported == {}
    # When
    complaints = list(files.write(MEASURED))
    # Then
    assert complaints == []
    assert files_of(tmp_path, timings_file="new/timings.json").imported == MEASURED


def test_nothing_is_read_because_it_lies_there(tmp_path: Path) -> None:
    # Given
    timing_files.write(tmp_path / "test_timings.json", MEASURED)
    # When / Then
    assert files_of(tmp_path).imported == {}


def test_of_several_files_what_is_asked_for_by_name_counts(tmp_path: Path) -> None:
    # Given
    for number, name in enumerate(("lasting.json", "old.csv", "import.json"), 1):
        names = ("a", "b", "c")[number - 1 :]
        samples = {f"t:{name}": Sample(float(number), 1) for name in ("z", *names)}
        timing_files.write(tmp_path / name, samples)
    # When
    files = files_of(
        tmp_path,
        timings_file="lasting.json",
        import_timings_csv="old.csv",
        import_timings="import.json",
    )
    # Then
    seconds = {key: sample.seconds for key, sample in files.imported.items()}
    assert seconds == {"t:a": 1.0, "t:b": 2.0, "t:c": 3.0, "t:z": 3.0}


def test_the_projects_own_file_counts_where_no_setting_of_ours_names_one(tmp_path: Path) -> None:
    # Given
    timing_files.write(tmp_path / "own.json", MEASURED)
    given = {"t:a.T.x": Sample(7.0, 1)}
    timing_files.write(tmp_path / "import.json", given)
    alone = files_of(tmp_path, import_timings="import.json")
    beside = files_of(tmp_path, timings_file="ours.json")
    # When
    for files in (alone, beside):
        files.keep_projects_own(str(tmp_path / "own.json"))
        list(files.write({"t:b": Sample(1.0, 1)}))
    # Then
    assert (alone.imported, beside.imported) == (MEASURED | given, {})
    assert timing_files.read(tmp_path / "own.json") == {"t:b": Sample(1.0, 1)}


def test_exports_are_json_or_csv_by_option_and_by_name(tmp_path: Path) -> None:
    # When
    list(files_of(tmp_path, export_timings="a", export_timings_csv="b").write(MEASURED))
    list(files_of(tmp_path, export_timings="c.CSV").write(MEASURED))
    # Then
    assert json.loads((tmp_path / "a").read_text())["dct_timings"] == 1
    csv = "test_id,duration_seconds,count\r\na.T.x,1.5,3\r\nsetUpClass (a.T),0.5,3\r\n"
    assert [(tmp_path / name).read_bytes().decode() for name in ("b", "c.CSV")] == [csv, csv]


def test_one_file_cannot_be_json_and_csv(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a \(from --export-timings-csv\) cannot be both JSON"):
        files_of(tmp_path, export_timings="a", export_timings_csv="./a")


@pytest.mark.parametrize("name", ["timings_file", "import_timings", "import_timings_csv"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"dct_timings": 9}', "(is of version 9|has no column)"),
        (b'{"dct_timings": 1, "timings": {"a": {"dura', "(is not whole JSON|has no column)"),
        (b"\xff\xfe", "(is not UTF-8|has no column)"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_file_of_timings_is_one_line_and_stays_as_it_is(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    # Given
    path = tmp_path / "timings.json"
    path.mkdir() if content is None else path.write_bytes(content)
    flag = "--" + name.replace("_", "-")
    # When
    with pytest.raises(UsageError, match=rf"timings\.json \(from {flag}\) {problem}") as refused:
        files_of(tmp_path, **{name: "timings.json"})
    # Then
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 4
    assert content is None or path.read_bytes() == content


def test_an_import_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.json \(from --import-timings\) cannot be read \(No"):
        files_of(tmp_path, import_timings="x.json")


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(timing_files, "MAX_BYTES", 2**20)
    path = tmp_path / "timings.json"
    path.touch()
    os.truncate(path, 2**40)
    # When / Then
    with pytest.raises(UsageError, match="is larger than 1 MiB"):
        timing_files.read(path)


def test_a_run_that_goes_on_leaves_a_bad_file_alone(tmp_path: Path) -> None:
    # Given
    (tmp_path / "torn.json").write_text("{")
    said: list[str] = []
    settings = Settings(project_dir=str(tmp_path), timings_file="torn.json")
    # When
    files = TimingFiles.of(settings, {}, spare=said.append)
    list(files.write(MEASURED))
    # Then
    assert "torn.json is not whole JSON" in said[0]
    assert (tmp_path / "torn.json").read_text() == "{"


def test_a_file_that_cannot_be_written_any_more_is_named_and_the_others_are_written(
    tmp_path: Path,
) -> None:
    # Given
    files = files_of(tmp_path, export_timings="gone/a.json", export_timings_csv="b.csv")
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").touch()
    # When
    complaints = list(files.write(MEASURED))
    # Then
    assert len(complaints) == 1
    assert "gone/a.json: " in complaints[0]
    assert timing_files.read(tmp_path / "b.csv") == MEASURED


def test_no_secret_is_written_and_no_number_is_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    mask = masking.Masker()
    mask.learn(["hush-hush-1", "12345678"])
    monkeypatch.setattr(masking, "PROCESS", mask)
    # When
    timing_files.write(tmp_path / "a.json", {"t:a.py::test[hush-hush-1]": Sample(0.12345678, 1)})
    # Then
    assert timing_files.read(tmp_path / "a.json") == {"t:a.py::test[**]": Sample(0.12345678, 1)}


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    # Given
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftest_id,duration_seconds\r\na.T.x,1\r\n")
    # Then
    assert timing_files.read(tmp_path / "a.csv") == {"h:a.T.x": Sample(1.0, 1)}
