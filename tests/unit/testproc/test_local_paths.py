"""Claims about `testproc.local_paths`: texts that are equal on two hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.testproc.local_paths import LocalPaths
from dct_celery.wire.process import MACHINE_TMPDIR


def test_a_path_in_the_temporary_folder_of_the_machine_is_one_where_a_process_has_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given
    machine = tmp_path / "machine"
    own = machine / "own"
    text = f"{machine}/some-name/file"
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(machine))
    there = LocalPaths("/src").replaced(text)
    # When
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(own))
    monkeypatch.setenv(MACHINE_TMPDIR, str(machine))
    here = LocalPaths("/src")
    # Then
    assert here.replaced(text) == there == "<tmp>/file"
    assert here.replaced(f"{own}/some-name/file") == "<tmp>/file"
