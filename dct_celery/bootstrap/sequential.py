"""The project's own test command, in sequence, where tests are not distributed. It is said.

With --sequential (DJANGO_ENABLE_CONCURRENT=false), and with --fallback sequential where a run is
`errors.Unsuited`. The exit code is the command's own.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dct_celery.bootstrap import subcommand
from dct_celery.bootstrap.report_files import report_failure
from dct_celery.core.backends import PYTEST
from dct_celery.core.command import PYTEST as PYTEST_MODULE
from dct_celery.errors import ConfigError, Unsuited
from dct_celery.settings import REPORTS, Settings

#: In the environment of the command: a test runner class or pytest plugin of ours does not
#: distribute.
IN_SEQUENCE = "DCT_IN_SEQUENCE"


def command_line(settings: Settings) -> list[str]:
    """The command with the arguments that select the same tests. Raises ConfigError for a backend
    without a command of its own.
    """
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.bootstrap.dispatcher import new_request
    from dct_celery.wire.pytest_reports import split_arguments

    request = new_request(settings, find_root(Path(settings.project_dir)))
    if not request.command:
        raise ConfigError(
            f"the backend {settings.backend} has no command of its own to run the tests in sequence"
        )
    python = settings.python or sys.executable
    if settings.backend == PYTEST:
        words = split_arguments(settings.labels)[1]
        own = PYTEST_MODULE if request.command == PYTEST_MODULE else ("-P", *PYTEST_MODULE)
        return [python, *own, *settings.extra, *words]
    return [python, *request.command, *request.arguments]


def run(
    settings: Settings, why: str, environ: Mapping[str, str], say: Callable[[str], object]
) -> int:
    """Runs it in this terminal and returns its exit code; `say` gets the first and the last line.

    Reports that were asked for become such that say why they have no results. Raises ConfigError.
    """
    command = command_line(settings)
    flags = {name: getattr(settings, name) for name in REPORTS}
    lack = f"the tests ran in sequence, and their results are in the output alone: {why}"
    report_failure(flags, environ, Path(settings.project_dir), Unsuited(lack))
    say(f"dct: the tests run in sequence, not distributed: {why}")
    say(f"dct: {shlex.join(command)}")
    variables = {**environ, IN_SEQUENCE: "1"}
    code = subcommand.run(command, variables, cwd=settings.project_dir, apart=False)
    say(f"dct: the tests ran in sequence (exit code {code}): {why}")
    return code
