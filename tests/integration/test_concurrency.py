"""A worker's own command, with as many slots as the machine has room for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dct_celery import machine


def test_a_worker_understands_auto_and_says_why(valkey_url: str, tmp_path: Path) -> None:
    # Given a store that refuses the worker, so that it ends at once
    store = valkey_url.replace("redis://", "redis://nobody:wrong@")
    # When
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "dct_celery", "worker", "--concurrency", "auto"],
        cwd=tmp_path,
        env={**os.environ, "DCT_STORE": store, "DCT_INSECURE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Then
    said = done.stderr.splitlines()
    assert said[0] == f"dct: {machine.room().reason}"
    assert said[-1].startswith("dct: error: ")
    assert done.returncode == 4
