"""`dct status`: the pool's active runs, or all that the store knows of one run."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dct_celery.cli.options import CONTEXT, Seconds, given
from dct_celery.cli.project import project_options
from dct_celery.cli.workers import STORE, shown, table
from dct_celery.core.text import plural
from dct_celery.ports import DISPATCHER_LEASE_MS
from dct_celery.protocol.runs import RunState
from dct_celery.security import masking
from dct_celery.settings import load

if TYPE_CHECKING:
    from dct_celery.inspect.status import RunStatus

_RUNS = ("RUN", "STATE", "TESTS", "FAILED", "BUSY", "BEGAN")
_SLOTS = ("WORKER", "SLOT", "CHUNK", "ATTEMPT", "TESTS", "SINCE", "RUNNING")
#: Most failures that are shown.
_FEW = 10
_EPILOG = "Exit codes: 4 if the store knows no such run, 7 if the store cannot be reached."


@click.command("status", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("run", required=False)
@project_options(*STORE)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object; times are Unix seconds."
)
@click.option(
    "--watch",
    type=Seconds(min=0.2),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Repeat every SECONDS (2 if not given); with RUN, until the run has ended.",
)
@click.pass_context
def command(
    ctx: click.Context, /, *, run: str | None, as_json: bool, watch: float | None, **_: object
) -> None:
    """Show the active runs of the pool; with RUN, its progress and what each slot runs.

    Counts include records that slots have sent and the dispatcher has not yet taken. Times are on
    the store's clock.
    """
    flags = {name: value for name, value in given(ctx).items() if name in STORE}
    settings, origins = load(flags, env=os.environ, cwd=Path.cwd())
    # Late, so that the help and a wrong option answer at once.
    from dct_celery.bootstrap.inspection import status_of_runs, watch_runs

    if watch is None:
        _show(status_of_runs(settings, origins, run), run, settings.pool, as_json=as_json)
        return
    for runs in watch_runs(settings, origins, run):
        if not as_json and sys.stdout.isatty():
            click.clear()
        _show(runs, run, settings.pool, as_json=as_json)
        if run is not None and runs[0].state is RunState.CLOSED:
            return
        time.sleep(watch)


def _show(runs: Sequence[RunStatus], run: str | None, pool: str, *, as_json: bool) -> None:
    if as_json:
        objects = masking.PROCESS.everything([_object(one) for one in runs])
        click.echo(
            json.dumps({"pool": pool, "runs": objects} if run is None else objects[0], indent=2)
        )
    else:
        click.echo("\n".join(_overview(runs, pool) if run is None else _report(runs[0], pool)))


def _object(status: RunStatus) -> dict[str, object]:
    slots = [
        {
            **asdict(one.lease),
            "since": one.since,
            "tests": one.tests,
            "of": one.of,
            "running": one.running,
        }
        for one in status.slots
    ]
    plain = asdict(replace(status, slots=()))
    return {**plain, "slots": slots, "done": status.done, "bad": status.bad}


def _overview(runs: Sequence[RunStatus], pool: str) -> Iterator[str]:
    if not runs:
        yield f"no run is active in pool {pool!r}"
        return
    yield from table(
        _RUNS, [(r.run, r.state, _tests(r), r.bad, len(r.slots), _moment(r.began)) for r in runs]
    )


def _report(status: RunStatus, pool: str) -> Iterator[str]:
    yield f"run       {shown(status.run)}"
    yield f"state     {shown(status.state)}{_silence(status, pool)}"
    yield f"began     {_moment(status.began)}"
    yield f"tests     {_tests(status)}{_outcomes(status)}"
    if status.waiting:
        yield f"waiting   {shown(status.waiting)}"
    if status.left and status.state is RunState.OPEN:
        yield f"left      about {status.left:,.0f} s"
    if status.fixtures:
        yield f"fixtures  {status.fixtures} failed"
    yield f"records   {status.streamed:,} streamed, {status.acknowledged:,} acknowledged"
    workers = [shown(f"{name} {state}") for name, state in sorted(status.workers.items())]
    yield f"workers   {', '.join(workers) or 'none'}"
    for name, why in sorted(status.refusals.items()):
        yield f"          {shown(f'{name}: {why}')}"
    if status.note:
        yield f"note      {shown(status.note)}"
    for problem in status.problems[:_FEW]:
        message = f"  {shown(problem.message)}" if problem.message else ""
        yield f"failed    {shown(problem.name)}{message}"
    if len(status.problems) > _FEW:
        yield f"          and more: {status.bad:,} in all"
    if status.slots:
        yield ""
        rows = [
            (
                one.lease.worker,
                one.lease.slot,
                one.lease.chunk,
                one.lease.attempt,
                f"{one.tests:,} of {one.of:,}" if one.of else one.tests,
                _moment(one.since),
                one.running,
            )
            for one in status.slots
        ]
        yield from table(_SLOTS, rows)
        yield f"{plural(len(status.slots), 'slot')} busy"


def _silence(status: RunStatus, pool: str) -> str:
    if status.state is RunState.CLOSED:
        return ""
    if status.silence > DISPATCHER_LEASE_MS / 1000:
        return (
            f", but its dispatcher has been silent for {status.silence:,.0f} s: dct attach"
            f" {shown(status.run)} goes on with it"
        )
    if status.announced:
        return ""
    return f", but it is not announced in pool {pool!r}: it belongs to another pool"


def _tests(status: RunStatus) -> str:
    return f"{status.done:,} of {'?' if status.total is None else f'{status.total:,}'}"


def _outcomes(status: RunStatus) -> str:
    counts = [
        f"{count:,} {outcome.replace('_', ' ')}"
        for outcome, count in sorted(status.outcomes.items())
    ]
    return f": {', '.join(counts)}" if counts else ""


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "not yet"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
