"""Makes a fork of the loader the test process that its slot is to have."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from dct_celery.testproc.backends.pytest import plugins


def settle(session: pytest.Session) -> None:
    """Called once, before anything of the session runs in this process."""
    config = session.config
    plugins.announce(config, plugins.own_id(os.environ))
    _capture_anew(config)
    _own_basetemp(config)


def _capture_anew(config: pytest.Config) -> None:
    """Capture has files that all forks of a loader would share, and restores its descriptors."""
    manager: Any = config.pluginmanager.getplugin("capturemanager")
    if manager is None or not manager.is_globally_capturing():
        return
    kept = [os.dup(fd) for fd in (0, 1, 2)]
    manager.stop_global_capturing()
    for fd, own in enumerate(kept):
        os.dup2(own, fd)
        os.close(own)
    manager.start_global_capturing()
    manager.suspend_global_capture()


def _own_basetemp(config: pytest.Config) -> None:
    """A basetemp that was chosen would be removed by each process; each gets one of its own."""
    factory: Any = getattr(config, "_tmp_path_factory", None)
    if factory is None:
        return
    factory._basetemp = None
    if factory._given_basetemp is not None:
        factory._given_basetemp = Path(tempfile.gettempdir()) / "basetemp"
