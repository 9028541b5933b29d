"""Benchmarks that drive our own parts go on doing so when those change."""

from __future__ import annotations

import subprocess
import sys


def test_the_way_of_an_index_can_be_counted() -> None:
    # When
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.index_way"], capture_output=True, text=True
    )
    # Then
    assert done.returncode == 0, done.stderr
    assert "its round trips to the store: 3" in done.stdout
