"""`dct warm`: the workers prepare for a tree ahead of its first run."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, RunCommand, given, run_options
from dct_celery.settings import load

_EPILOG = """Give it the options of the run that it is for. Nothing runs, and no report is
written."""


@click.command("warm", cls=RunCommand, context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("labels", nargs=-1, metavar="[LABEL]...")
@run_options
@click.pass_context
def command(ctx: click.Context, /, **_: object) -> None:
    """Have every worker of the pool prepare for this project: fetch the code, load it, build the
    template databases and make first clones, so that the next run begins at once.
    """
    settings, origins = load(given(ctx), env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery import api
    from dct_celery.cli.session import session
    from dct_celery.cli.workers import shown_line

    with session(settings, results=False) as (reporters, interrupted):
        warmed = api.warm(settings, reporters=reporters, interrupted=interrupted, origins=origins)
    for line in warmed.lines():
        click.echo(shown_line(line))
