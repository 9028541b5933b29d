"""`dct cancel`: stops a run from anywhere; its dispatcher still writes its reports."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, given
from dct_celery.cli.project import project_options
from dct_celery.cli.workers import STORE, shown
from dct_celery.settings import load

_BY = "cancelled by dct cancel"
_EPILOG = "Exit codes: 4 if there is no such run or it has ended, 7 if the store cannot be reached."


@click.command("cancel", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("run")
@click.option("--reason", metavar="TEXT", default="", help="Reason to show in the run's reports.")
@project_options(*STORE)
@click.pass_context
def command(ctx: click.Context, /, *, run: str, reason: str, **_: object) -> None:
    """Stop RUN. Its dispatcher writes the reports and ends with exit code 2.

    `dct status` lists the runs of the pool.
    """
    flags = {name: value for name, value in given(ctx).items() if name in STORE}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery.bootstrap.inspection import cancel_run

    cancel_run(settings, origins, run, f"{_BY}: {reason}" if reason else _BY)
    click.echo(
        f"run {shown(run)} is cancelled; its slots stop, and its dispatcher ends with exit code 2"
    )
