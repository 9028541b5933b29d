"""Reports of a command line that was refused before there were settings."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

from dct_celery.errors import ConfigError, DctError, Interrupted
from dct_celery.settings import REPORTS, Settings, load

_VARIABLES = ("DCT_JUNIT_XML", "DCT_JSON", "DCT_BENCHMARK", "HOME")


def report_failure(
    flags: Mapping[str, object], env: Mapping[str, str], cwd: Path, error: Exception
) -> None:
    """Writes what says that there was no run, as far as it is known where reports go."""
    from dct_celery.reports import file_reporters

    names = (*REPORTS, "junit_family")
    wanted = {name: flags[name] for name in names if flags.get(name) is not None}
    variables = {name: env[name] for name in _VARIABLES if name in env}
    # The file may be what is wrong: then flags and variables alone.
    for folder in (cwd, Path("/")):
        with contextlib.suppress(ConfigError):
            settings, _ = load(wanted, env=variables, cwd=folder)
            own = Settings(
                **{name: getattr(settings, name) for name in REPORTS}, project_dir=str(cwd)
            )
            for file in file_reporters.of_settings(own, time.time):
                file.fail(*reason(error))
            return


def reason(error: BaseException) -> tuple[str, int]:
    """Why a run has no results, in one line, and its exit code."""
    if isinstance(error, DctError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted before anything ran", Interrupted.exit_code
    return f"internal error: {type(error).__name__}: {error}", DctError.exit_code
