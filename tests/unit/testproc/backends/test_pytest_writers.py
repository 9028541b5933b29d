"""Claims about the pytest backend's `writers`: what brings files home, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.testproc.backends.pytest import writers


def config(*plugins: str, **options: Any) -> Any:
    made = Mock()
    made.getoption = lambda name, default: options.get(name, default)
    made.pluginmanager.hasplugin = lambda name: name in plugins
    return made


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"update_snapshots": True}, "--snapshot-update"),
        ({"snapshot_update": True}, "--snapshot-update"),
        ({"force_regen": True}, "--force-regen"),
        ({"inline_snapshot": "create,report"}, "--inline-snapshot"),
        ({"record_mode": "once"}, "--record-mode"),
        ({"inline_snapshot": "report"}, ""),
        ({"record_mode": "none"}, ""),
        ({"update_snapshots": False, "record_mode": None}, ""),
        ({}, ""),
    ],
)
def test_what_would_change_the_project_is_refused(options: dict[str, Any], option: str) -> None:
    # When
    line = writers.refusal(config(**options))
    # Then
    assert bool(line) == bool(option)
    assert line.startswith(option)


def test_folders_of_known_plugins_come_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a project below the top of the tree
    (tmp_path / "site").mkdir()
    monkeypatch.chdir(tmp_path / "site")
    options = {"allure_report_dir": "allure[1]", "output": "test-results"}
    # When / Then
    assert writers.folders(config(**options), str(tmp_path)) == (["/site/allure\\[1]/"], [])
    assert writers.folders(config("playwright", **options), str(tmp_path)) == (
        ["/site/allure\\[1]/", "/site/test-results/"], [],
    )  # fmt: skip


@pytest.mark.parametrize("folder", ["..", ".", "/elsewhere"])
def test_a_folder_outside_of_the_tree_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    # Given
    monkeypatch.chdir(tmp_path)
    # When
    patterns, notes = writers.folders(config(allure_report_dir=folder), str(tmp_path))
    # Then
    assert patterns == []
    assert notes == [
        f"what --alluredir writes stays on the workers: {folder} is no folder inside of the"
        " project; name one"
    ]
