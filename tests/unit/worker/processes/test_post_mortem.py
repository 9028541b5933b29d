"""Claims about `worker.processes.post_mortem`: memory is blamed only on evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.worker.processes import post_mortem
from dct_celery.worker.processes.post_mortem import MemoryTrouble, last_state


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the kernel counts."""
    path = tmp_path / "memory.events"
    path.write_text("low 0\noom 3\noom_kill 2\n")
    monkeypatch.setattr(post_mortem, "_group_files", lambda: [path, tmp_path / "absent"])
    return path


def test_a_kill_that_the_kernel_counts_was_perhaps_for_memory(kernel: Path) -> None:
    # Given
    trouble = MemoryTrouble()
    # When
    kernel.write_text("low 0\noom 4\noom_kill 3\n")
    # Then
    assert (
        trouble.explain("signal 9", 312 * 1024)
        == "killed (signal 9), memory peak 312 MB, perhaps out of memory"
    )


def test_a_kill_without_evidence_is_only_a_kill(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(post_mortem, "_count", lambda path: 7)
    # When / Then
    assert (
        MemoryTrouble().explain("signal 9", 312 * 1024) == "killed (signal 9), memory peak 312 MB"
    )
    assert MemoryTrouble().explain("signal 9", 0) == "killed (signal 9)"


@pytest.mark.parametrize("status", ["signal 11", "exit 0", "it closed its channel"])
def test_any_other_end_is_reported_as_it_is(kernel: Path, status: str) -> None:
    assert MemoryTrouble().explain(status, 1024) == status


def test_last_state_has_no_heading_without_output() -> None:
    # Given
    silent: Any = Mock(stacks=lambda ask: "stacks", peak=lambda: 2048, last_output=lambda: "\n")
    # When / Then
    assert last_state(silent) == "Memory peak: 2 MB\n\nstacks"
