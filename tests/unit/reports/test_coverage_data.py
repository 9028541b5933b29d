"""Claims about `reports.coverage_data`: data of other machines become one data file of this one."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import coverage
import pytest

from dct_celery.reports import coverage_data

THERE = "/elsewhere/trees/1234"
OURS = "/elsewhere/packages/dct_celery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    return root


def put(
    folder: Path, lines: Mapping[str, list[int]], *, context: str = "", there: str = THERE
) -> None:
    """A data file as a slot sends it."""
    name = str(len(list(folder.iterdir())))
    data = coverage.CoverageData(str(folder.parent / f"raw-{name}"))
    data.set_context(context)
    data.add_lines(lines)
    data.close()
    head = json.dumps({"root": there, "ours": OURS}).encode()
    body = zlib.compress(Path(data.data_filename()).read_bytes())
    (folder / name).write_bytes(head + b"\n" + body)


def read(path: Path) -> coverage.CoverageData:
    data = coverage.CoverageData(str(path))
    data.read()
    return data


def test_paths_of_each_machine_become_those_of_this_one(folder: Path, root: Path) -> None:
    # Given
    put(folder, {f"{THERE}/shop/models.py": [1, 2], "/usr/lib/other.py": [5]})
    put(folder, {"/third/shop/models.py": [2, 7]}, there="/third")
    # When
    assert coverage_data.combine(str(folder), str(root), str(root / ".coverage"))
    # Then
    found = read(root / ".coverage")
    assert found.measured_files() == {str(root / "shop/models.py"), "/usr/lib/other.py"}
    assert sorted(found.lines(str(root / "shop/models.py")) or ()) == [1, 2, 7]


def test_contexts_are_kept(folder: Path, root: Path) -> None:
    # Given
    put(folder, {f"{THERE}/a.py": [1]}, context="tests.test_one")
    put(folder, {f"{THERE}/a.py": [1, 2]}, context="tests.test_two")
    # When
    coverage_data.combine(str(folder), str(root), str(root / ".coverage"))
    # Then
    found = read(root / ".coverage").contexts_by_lineno(str(root / "a.py"))
    assert {line: set(names) for line, names in found.items()} == {
        1: {"tests.test_one", "tests.test_two"},
        2: {"tests.test_two"},
    }


def test_this_package_is_left_out_unless_it_is_what_is_tested(folder: Path, root: Path) -> None:
    # Given
    put(folder, {f"{OURS}/cli/run.py": [1], f"{THERE}/a.py": [1]})
    put(folder, {f"{OURS}/cli/run.py": [1]}, there="/elsewhere/packages")
    # When
    coverage_data.combine(str(folder), str(root), str(root / ".coverage"))
    # Then
    found = read(root / ".coverage").measured_files()
    assert found == {str(root / "a.py"), str(root / "dct_celery/cli/run.py")}


def test_the_file_of_an_earlier_run_is_replaced_where_coverage_run_would_write_it(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    (root / ".coveragerc").write_text("[run]\ndata_file = build/data\n")
    monkeypatch.chdir(root)
    put(folder, {f"{THERE}/b.py": [1]})
    assert coverage_data.main([str(folder), str(root)]) == 0
    next(folder.iterdir()).unlink()
    old = coverage.CoverageData("build/data")
    old.add_lines({str(root / "old.py"): [1]})
    old.close()
    put(folder, {f"{THERE}/a.py": [1]})
    said: list[str] = []
    # When
    status = coverage_data.main([str(folder), str(root)], said.append)
    # Then
    assert (status, said) == (0, [])
    assert read(root / "build/data").measured_files() == {str(root / "a.py")}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        b"not json\n",
        b'{"root": "/", "ours": "/"}\nx',
        b'{"root": 1, "ours": ["/"]}\nx',
    ],
)
def test_data_that_cannot_be_read_are_one_line(
    folder: Path, root: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.chdir(root)
    (folder / "broken").write_bytes(content)
    said: list[str] = []
    # When
    status = coverage_data.main([str(folder), str(root)], said.append)
    # Then
    assert status == 4
    assert len(said) == 1
    assert "\n" not in said[0]
