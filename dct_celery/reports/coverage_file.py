"""Writes the coverage data file of a run, in the place where `coverage run` would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dct_celery.errors import UsageError
from dct_celery.ports import reporting
from dct_celery.ports.reporting import ReportEvent
from dct_celery.reports import coverage_data
from dct_celery.settings import Settings


class CoverageFile:
    """The reporter behind --coverage."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._folder = Path(settings.project_dir)
        self._python = settings.python or sys.executable
        self._environ = environ

    def take(self, event: ReportEvent) -> None:
        """Raises UsageError where the data cannot be combined or written."""
        if not isinstance(event, reporting.CoverageArrived):
            return
        program = Path(coverage_data.__file__)
        # Isolated from this program's folder, which would be on sys.path.
        done = subprocess.run(
            [self._python, "-P", str(program), str(event.folder), str(event.root)],
            cwd=self._folder,
            env=dict(self._environ),
            capture_output=True,
            text=True,
            errors="backslashreplace",
            check=False,
        )
        said = (done.stdout.strip() or done.stderr.strip()).splitlines()
        if done.returncode:
            line = said[-1] if said else f"exit status {done.returncode}"
            raise UsageError(f"the coverage data cannot be combined: {line}")
