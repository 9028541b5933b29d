"""The reports of a run that ended without results: whatever happens, no report of an earlier run is left to pass for its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dct_celery.core.text import one_line
from dct_celery.errors import ConfigError, DctError, Interrupted, Superseded
from dct_celery.settings import Settings, load

if TYPE_CHECKING:
    from dct_celery.core.model import RunReport

_PENDING = "the run has not ended: it goes on, or was killed before it had a result"
#: What it takes to know where reports go.
_REPORTS = ("junit_xml", "json")


class Reports:
    """What `--junit-xml` and `--json` ask for: written by a run as it goes on, or once when it has failed before."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._written = False

    def write(self, report: RunReport) -> None:
        from dct_celery.reports import files

        self._written = True
        if path := _path(self._settings, "junit_xml"):
            files.write_junit(path, report, self._settings.junit_family)
        if path := _path(self._settings, "json"):
            files.write_json(path, report)

    @contextlib.contextmanager
    def whatever_happens(self) -> Iterator[None]:
        """Around a run. An earlier run's report is replaced at once: a killed process cannot do it any more."""
        self.fail(_PENDING, Interrupted.exit_code, earlier_only=True)
        try:
            yield
        except Superseded:
            raise  # the run goes on elsewhere, and its reports with it
        except BaseException as error:
            if not self._written:
                self.fail(*_reason(error))
            raise

    def fail(self, line: str, exit_code: int, *, earlier_only: bool = False) -> None:
        """Reports without results; with `earlier_only` only where there is one of an earlier run."""
        from dct_celery.core.model import RunReport
        from dct_celery.reports import files

        report = RunReport(self._settings.run_id or "", (), (), exit_code, started_at=time.time(), error=one_line(line))
        # The strict family is valid for every reader, whichever one was asked for.
        writers: dict[str, Callable[[Path, RunReport], None]] = {
            "junit_xml": partial(files.write_junit, family="xunit2"),
            "json": files.write_json,
        }
        for name, write in writers.items():
            path = _path(self._settings, name)
            if path and (path.is_file() or not earlier_only):
                # That it cannot be written is what the run failed for, or was said when it began.
                with contextlib.suppress(DctError):
                    write(path, report)


def report_failure(flags: Mapping[str, object], env: Mapping[str, str], cwd: Path, error: Exception) -> None:
    """For a command line that was refused before there were settings: reports as far as it can be told where they go."""
    names = (*_REPORTS, "junit_family")
    wanted = {name: flags[name] for name in names if flags.get(name) is not None}
    variables = {name: env[name] for name in ("DCT_JUNIT_XML", "DCT_JSON", "HOME") if name in env}
    # The file may be what is wrong: then flags and variables alone.
    for folder in (cwd, Path("/")):
        with contextlib.suppress(ConfigError):
            settings, _ = load(wanted, env=variables, cwd=folder)
            own = Reports(Settings(**{name: getattr(settings, name) for name in _REPORTS}, project_dir=str(cwd)))
            own.fail(*_reason(error))
            return


def _path(settings: Settings, name: str) -> Path | None:
    path = getattr(settings, name)
    return Path(settings.project_dir, path) if path else None


def _reason(error: BaseException) -> tuple[str, int]:
    if isinstance(error, DctError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted before anything ran", Interrupted.exit_code
    return f"internal error: {type(error).__name__}: {error}", DctError.exit_code
