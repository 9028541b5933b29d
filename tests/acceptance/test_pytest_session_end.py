"""Claims about whole runs: what tearing down pytest's session fails with is reported as in the
sequential run, whichever process it happens in, and each process tears down.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fleet import Fleet, until
from tests.support.pytest_runs import differences, distributed, sequential

#: Where tests run on two slots, the first class waits until another slot has come to the last one.
#: Only classes that are named use the fixture.
CONFTEST = """
import os
import time
from pathlib import Path

import pytest

@pytest.fixture(scope="session")
def server():
    notes = Path(os.environ["NOTES"])
    notes.joinpath(f"up-{os.getpid()}").touch()
    yield
    notes.joinpath(f"down-{os.getpid()}").touch()
    if "broken" in os.environ["HOW"]:
        raise OSError("still up")

@pytest.fixture(autouse=True)
def spread(request):
    mark, name = Path(os.environ["NOTES"], "last"), request.node.nodeid
    until = time.monotonic() + 8
    if "Test3" in name:
        mark.touch()
    while "Test0" in name and "spread" in os.environ["HOW"] and not mark.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
"""
CLASS = """
class Test{number}:
    def test_it(self{argument}):
        pass
"""
WORDS = ("--tb=short", "-p", "no:cacheprovider")


def make_project(place: Path, using: set[int]) -> Path:
    place.mkdir()
    (place / "pytest.ini").touch()
    (place / "conftest.py").write_text(CONFTEST)
    classes = (
        CLASS.format(number=number, argument=", server" if number in using else "")
        for number in range(4)
    )
    (place / "test_it.py").write_text("".join(classes))
    return place


@pytest.mark.parametrize(
    "using", [{0, 1, 2, 3}, {0}, {3}], ids=["each process", "another process", "the last test"]
)
def test_an_error_is_that_of_the_last_test(
    pair: Fleet, place: Path, tmp_path: Path, using: set[int]
) -> None:
    # Given
    project = make_project(place, using)
    notes = tmp_path / "notes"
    notes.mkdir()
    given = {"NOTES": str(notes), "DCT_ENV": "HOW,NOTES", "DCT_CHUNK_SECONDS": "0.1"}
    expected = sequential(project, *WORDS, HOW="broken", **given)
    assert expected.last_line == "4 passed, 1 error in"
    (notes / "last").unlink()
    # When
    found = distributed(pair, project, *WORDS, HOW="broken, spread", **given)
    # Then
    assert found.code == expected.code == 1
    different = differences(expected, found)
    assert not different, "\n".join(different)
    until(lambda: counts(notes)[0] == counts(notes)[1], what="the tear-down of each process")


def counts(notes: Path) -> tuple[int, int]:
    """How often it was set up, and torn down."""
    return len(list(notes.glob("up-*"))), len(list(notes.glob("down-*")))


def test_dct_run_has_an_error_of_the_fixture_where_the_last_test_has_none(
    pair: Fleet, place: Path, tmp_path: Path
) -> None:
    # Given
    project = make_project(place, {0})
    notes = tmp_path / "notes"
    notes.mkdir()
    # When
    finished = pair.run(
        project,
        *("--env", "HOW", "--env", "NOTES"),
        HOW="broken, spread",
        NOTES=str(notes),
        DCT_CHUNK_SECONDS="0.1",
    )
    # Then
    assert finished.code == 1, finished
    assert "tearDownSession (pytest)" in finished.out
    assert "OSError: still up" in finished.out
    assert {test["outcome"] for test in finished.json["tests"]} == {"passed"}


def test_what_is_set_up_once_on_each_worker_is_torn_down_when_the_run_is_over(
    pair: Fleet, place: Path, tmp_path: Path
) -> None:
    # Given
    project = make_project(place, {0, 1, 2, 3})
    (project / "pytest.ini").write_text("[pytest]\ndct_once = server\n")
    notes = tmp_path / "notes"
    notes.mkdir()
    # When
    finished = pair.run(
        project,
        *("--env", "HOW", "--env", "NOTES"),
        HOW="spread",
        NOTES=str(notes),
        DCT_CHUNK_SECONDS="0.1",
    )
    # Then
    assert finished.code == 0, finished
    until(lambda: counts(notes) == (2, 2), what="the tear-down by the loaders")
