"""Claims about `dct_celery.timings`: what users of django-concurrent-test call still works."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dct_celery.errors import UsageError
from dct_celery.timings import (
    export_timings_to_csv,
    filter_timings,
    import_timings_from_csv,
    load_timings,
    merge_timings,
    save_timings,
)

AVERAGES: dict[str, Any] = {
    "a.T.slow": {"duration": 6.5, "count": 3},
    "setUpClass (a.T)": {"duration": 0.5, "count": 3},
}


def test_the_example_of_the_ancestors_documentation_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file as its plugin for pytest has written it
    monkeypatch.chdir(tmp_path)
    written = {
        "tests.py::test_slow": {"duration": 7.25, "status": "passed", "timestamp": 1.0},
        "tests.py::test_fast": {"duration": 0.01, "status": "passed", "timestamp": 1.0},
    }
    Path("test_timings.json").write_text(json.dumps(written))
    # When
    timings = load_timings("test_timings.json")
    slow_tests = filter_timings(timings, min_duration=5.0)
    export_timings_to_csv(slow_tests, "slow_tests.csv")
    for test_name, timing_data in slow_tests.items():
        print(f"{test_name}: {timing_data['duration']:.2f}s")
    # Then
    assert capsys.readouterr().out == "tests.py::test_slow: 7.25s\n"
    lines = Path("slow_tests.csv").read_text().splitlines()
    assert lines == ["test_id,duration_seconds,count", "tests.py::test_slow,7.25,"]


@pytest.mark.parametrize(
    ("save", "load"),
    [(save_timings, load_timings), (export_timings_to_csv, import_timings_from_csv)],
)
def test_what_is_saved_is_loaded(tmp_path: Path, save: Any, load: Any) -> None:
    # Given averages of runs, a hint, and plain seconds, as the ancestor's runner kept them
    path = tmp_path / "timings"
    # When
    assert save(AVERAGES | {"b.py": {"duration": 2}, "c.T.x": 1.5}, str(path)) is True
    # Then
    assert load(path) == AVERAGES | {"b.py": {"duration": 2.0}, "c.T.x": {"duration": 1.5}}


def test_a_file_that_is_not_there_holds_none(tmp_path: Path) -> None:
    assert load_timings(tmp_path / "x.json") == import_timings_from_csv(tmp_path / "x.csv") == {}


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ((), "abc"),
        ((1.0,), "bc"),
        ((1.0, 2.0), "b"),
        ((0.0, 1.0), "ab"),
        ((3.0,), ""),
    ],
)
def test_the_limits_of_a_filter_are_included(limits: tuple[float, ...], left: str) -> None:
    # Given
    timings: dict[str, Any] = {"a": 0.5, "b": {"duration": 1.0, "count": 2}, "c": 2.5}
    # When / Then
    assert "".join(filter_timings(timings, *limits)) == left


def test_of_two_the_second_counts() -> None:
    # Given
    first = {"a": 1.0, "b": 1.0}
    # When / Then
    assert merge_timings(first, {"b": 2.0, "c": 2.0}) == {"a": 1.0, "b": 2.0, "c": 2.0}
    assert first == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, None, "1", {}, {"duration": []}])
def test_what_is_no_duration_is_not_saved_and_the_file_stays(tmp_path: Path, seconds: Any) -> None:
    # Given
    save_timings(AVERAGES, tmp_path / "timings.json")
    # When / Then
    with pytest.raises(UsageError, match=r"timings\.json has no duration for 'b' but"):
        save_timings({"b": seconds}, tmp_path / "timings.json")
    assert load_timings(tmp_path / "timings.json") == AVERAGES


def test_it_is_imported_without_celery_redis_django_or_pytest(tmp_path: Path) -> None:
    # Given
    code = (
        "import sys; from dct_celery.timings import load_timings; load_timings(sys.argv[1])\n"
        "print({'celery', 'redis', 'kombu', 'django', 'pytest'} & sys.modules.keys())"
    )
    save_timings(AVERAGES, tmp_path / "timings.json")
    # When
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "timings.json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # Then
    assert done.stdout == "set()\n"
