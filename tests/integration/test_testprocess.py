"""The slot's handle on a fork, against loaders that do not do their part."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dct_celery.errors import ProcessDied
from dct_celery.worker.testprocess import FORK_SECONDS, TestProcess

#: Takes one order and dies with it.
_FORGETFUL = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); print('open', flush=True); os.read(fd, 4096)"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fork.fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "fork"
    path.mkdir()
    return path


def test_no_loader_is_said_at_once(fifo: Path, folder: Path) -> None:
    # Given a FIFO that nobody reads / When / Then
    with pytest.raises(ProcessDied, match="loader is gone"):
        TestProcess(folder, fifo, {})


def test_a_loader_that_dies_with_an_order_in_its_hands_is_noticed_long_before_the_limit(fifo: Path, folder: Path) -> None:
    # Given
    with subprocess.Popen([sys.executable, "-c", _FORGETFUL, str(fifo)], stdout=subprocess.PIPE) as loader:
        assert loader.stdout is not None
        loader.stdout.readline()
        # When
        start = time.monotonic()
        with pytest.raises(ProcessDied, match="loader is gone"):
            TestProcess(folder, fifo, {})
    # Then
    assert time.monotonic() - start < FORK_SECONDS / 3
