"""`dct attach`: goes on with a run whose dispatcher died."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, BareCommand, given
from dct_celery.cli.project import project_options
from dct_celery.cli.workers import STORE
from dct_celery.settings import OUTPUTS, load

#: Options that may differ from those of the run; everything else stays as it was.
_OPTIONS = (
    *STORE,
    "broker",
    *OUTPUTS,
    "junit_family",
    "durations",
    "timing",
    "verbosity",
    "timeout",
    "queue_timeout",
)
_EPILOG = """Without --junit-xml or --json, the reports go to the paths given when the run was
started. Exit codes are those of dct run; 4 also means that the run is unknown, has ended, or that
its dispatcher is still alive."""


@click.command("attach", cls=BareCommand, context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("run")
@project_options(*_OPTIONS)
@click.pass_context
def command(ctx: click.Context, /, *, run: str, **_: object) -> None:
    """Go on with RUN after its dispatcher died. No finished test runs again.

    Its slots have gone on working meanwhile. On the machine of the dead dispatcher, its journal is
    used; on any other machine, the data in the store is enough.
    """
    flags = {name: value for name, value in given(ctx).items() if name in _OPTIONS}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery import api
    from dct_celery.cli.session import session

    with session(settings) as (reporters, interrupted):
        report = api.attach(
            settings,
            run,
            reporters=reporters,
            interrupted=interrupted,
            given=flags,
            origins=origins,
        )
    ctx.exit(report.exit_code)
