"""Claims about what a session depends on, which has to lie in the tree that workers get."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.pytest_plugin.session import _require_inside


def config(root: Path, *conftests: Path, ini: Path | None = None) -> Any:
    modules = [SimpleNamespace(__file__=str(file)) for file in conftests]
    return SimpleNamespace(
        rootpath=root, inipath=ini, pluginmanager=SimpleNamespace(_conftest_plugins=modules)
    )


def test_what_lies_in_the_tree_is_fine(tmp_path: Path) -> None:
    installed = Path(sys.prefix) / "lib/conftest.py"
    given = config(tmp_path, tmp_path / "a/conftest.py", installed, ini=tmp_path / "x.ini")
    _require_inside(given, tmp_path)


@pytest.mark.parametrize("name", ["conftest.py", "pytest.ini"])
def test_a_file_of_the_session_outside_of_the_tree_is_refused(tmp_path: Path, name: str) -> None:
    """Without it the workers' verdicts would be others."""
    # Given
    tree = tmp_path / "tree"
    tree.mkdir()
    file = tmp_path / name
    given = config(tree, file) if name == "conftest.py" else config(tree, ini=file)
    # Then
    with pytest.raises(pytest.UsageError, match=f"^{file} lies outside {tree}"):
        _require_inside(given, tree)
