"""Claims about `adapters.local_fleet`: the worker of a command has the command's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dct_celery.adapters.local_fleet import left_alone, worker_environment
from dct_celery.settings import Settings, load


@pytest.mark.parametrize(
    "settings",
    [Settings(private_tree=False), Settings(lease_seconds=30.0), Settings(templates_kept=3)],
)
def test_a_local_worker_has_the_options_of_workers_that_the_command_was_given(
    tmp_path: Path, settings: Settings
) -> None:
    # When
    environment = worker_environment(settings, {"DCT_PRIVATE_TREE": "1"}, tmp_path)
    # Then
    found, _ = load({}, env=environment, cwd=tmp_path)
    for name in ("private_tree", "lease_seconds", "templates_kept"):
        assert getattr(found, name) == getattr(settings, name)


def test_warnings_that_are_errors_to_the_tests_are_none_to_the_worker() -> None:
    # When
    environment = worker_environment(
        Settings(), {"PYTHONWARNINGS": "error", "LANG": "C"}, Path("/work")
    )
    # Then
    assert "PYTHONWARNINGS" not in environment
    assert environment["LANG"] == "C"


@pytest.mark.parametrize(
    ("environ", "alone"),
    [
        ({}, False),
        ({"_DCT_DISPATCHER": str(os.getppid())}, False),
        ({"_DCT_DISPATCHER": str(os.getppid() + 1)}, True),
    ],
)
def test_only_a_worker_whose_dispatcher_was_killed_is_left_alone(
    environ: dict[str, str], alone: bool
) -> None:
    assert left_alone(environ) is alone
