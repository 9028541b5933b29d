"""Claims about `adapters.local_fleet`: the worker of a command has the command's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dct_celery.adapters.local_fleet import worker_environment
from dct_celery.settings import Settings, load


@pytest.mark.parametrize(
    ("name", "value"),
    [("private_tree", False), ("lease_seconds", 30.0), ("templates_kept", 3)],
)
def test_a_local_worker_has_the_options_of_workers_that_the_command_was_given(
    tmp_path: Path, name: str, value: object
) -> None:
    # Given
    settings = replace(Settings(), **{name: value})
    # When
    environment = worker_environment(settings, {"DCT_PRIVATE_TREE": "1"}, tmp_path)
    # Then
    found, _ = load({}, env=environment, cwd=tmp_path)
    assert getattr(found, name) == value
