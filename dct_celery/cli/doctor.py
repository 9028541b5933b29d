"""`dct doctor`: one line for everything that a run needs, and a fix below each problem."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, given, spell_out
from dct_celery.cli.project import PROJECT, project_options
from dct_celery.cli.workers import shown
from dct_celery.core.text import plural
from dct_celery.settings import load

_MORE = ("store", "broker", "pool", "allow_database", "deny_database", "deny_db_host", "env",
         "ignore_package", "ignore_env")  # fmt: skip
_COLUMN = 9


class _Command(click.Command):
    """`--local` may stand alone, as for `dct run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spell_out(args))


@click.command(
    "doctor",
    cls=_Command,
    context_settings=CONTEXT,
    epilog=(
        "Exit codes: 7 if a check failed that may succeed later, such as a server that is down;"
        " 4 if all failed checks need a fix."
    ),
)
@project_options(*PROJECT, *_MORE)
@click.option(
    "--local", metavar="[N]", help="Check what `dct run --local` needs: neither store nor workers."
)
@click.option(
    "--measure", is_flag=True, help="Also measure how long a clone of the project's template takes."
)
@click.pass_context
def command(ctx: click.Context, /, *, measure: bool, **_: object) -> None:
    """Check everything that a run needs: store, workers, settings, guards, database servers.

    Run it in the project's folder. The guards come first: no server that they refuse is connected
    to.

    What it creates on MySQL and MariaDB: an empty database, dropped at once, to prove the right to
    create one; and test_dct_registry, the database of our marks, if it is missing. On PostgreSQL:
    nothing, except test_dct_registry if the role cannot connect to the database postgres.
    --measure makes three clones and drops them.
    """
    flags = {name: value for name, value in given(ctx).items() if name != "measure"}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery.bootstrap.maintenance import examine

    levels: Counter[str] = Counter()
    code = 0
    for finding in examine(settings, origins, measure=measure):
        levels[finding.level] += 1
        if finding.level == "failed":
            code = max(code, finding.exit_code)
        line = shown(f"{finding.what}: {finding.text}")
        click.echo(f"{finding.level:<{_COLUMN}}{line}")
        if finding.fix:
            click.echo(f"{'':<{_COLUMN}}  fix: {shown(finding.fix)}")
    counts = (_count(levels[level], level) for level in ("ok", "warning", "failed"))
    click.echo(", ".join(filter(None, counts)))
    ctx.exit(code)


def _count(number: int, level: str) -> str:
    """`15 ok`, `3 warnings`, `1 failed`; nothing for none."""
    if not number:
        return ""
    return plural(number, level) if level == "warning" else f"{number:,} {level}"
