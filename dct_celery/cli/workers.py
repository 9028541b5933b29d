"""`dct workers`: the workers that are connected to the pool, and what each is doing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dct_celery.cli.options import CONTEXT, given
from dct_celery.cli.project import project_options
from dct_celery.core.text import one_line, plural, strip_ansi
from dct_celery.security import masking
from dct_celery.settings import load

if TYPE_CHECKING:
    from dct_celery.inspect.status import WorkerStatus

#: The options of every command that only queries the store.
STORE = ("store", "pool")
_HEAD = ("WORKER", "HOST", "SLOTS", "VERSION", "STATE")


@click.command(
    "workers", context_settings=CONTEXT, epilog="Exit code 7 if the store cannot be reached."
)
@project_options(*STORE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, /, *, as_json: bool, **_: object) -> None:
    """Show the workers that are connected to the pool, their slots, and what each is doing."""
    flags = {name: value for name, value in given(ctx).items() if name in STORE}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery.bootstrap.inspection import status_of_workers

    seen = status_of_workers(settings, origins)
    if as_json:
        objects = masking.PROCESS.everything([_object(one) for one in seen])
        click.echo(json.dumps({"pool": settings.pool, "workers": objects}, indent=2))
    else:
        click.echo("\n".join(_report(seen, settings.pool)))


def _object(one: WorkerStatus) -> dict[str, object]:
    names = ("name", "host", "slots", "busy", "runs", "version", "protocol")
    return {**{name: getattr(one.info, name) for name in names}, "obstacle": one.obstacle}


def _report(seen: Sequence[WorkerStatus], pool: str) -> Iterator[str]:
    if not seen:
        variable = "" if pool == "default" else f"DCT_POOL={pool} "
        yield f"no worker is connected to pool {pool!r}"
        yield f"start a worker with the same DCT_STORE: {variable}celery -A dct_celery worker"
        return
    infos = [one.info for one in seen]
    yield from table(
        _HEAD,
        [
            (one.info.name, one.info.host, one.info.slots, one.info.version, _state(one))
            for one in seen
        ],
    )
    workers = plural(len(infos), "worker")
    slots = plural(sum(info.slots for info in infos), "slot")
    yield f"{workers} with {slots} in pool {pool!r}, {sum(info.busy for info in infos)} busy"


def _state(one: WorkerStatus) -> str:
    doing = [f"busy {one.info.busy}"] if one.info.busy else []
    doing += [f"{run} {state}" for run, state in sorted(one.info.runs.items())]
    if short := one.info.about.get("short", ""):
        doing.append(short)
    return one.obstacle or ", ".join(doing) or "idle"


# -- for commands with tables ------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Lines with aligned columns, two spaces apart; a column of numbers is flush right."""
    texts = [[shown(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    right = [all(isinstance(row[at], int) for row in rows) for at in range(len(head))]
    for row in (head, *texts):
        cells = [
            f"{cell:{'>' if end else '<'}{width}}"
            for cell, end, width in zip(row, right, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def shown(text: str) -> str:
    """Text from the store as one line, without control characters and secrets."""
    return one_line(masking.PROCESS(" ".join(strip_ansi(text).split())))


def shown_line(text: str) -> str:
    """A line of ours with such texts in it, its blanks as they are."""
    return one_line(masking.PROCESS(strip_ansi(text)))
