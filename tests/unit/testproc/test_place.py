"""Claims about `testproc.place`: a failure leads to the project's own code."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from pathlib import Path

from dct_celery.testproc.place import place


def raised(*files: Path) -> BaseException:
    """What comes out of the first file's `call`, which calls the next one's, and so on.

    The last one raises.
    """
    function: Callable[[], object] | None = None
    for file in reversed(files):
        source = (
            "def call():\n    return inner()\n"
            if function
            else "def call():\n    raise ValueError('boom')\n"
        )
        names: dict[str, object] = {"inner": function}
        exec(compile(source, str(file), "exec"), names)
        function = names["call"]  # type: ignore[assignment]
    assert function is not None
    try:
        function()
    except ValueError as error:
        return error
    raise AssertionError


def test_the_innermost_frame_of_the_project_counts(tmp_path: Path) -> None:
    # Given a test that calls a helper of the project, which calls a package
    error = raised(
        tmp_path / "app/tests.py",
        tmp_path / "app/helpers.py",
        Path("/usr/lib/site-packages/lib.py"),
    )
    # Then
    assert place(error, "", f"{tmp_path}/") == ("app/helpers.py", 2)


def test_an_environment_inside_the_project_is_none_of_its_code(tmp_path: Path) -> None:
    # Given
    error = raised(
        tmp_path / "app/tests.py", tmp_path / ".venv/lib/python3.12/site-packages/lib.py"
    )
    # Then
    assert place(error, "", f"{tmp_path}/") == ("app/tests.py", 2)


def test_a_failure_in_packages_alone_has_no_place(tmp_path: Path) -> None:
    assert place(raised(Path("/usr/lib/python3/lib.py")), "", f"{tmp_path}/") == (None, None)


def test_a_module_that_cannot_be_imported_has_the_line_that_it_failed_at(tmp_path: Path) -> None:
    # Given
    (tmp_path / "helpers.py").write_text("\n\nraise RuntimeError('boom')\n")
    (tmp_path / "test_broken.py").write_text("import json\nimport helpers\n")
    # When: unittest makes a test of it that fails
    (failed,) = unittest.TestLoader().discover(str(tmp_path)).__iter__().__next__()  # type: ignore[misc]
    result = unittest.TestResult()
    failed.run(result)
    ((_, text),) = result.errors
    # Then
    assert place(None, text, f"{tmp_path}/") == ("helpers.py", 3)
