"""`dct timings`: what earlier runs took, shown, as files, and from files."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dct_celery.cli.options import CONTEXT, Seconds, given, spell_out
from dct_celery.cli.project import project_options
from dct_celery.cli.workers import STORE, shown
from dct_celery.core.text import plural
from dct_celery.errors import NothingSelected
from dct_celery.settings import Settings, load

if TYPE_CHECKING:
    from dct_celery.bootstrap.timings import Kept
    from dct_celery.core.plan.timings import Sample

F = TypeVar("F", bound=Callable[..., Any])

#: Options that say which timings are meant: those that a run with the same options plans with.
_WHOSE = ("settings", "backend", *STORE)
_EPILOG = """Files are JSON, or CSV if they are called .csv. Exit codes: 4 a file or option is
wrong, 5 there are no such timings, 7 the store cannot be reached."""
#: Most apps that are listed with their totals.
_MOST_APPS = 20


class _Command(click.Command):
    """`--local` may stand alone, as for `dct run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spell_out(args))


@click.group("timings", context_settings=CONTEXT, epilog=_EPILOG)
def command() -> None:
    """Show, export and import what earlier runs took.

    Run it in the project's folder, with the options of the runs: the timings are those that they
    plan with.
    """


def _whose(function: F) -> F:
    local = click.option("--local", metavar="[N]", help="Those of local runs on this machine.")
    return project_options(*_WHOSE)(local(function))


def _which(function: F) -> F:
    """Options that choose among timings."""
    for flag, metavar, text in (
        ("--max-duration", "SECONDS", "Only what takes at most so long"),
        ("--min-duration", "SECONDS", "Only what takes at least so long"),
    ):
        function = click.option(
            flag, metavar=metavar, type=Seconds(min=0), default=None, help=text
        )(function)
    return click.option(
        "--app",
        metavar="LABEL",
        multiple=True,
        help="Only those of this app, folder, module, class or test (repeatable)",
    )(function)


def _output(function: F) -> F:
    return click.option("-o", "--output", metavar="PATH", required=True, help="The file to write.")(
        function
    )


@command.command("show", cls=_Command, context_settings=CONTEXT, epilog=_EPILOG)
@_whose
@_which
@click.option(
    "-n", "--slowest", metavar="N", type=click.IntRange(min=0), default=20, show_default=True,
    help="How many of the slowest to list",
)  # fmt: skip
@click.pass_context
def show(ctx: click.Context, /, *, slowest: int, **_: object) -> None:
    """Show the slowest tests and class fixtures, and totals by app."""
    kept = _kept(ctx)
    click.echo("\n".join(_report(_chosen(ctx, kept.samples, f"of {kept.place}"), slowest)))


@command.command("export", cls=_Command, context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("path")
@_whose
@_which
@click.pass_context
def export(ctx: click.Context, /, *, path: str, **_: object) -> None:
    """Write the timings to the file PATH."""
    kept = _kept(ctx)
    _write(path, _chosen(ctx, kept.samples, f"of {kept.place}"))


@command.command("import", cls=_Command, context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_whose
@click.option("--replace", is_flag=True, help="Replace what runs have measured, too.")
@click.pass_context
def import_(ctx: click.Context, /, *, paths: tuple[str, ...], replace: bool, **_: object) -> None:
    """Keep the timings in the files PATH for the runs to come.

    Files are those of dct, django-concurrent-test, pytest-split and Knapsack. Where a run has
    measured, its average stays.
    """
    settings, origins = _settings(ctx)
    from dct_celery.bootstrap.timings import add

    samples = _read(paths)
    new, place = add(settings, origins, samples, replace=replace)
    line = f"{plural(new, 'timing')} added to those of {place}"
    if known := len(samples) - new:
        line += f"; of {known:,} more, what was known stays (--replace takes what is in the files)"
    click.echo(shown(line))


@command.command("merge", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_output
def merge(*, paths: tuple[str, ...], output: str) -> None:
    """Write the timings of all files PATH to one; of a name in several, the last counts."""
    _write(output, _read(paths))


@command.command("filter", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("path")
@_which
@_output
@click.pass_context
def filter_(ctx: click.Context, /, *, path: str, output: str, **_: object) -> None:
    """Write some of the timings in the file PATH to another."""
    _write(output, _chosen(ctx, _read([path]), f"in {path}"))


def _settings(ctx: click.Context) -> tuple[Settings, dict[str, str]]:
    flags = {name: value for name, value in given(ctx).items() if name in (*_WHOSE, "local")}
    return load(flags, env=os.environ, cwd=Path.cwd())


def _kept(ctx: click.Context) -> Kept:
    settings, origins = _settings(ctx)
    # Late, so that the help and a wrong option answer at once.
    from dct_celery.bootstrap.timings import kept

    return kept(settings, origins)


def _chosen(ctx: click.Context, samples: Mapping[str, Sample], where: str) -> dict[str, Sample]:
    """Those that the options ask for. Raises NothingSelected."""
    from dct_celery.core.plan import timing_format

    labels, params = ctx.params["app"], ctx.params
    least, most = params["min_duration"] or 0.0, params["max_duration"]
    found = {
        timing_format.key_of(name, measured=measured): sample
        for name, sample, measured in timing_format.named(samples)
        if sample.seconds >= least
        and (most is None or sample.seconds <= most)
        and (not labels or any(timing_format.belongs_to(name, label) for label in labels))
    }
    if found:
        return found
    if samples:
        raise NothingSelected(f"no timing {where} is left by --app, --min-duration, --max-duration")
    raise NothingSelected(
        f"there are no timings {where}: run the tests once, or import a file with dct timings"
        " import; the options of the run decide which timings these are (--store, --local,"
        " --settings)"
    )


def _read(paths: Iterable[str]) -> dict[str, Sample]:
    """Of all files, the last one's where several have a name. Raises UsageError."""
    from dct_celery.dispatcher import timing_files

    found: dict[str, Sample] = {}
    for path in paths:
        found |= timing_files.read(Path(path))
    return found


def _write(path: str, samples: Mapping[str, Sample]) -> None:
    from dct_celery.dispatcher import timing_files

    timing_files.write(Path(path), samples)
    click.echo(f"{plural(len(samples), 'timing')} written to {shown(path)}")


def _report(samples: Mapping[str, Sample], slowest: int) -> Iterator[str]:
    from dct_celery.core.plan import timing_format

    rows = timing_format.named(samples)
    if slowest:
        yield f"{'SECONDS':>10}  {'RUNS':>5}  NAME"
    for name, sample, measured in sorted(rows, key=lambda row: -row[1].seconds)[:slowest]:
        runs = f"{sample.count:,}" if measured else "-"
        yield f"{sample.seconds:>10,.3f}  {runs:>5}  {shown(name)}"
    if slowest:
        yield ""
    yield from _totals(rows)


def _totals(rows: Iterable[tuple[str, Sample, bool]]) -> Iterator[str]:
    from dct_celery.core.plan import timing_format

    seconds: defaultdict[str, float] = defaultdict(float)
    tests: Counter[str] = Counter()
    for name, sample, _ in rows:
        cls = timing_format.class_of(name)
        app = re.split("[./:]", cls or name, maxsplit=1)[0]
        seconds[app] += sample.seconds
        tests[app] += cls is None
    yield f"{'SECONDS':>10}  {'TESTS':>5}  APP"
    for app in sorted(seconds, key=lambda app: -seconds[app])[:_MOST_APPS]:
        yield f"{seconds[app]:>10,.3f}  {tests[app]:>5,}  {shown(app)}"
    more = f" (the first {_MOST_APPS} above)" if len(seconds) > _MOST_APPS else ""
    total = plural(len(seconds), "app")
    yield f"{sum(seconds.values()):>10,.3f}  {tests.total():>5,}  {total} in all{more}"
