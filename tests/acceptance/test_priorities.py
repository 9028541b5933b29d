"""Claims about whole runs: what failed last time, and what has changed, runs first or alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.fleet import Finished, Fleet
from tests.support.projects import make_project

TESTS = """
    import os
    from django.test import SimpleTestCase

    class A(SimpleTestCase):
        def test_a(self): pass

    class B(SimpleTestCase):
        def test_b(self): self.assertTrue(os.path.exists(os.environ["MARKER_FOLDER"] + "/fixed"))

    class C(SimpleTestCase):
        def test_c(self): pass
"""


def order_of(finished: Finished) -> list[str]:
    """Tests in the order in which they were judged."""
    return re.findall(r"^(test_\w+) \(.*\) \.\.\. ", finished.out, re.MULTILINE)


@pytest.fixture
def project(busy_fleet: Fleet, place: Path) -> Path:
    """Settles nothing, so that a failure is judged at once."""
    return make_project(place, TESTS, options="settle = 0\nenv = ['MARKER_FOLDER']")


def test_what_failed_last_time_runs_first_or_alone(
    busy_fleet: Fleet, project: Path, tmp_path: Path
) -> None:
    # Given
    folder = str(tmp_path)
    assert busy_fleet.run(project, "--lf", MARKER_FOLDER=folder).code == 1
    # When
    first = busy_fleet.run(project, "--ff", "-v2", MARKER_FOLDER=folder)
    # Then
    assert order_of(first) == ["test_b", "test_a", "test_c"]
    assert "first the 1 test that failed last time" in first.out
    assert "; first failure after " in first.out
    # When
    (tmp_path / "fixed").touch()
    alone = busy_fleet.run(project, "--lf", MARKER_FOLDER=folder)
    # Then
    assert alone.outcomes() == {"test_it.B.test_b": "passed"}
    assert "1 test that failed last time" in alone.out
    # When
    none = busy_fleet.run(project, "--lf", MARKER_FOLDER=folder)
    # Then
    assert len(none.outcomes()) == 3
    assert "no test of these failed when it last ran; all run" in none.out


def test_tests_of_changed_files_run_first(busy_fleet: Fleet, project: Path, tmp_path: Path) -> None:
    # Given
    git = ("git", "-C", str(project), "-c", "user.name=x", "-c", "user.email=x@x")
    (project / "test_zz.py").write_text(
        "from django.test import SimpleTestCase\n\n\n"
        "class Z(SimpleTestCase):\n    def test_z(self): self.fail()\n"
    )
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "x")):
        subprocess.run([*git, *words], check=True)
    with (project / "test_zz.py").open("a") as file:
        file.write("\n")
    # When
    finished = busy_fleet.run(project, "--changed-first", "-v2", MARKER_FOLDER=str(tmp_path))
    # Then
    assert order_of(finished)[0] == "test_z"
    assert "first the 1 test of files that differ from HEAD" in finished.out
    # When
    wrong = busy_fleet.run(project, "--changed-first=nowhere", MARKER_FOLDER=str(tmp_path))
    # Then
    assert wrong.code == 4
    assert "--changed-first: git cannot compare" in wrong.error
    assert "with 'nowhere'" in wrong.error
