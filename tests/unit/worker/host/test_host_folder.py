"""Claims about `worker.host.host`: in which folder it works."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.worker.folders.work_folder import WorkFolder
from dct_celery.worker.host import host as hosts
from dct_celery.worker.host.host import Host
from tests.support.fake_clock import FakeClock


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A host without threads, whose supervisors only exist."""
    monkeypatch.setattr(hosts, "RunSupervisor", Mock())
    monkeypatch.setattr(hosts, "about", Mock(return_value={}))
    monkeypatch.setattr(threading, "Thread", Mock())
    monkeypatch.setattr(hosts, "CollectorThread", Mock())
    services: Any = Mock(clock=FakeClock(), folder=WorkFolder(tmp_path / "work"))
    services.settings.keep_days = 14.0
    host = Host(services, 1)
    yield host
    if hasattr(host, "_lock"):
        host._lock.close()


def test_a_work_folder_that_is_open_to_others_is_closed(host: Any, tmp_path: Path) -> None:
    # Given
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(0o755)
    # When
    host.start()
    # Then
    assert stat.S_IMODE((tmp_path / "work").stat().st_mode) == 0o700


def test_a_work_folder_of_another_user_is_refused_in_one_line(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    # When / Then
    with pytest.raises(
        SystemExit, match=r"^dct: error: .* belongs to user \d+, .*DCT_WORK_DIR[^\n]*$"
    ):
        host.start()
