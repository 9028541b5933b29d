"""`dct bisect`: what the verdict of a test in a run depends on."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, RunCommand, given
from dct_celery.cli.project import project_options
from dct_celery.cli.replay import WHERE
from dct_celery.settings import load

_OPTIONS = (*WHERE, "settle")
_EPILOG = """Exit codes: 0 found out, also that order is not the cause or that the test is flaky;
1 not found out; else those of dct run, where 4 also means that RUN or TEST is unknown, or that RUN
is of another project. Without --settle it takes as long as it takes. RUN is known as to dct
replay."""


@click.command("bisect", cls=RunCommand, context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("run")
@click.argument("test")
@project_options(*_OPTIONS)
@click.pass_context
def command(ctx: click.Context, /, *, run: str, test: str, **_: object) -> None:
    """Find the class that makes TEST fail, or that it needs before it, and show a command for it.

    TEST is the id of a test in RUN, or its end. All slots take part: they run TEST alone and after
    parts of what ran before it, each time in a fresh process.
    """
    flags = {name: value for name, value in given(ctx).items() if name in _OPTIONS}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery import api
    from dct_celery.cli.session import session
    from dct_celery.cli.workers import shown_line

    with session(settings, results=False) as (reporters, interrupted):
        bisected = api.bisect(
            settings,
            run,
            test,
            reporters=reporters,
            interrupted=interrupted,
            given=flags,
            origins=origins,
        )
    for line in bisected.lines:
        click.echo(shown_line(line))
    ctx.exit(bisected.exit_code)
