"""`dct run`: reads the settings and hands over to the composition root."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, RunCommand, given, run_options
from dct_celery.errors import ConfigError, Unsuited
from dct_celery.settings import Settings, load

_EPILOG = """Each option is also a variable (DCT_TEST_TIMEOUT for --test-timeout; lists are
separated by commas) and a key of [tool.dct] in pyproject.toml (test-timeout). A flag wins over
a variable, and a variable over the file. `dct config` shows every value and where it comes
from."""


def _explain(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from dct_celery.core.deviations import explain

        click.echo(explain())
        ctx.exit(0)


@click.command("run", cls=RunCommand, context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("labels", nargs=-1, metavar="[LABEL]...")
@run_options
@click.option(
    "--explain-deviations",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_explain,
    help="Explain where a run differs from a sequential one on purpose, and end",
)
@click.option(
    "--list-files", is_flag=True, help="List the files that would be sent to the workers, and end"
)
@click.pass_context
def command(ctx: click.Context, /, *, list_files: bool, **_: object) -> None:
    """Run the project's tests on every worker of the pool.

    Start it in the project's folder. A LABEL is what `manage.py test` takes: a dotted module, class
    or method, or a folder. Without one, all tests run. A project that is tested with pytest is
    recognised; then all behind -- is pytest's own: dct run -- tests/test_cart.py -k total.
    """
    flags = {name: value for name, value in given(ctx).items() if name != "list_files"}
    try:
        settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    except ConfigError as error:
        from dct_celery.bootstrap.report_files import report_failure

        report_failure(flags, os.environ, Path.cwd(), error)
        raise
    # Late, so that the help and a wrong option answer at once.
    if list_files:
        from dct_celery.bootstrap.dispatcher import list_files as lines

        files, warnings = lines(settings)
        for line in files:
            click.echo(line)
        for line in warnings:
            click.echo(f"warning: {line}", err=True)
        ctx.exit(0)
    from dct_celery import api
    from dct_celery.cli.session import session

    if settings.sequential:
        ctx.exit(_in_sequence(settings, f"{origins['sequential']} says so"))
    try:
        with session(settings) as (reporters, interrupted):
            report = api.run(
                settings, reporters=reporters, interrupted=interrupted, origins=origins
            )
    except Unsuited as error:
        if settings.fallback != "sequential":
            raise
        ctx.exit(_in_sequence(settings, str(error)))
    ctx.exit(report.exit_code)


def _in_sequence(settings: Settings, why: str) -> int:
    from dct_celery.bootstrap import sequential
    from dct_celery.core.text import one_line, visible
    from dct_celery.security import masking

    def say(line: str) -> None:
        click.echo(visible(one_line(masking.PROCESS(line))), err=True)

    return sequential.run(settings, why, os.environ, say)
