"""`dct replay`: what ran in one test process of a run, again."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, RunCommand, given
from dct_celery.cli.project import project_options
from dct_celery.settings import OPTIONS, OUTPUTS, load

#: Options that say where tests run and what is written; what selects them is the run's.
WHERE = (
    *(option.name for option in OPTIONS if option.group == "fleet"),
    "create_db",
    "keep_databases",
    "test_timeout",
    "fixture_timeout",
    "timeout",
    "queue_timeout",
    *OUTPUTS,
    "junit_family",
    "durations",
    "timing",
    "verbosity",
)
_EPILOG = """The tests are chosen and configured as in RUN, with the same seeds; the code is that of
the folder as it is now. Exit codes are those of dct run; 4 also means that RUN or TEST is unknown,
or that RUN is of another project. On the machine that started RUN its journal is enough; on any
other one the store has it for some minutes after its end."""


@click.command("replay", cls=RunCommand, context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("run")
@click.argument("test", required=False)
@project_options(*WHERE)
@click.pass_context
def command(ctx: click.Context, /, *, run: str, test: str | None, **_: object) -> None:
    """Run again, in one process and in the same order, what ran in a test process of RUN up to
    TEST.

    TEST is the id of a test, or its end. Without it, the first test that failed in RUN is taken.
    """
    flags = {name: value for name, value in given(ctx).items() if name in WHERE}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery import api
    from dct_celery.cli.session import session
    from dct_celery.cli.workers import shown

    with session(settings) as (reporters, interrupted):
        replayed = api.replay(
            settings,
            run,
            test,
            reporters=reporters,
            interrupted=interrupted,
            given=flags,
            origins=origins,
        )
    click.echo(shown(replayed.closing))
    ctx.exit(replayed.report.exit_code)
