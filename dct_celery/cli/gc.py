"""`dct gc`: drops by hand what a worker's timer would drop, and says of every database what became
of it and why.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dct_celery.cli.options import CONTEXT, given
from dct_celery.cli.project import PROJECT, project_options
from dct_celery.cli.workers import shown
from dct_celery.errors import InfrastructureError
from dct_celery.settings import load

if TYPE_CHECKING:
    from dct_celery.worker.databases.garbage_collector import Result, Swept

_EPILOG = """Only databases with a name of our pattern and a mark of ours are ever dropped. Exit code 7: some could not be."""


@click.command("gc", context_settings=CONTEXT, epilog=_EPILOG)
@project_options(*PROJECT, "allow_database", "deny_database", "deny_db_host")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be dropped and drop nothing.")
@click.pass_context
def command(ctx: click.Context, /, *, dry_run: bool, **_: object) -> None:
    """Drop what dead runs left on the project's database servers, and what has not been used for
    long.

    Run it in the project's folder: the project says where its databases are. What is in use stays.
    What only looks abandoned is looked at twice, 16 seconds apart. What the guards of `dct run`
    refuse is not connected to.
    """
    flags = {name: value for name, value in given(ctx).items() if name != "dry_run"}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery.bootstrap import collect_garbage

    click.echo("loading the project, which knows its databases …", err=True)
    swept = collect_garbage(settings, origins, dry_run=dry_run, wait=_wait)
    for line in _report(swept, dry_run=dry_run):
        click.echo(line)
    failed = any(
        one.error or any(result.action == "failed" for result in one.results) for one in swept
    )
    ctx.exit(InfrastructureError.exit_code if failed else 0)


def _wait(databases: int, seconds: int) -> None:
    plural = "database looks" if databases == 1 else "databases look"
    click.echo(f"{databases} {plural} abandoned; looking again in {seconds} s …", err=True)
    time.sleep(seconds)


def _report(swept: list[Swept], *, dry_run: bool) -> Iterator[str]:
    if not swept:
        yield (
            "the project uses no database server, and no worker of this machine has left SQLite"
            " files"
        )
    for one in swept:
        yield f"{shown(one.where)}:"
        rows = [
            (
                shown(result.name),
                _word(result, dry_run=dry_run),
                _size(result),
                shown(result.reason),
            )
            for result in one.results
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        for name, word, size, reason in rows:
            yield f"  {name:<{widths[0]}}  {word:<{widths[1]}}  {size:>{widths[2]}}  {reason}"
        yield f"  failed: {shown(one.error)}" if one.error else f"  {_sum(one, dry_run=dry_run)}"


def _word(result: Result, *, dry_run: bool) -> str:
    return (
        "would drop"
        if dry_run and result.action == "dropped"
        else {"again": "left"}.get(result.action, result.action)
    )


def _size(result: Result) -> str:
    return f"{result.bytes / 1e6:.0f} MB" if result.bytes else "-"


def _sum(one: Swept, *, dry_run: bool) -> str:
    counts = Counter(_word(result, dry_run=dry_run) for result in one.results)
    return (
        ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
        or "no database of ours"
    )
