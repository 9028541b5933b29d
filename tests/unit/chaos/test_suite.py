"""The generated suite of the chaos rounds."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.chaos import suite


def test_it_has_600_tests_with_every_outcome_and_is_the_same_each_time(tmp_path: Path) -> None:
    # When
    expected = suite.expected(["green", "red"])
    first, second = suite.write(tmp_path / "a"), suite.write(tmp_path / "b")
    # Then
    assert len({test["id"] for test in expected.tests}) == len(expected.tests) == suite.TESTS
    assert set(Counter(test["outcome"] for test in expected.tests)) == {
        "passed", "failed", "error", "skipped", "xfailed", "xpassed", "not_run",
    }  # fmt: skip
    assert expected.exit_code == 1
    assert suite.expected(["green"]).exit_code == 0
    assert {p.relative_to(first): p.read_text() for p in first.rglob("*.py")} == {
        p.relative_to(second): p.read_text() for p in second.rglob("*.py")
    }


def test_each_test_of_the_oracle_is_in_the_files_and_no_other(tmp_path: Path) -> None:
    # Given
    labels = ["green", "red", "torture.test_dying", "torture.test_hanging"]
    folder = suite.write(tmp_path / "project")
    # When
    written = {
        f"{path.relative_to(folder).with_suffix('')}.{cls.name}.{test.name}".replace("/", ".")
        for label in ("green", "red", "torture")
        for path in (folder / label).glob("test_*.py")
        for cls in ast.parse(path.read_text()).body
        if isinstance(cls, ast.ClassDef)
        for test in cls.body
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_")
    }
    # Then
    assert written == {test["id"] for test in suite.expected(labels).tests}


def test_pytest_has_the_same_tests_by_other_names() -> None:
    # Given
    labels = ["red", "torture.test_dying"]
    # When
    found = {test["id"]: test["outcome"] for test in suite.expected(labels, "pytest").tests}
    # Then: what a set-up keeps from running is an error, and an unexpected success a failure
    assert len(found) == len(suite.expected(labels).tests)
    assert found["red/test_red.py::Broken0::test_1"] == "error"
    assert found["torture/test_dying.py::Dying::test_b_killed"] == "error"
    assert set(found.values()) == {"passed", "failed", "error"}
    assert suite.expected(labels, "pytest").fixtures == []
    assert suite.paths(labels) == ["red", "torture/test_dying.py"]
