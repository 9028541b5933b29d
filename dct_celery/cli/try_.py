"""`dct try`: is it worth it for this project, and would the verdicts be the same?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, RunCommand, given, run_options, spell_out
from dct_celery.settings import load

_EPILOG = """The two runs come one after the other, each with the same tests, seeds and options;
--failfast, --maxfail, --lf and --reruns do not count. --json PATH writes the comparison; other
reports are those of the distributed run. Exit codes: 0 the same verdicts, 1 not the same; else
those of dct run."""


@click.command("try", cls=RunCommand, context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("labels", nargs=-1, metavar="[LABEL]...")
@run_options
@click.pass_context
def command(ctx: click.Context, /, **_: object) -> None:
    """Run the project's tests in one process on one slot, as its own command does, and then on all
    slots, and compare: verdicts, time, and whether to switch.

    Start it in the project's folder; `dct try --local` needs no server. A test that ends otherwise
    is named with the cause.
    """
    flags = given(ctx)
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery import api
    from dct_celery.cli.session import session
    from dct_celery.cli.workers import shown_line
    from dct_celery.reports import files
    from dct_celery.security import outputs

    report = Path(settings.project_dir, settings.json) if settings.json else None
    if report is not None:
        outputs.check_writable(report, origins["json"])
    with _failure_in(report), session(settings, results=False) as (reporters, interrupted):
        trial = api.try_project(
            settings, reporters=reporters, interrupted=interrupted, origins=origins
        )
    for line in trial.lines(["dct", "run", *_without_json(spell_out(sys.argv[2:]))]):
        click.echo(shown_line(line))
    if report is not None:
        files.write_object(report, trial.to_dict())
    ctx.exit(trial.exit_code)


@contextmanager
def _failure_in(path: Path | None) -> Iterator[None]:
    """A comparison that ends without one says why in its file, which may hold an older one."""
    from dct_celery.bootstrap.report_files import reason
    from dct_celery.dispatcher.trial import no_trial
    from dct_celery.reports import files

    try:
        yield
    except BaseException as error:
        if path is not None:
            files.write_object(path, no_trial(*reason(error)))
        raise


def _without_json(words: Iterable[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word == "--json":
            next(rest, None)
        elif not word.startswith("--json="):
            yield word
