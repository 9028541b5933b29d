"""pytest-cov on the dispatcher: it reports on what slots have measured, as if it had been here."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from dct_celery.errors import UsageError
from dct_celery.ports.reporting import CoverageArrived
from dct_celery.reports import coverage_data


class Coverage:
    """The plugin of pytest-cov in this session, if it measures anything."""

    def __init__(self, config: pytest.Config) -> None:
        self.plugin: Any = config.pluginmanager.getplugin("_cov")
        #: Its part that measures and combines.
        self._controller: Any = getattr(self.plugin, "cov_controller", None)
        self._forgotten = False

    def pause(self) -> None:
        """Ends the measurement of this process, which is to run no tests."""
        if self._controller is not None:
            self._controller.pause()

    def resume(self) -> None:
        """Goes on with it: the process runs the tests after all."""
        if self._controller is not None:
            self._controller.resume()

    def forget(self) -> None:
        """Forgets what was measured here: the tests ran on slots."""
        controller = self._controller
        if controller is None or self._forgotten:
            return
        self._forgotten = True
        controller.cov.erase()
        controller.node_descs.add(controller.get_node_desc(sys.platform, sys.version_info))

    def take(self, arrived: CoverageArrived) -> None:
        """Leaves the data where pytest-cov looks for those of its own processes. Raises UsageError
        where they cannot be combined.
        """
        if self._controller is None:
            return
        self.forget()  # erasing removes what lies there
        file = f"{self._controller.combining_cov.config.data_file}.dct-{os.getpid()}"
        try:
            coverage_data.combine(str(arrived.folder), str(arrived.root), file)
        except (ValueError, OSError) as error:
            raise UsageError(f"the coverage data cannot be combined: {error}") from error
