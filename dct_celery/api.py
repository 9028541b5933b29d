"""Runs from Python: what `dct run` and `dct attach` do, without their signals, output and exit.

    from dct_celery import api

    settings = api.load(labels=["shop"], local=2)
    report = api.run(settings, reporters=[MyReporter()])
    print(report.exit_code, report.totals())

See docs/api.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from dct_celery.core.metrics import FixtureMetrics, TestMetrics, WorkerMetrics
from dct_celery.core.run.uses import worker_metrics
from dct_celery.errors import ConfigError
from dct_celery.ports.reporting import Reporter
from dct_celery.settings import Settings
from dct_celery.settings import load as _load

if TYPE_CHECKING:
    from dct_celery.bootstrap.again import Bisected, Replayed
    from dct_celery.core.model import RunReport
    from dct_celery.dispatcher.trial import Trial
    from dct_celery.dispatcher.warm import Warmed

__all__ = [
    "FixtureMetrics",
    "TestMetrics",
    "WorkerMetrics",
    "attach",
    "bisect",
    "load",
    "load_with_origins",
    "replay",
    "run",
    "try_project",
    "warm",
    "worker_metrics",
]


def load(project_dir: str | os.PathLike[str] = ".", **given: object) -> Settings:
    """The settings of a run in this folder.

    A value comes from the arguments, else from a `DCT_*` variable, else from `[tool.dct]` in
    pyproject.toml. Names are those of `dct config` with underscores, and `labels`. Raises
    ConfigError for a wrong value or where there is no such folder, TypeError for an unknown name.
    """
    return load_with_origins(project_dir, **given)[0]


def load_with_origins(
    project_dir: str | os.PathLike[str] = ".", **given: object
) -> tuple[Settings, dict[str, str]]:
    """The same, and by name where each setting came from, for the messages of `run`."""
    folder = Path(project_dir)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give that of the project")
    return _load(given, env=os.environ, cwd=folder)


def run(
    settings: Settings,
    *,
    reporters: Iterable[Reporter] = (),
    interrupted: Callable[[], bool] = bool,
    origins: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> RunReport:
    """Runs the project's tests on the pool, or on this machine with `settings.local`.

    Sets no signal handlers, prints nothing and does not end the process. The files that the
    settings ask for (`junit_xml`, `json`) are written. Reporters get every event in the calling
    thread, without secrets.

    Args:
        settings: From `load`, or made by hand.
        reporters: See `dct_celery.ports.reporting`.
        interrupted: Called several times a second, in the calling thread; True ends the run early,
            with exit code 2. The `is_set` of a `threading.Event` lets another thread end the run.
        origins: Where settings came from, by name, for error messages.
        environ: The variables that tests get or can get; default: those of this process.

    Returns:
        The report, with a verdict for every test.

    Raises:
        DctError: There is nothing to report on. Its class says why, and its `exit_code` is that
            of `dct run`.
    """
    from dct_celery.bootstrap.dispatcher import run_tests

    return run_tests(settings, origins or {}, _masked(reporters), interrupted, environ=environ)


def attach(
    settings: Settings,
    run_id: str,
    *,
    reporters: Iterable[Reporter] = (),
    interrupted: Callable[[], bool] = bool,
    given: Iterable[str] = (),
    origins: Mapping[str, str] | None = None,
) -> RunReport:
    """Goes on with a run whose dispatcher died, as `dct attach` does; see `run`.

    `given` names the settings to take from `settings` rather than from the run; `store`, `broker`
    and `pool` are always taken from `settings`. Raises UsageError if the run is unknown, has ended,
    or has a living dispatcher.
    """
    from dct_celery.bootstrap.dispatcher import attach_run

    return attach_run(
        settings, origins or {}, run_id, frozenset(given), _masked(reporters), interrupted
    )


def replay(
    settings: Settings,
    run_id: str,
    test: str | None = None,
    *,
    reporters: Iterable[Reporter] = (),
    interrupted: Callable[[], bool] = bool,
    given: Mapping[str, object] = MappingProxyType({}),
    origins: Mapping[str, str] | None = None,
) -> Replayed:
    """Runs what one test process of an earlier run ran, in the same order, as `dct replay` does.

    `test`: the one to end with; None for the first that failed. `given` names the settings to take
    from `settings` rather than from the run, besides those that say where it runs and what it
    writes. Raises UsageError if the run or the test is unknown, and as `run` does.
    """
    from dct_celery.bootstrap.again import replay_run

    return replay_run(settings, origins or {}, run_id, test, given, _masked(reporters), interrupted)


def bisect(
    settings: Settings,
    run_id: str,
    test: str,
    *,
    reporters: Iterable[Reporter] = (),
    interrupted: Callable[[], bool] = bool,
    given: Mapping[str, object] = MappingProxyType({}),
    origins: Mapping[str, str] | None = None,
) -> Bisected:
    """Finds out what a test's verdict in an earlier run depends on, as `dct bisect` does.

    For the arguments and what is raised see `replay`; `settle` counts only if it is `given`.
    """
    from dct_celery.bootstrap.again import bisect_run

    return bisect_run(settings, origins or {}, run_id, test, given, _masked(reporters), interrupted)


def try_project(
    settings: Settings,
    *,
    reporters: Iterable[Reporter] = (),
    interrupted: Callable[[], bool] = bool,
    origins: Mapping[str, str] | None = None,
) -> Trial:
    """Runs the selection in one process and then distributed, and compares, as `dct try` does.

    Reporters get the events of each run, one after the other. The file of `settings.json` is not
    written: `Trial.to_dict` is what it would hold. Raises as `run` does.
    """
    from dct_celery.bootstrap.trial import try_project as compare

    return compare(settings, origins or {}, _masked(reporters), interrupted)


def warm(
    settings: Settings,
    *,
    reporters: Iterable[Reporter] = (),
    interrupted: Callable[[], bool] = bool,
    origins: Mapping[str, str] | None = None,
) -> Warmed:
    """Has the workers of the pool prepare for these settings, as `dct warm` does: code, templates,
    first clones. Raises as `run` does, and if no worker is ready.
    """
    from dct_celery.bootstrap.dispatcher import warm_workers

    return warm_workers(settings, origins or {}, _masked(reporters), interrupted)


def _masked(reporters: Iterable[Reporter]) -> list[Reporter]:
    from dct_celery.reports.reporter import Masked
    from dct_celery.security import masking

    return [
        reporter if getattr(reporter, "masks", False) else Masked(reporter, masking.PROCESS)
        for reporter in reporters
    ]
