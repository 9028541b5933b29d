"""`dct gc`: garbage collection by hand, with one line per database: what was done, and why."""

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

_EPILOG = """Only databases that have both a name of dct's pattern and dct's mark are dropped. Exit
code 7: a server could not be reached, or a database could not be dropped."""


@click.command("gc", context_settings=CONTEXT, epilog=_EPILOG)
@project_options(*PROJECT, "allow_database", "deny_database", "deny_db_host")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be dropped, but drop nothing.")
@click.pass_context
def command(ctx: click.Context, /, *, dry_run: bool, **_: object) -> None:
    """Drop unused databases of dct from the project's servers.

    These are databases that dead runs left behind, and templates and clones that no run has used
    for long. Run it in the project's folder, since it reads the servers from the project's
    settings. What is in use stays. A database that looks abandoned is checked again after 16
    seconds before it is dropped. Servers that the guards of `dct run` refuse are not connected to.
    """
    flags = {name: value for name, value in given(ctx).items() if name != "dry_run"}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery.bootstrap.maintenance import collect_garbage

    click.echo("loading the project, which knows its databases …", err=True)
    swept = collect_garbage(settings, origins, dry_run=dry_run, wait=_wait)
    for line in _report(swept, dry_run=dry_run):
        click.echo(line)
    failed = any(
        one.error or any(result.action == "failed" for result in one.results) for one in swept
    )
    ctx.exit(InfrastructureError.exit_code if failed else 0)


def _wait(databases: int, seconds: int) -> None:
    look = "database looks" if databases == 1 else "databases look"
    click.echo(f"{databases} {look} abandoned; checking again in {seconds} s …", err=True)
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
                _action(result, dry_run=dry_run),
                _size(result),
                shown(result.reason),
            )
            for result in one.results
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        for name, action, size, reason in rows:
            yield f"  {name:<{widths[0]}}  {action:<{widths[1]}}  {size:>{widths[2]}}  {reason}"
        yield f"  failed: {shown(one.error)}" if one.error else f"  {_sum(one, dry_run=dry_run)}"


def _action(result: Result, *, dry_run: bool) -> str:
    if dry_run and result.action == "dropped":
        return "would drop"
    return "left" if result.action == "again" else result.action


def _size(result: Result) -> str:
    return f"{result.bytes / 1e6:.0f} MB" if result.bytes else "-"


def _sum(one: Swept, *, dry_run: bool) -> str:
    counts = Counter(_action(result, dry_run=dry_run) for result in one.results)
    if not counts:
        return "no database of ours"
    return ", ".join(f"{count} {action}" for action, count in sorted(counts.items()))
