"""Turns the table of options into click options and their help. `settings` validates values."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dct_celery.core.option import Option
from dct_celery.settings import OPTIONS, REPORTS

F = TypeVar("F", bound=Callable[..., Any])

#: Title of each group of options, in the order of the help.
SECTIONS = {
    "tests": "Selection and order",
    "fleet": "Fleet",
    "code": "Code",
    "database": "Databases",
    "limits": "Limits",
    "report": "Reports",
    "timings": "Timings",
    "worker": "Worker",
}
EXIT_CODES = (
    ("0", "all passed"),
    ("1", "tests failed"),
    ("2", "interrupted"),
    ("3", "internal error"),
    ("4", "usage or configuration"),
    ("5", "nothing selected"),
    ("7", "infrastructure: some test has no verdict"),
)
#: For every command: `-h`, and help lines of up to 110 columns where the terminal has them.
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_METAVARS = {"int": "N", "float": "SECONDS", "path": "PATH", "program": "PATH", "url": "URL"}
_COLUMN = 32


def run_options(function: F) -> F:
    """Adds every option of `dct run` to a click command. Values stay text: see `given`."""
    for option in reversed(OPTIONS):
        if option.flags:
            function = click.option(*option.flags, option.name, **attributes(option))(function)
    return function


def attributes(option: Option) -> dict[str, Any]:
    shown = f"{option.default:g}" if isinstance(option.default, float) else option.default
    text = option.help + (f" [{shown}]" if shown not in (None, "", False, ()) else "")
    text += " (repeatable)" if option.kind == "list" else ""
    if option.kind == "bool":
        return {"is_flag": True, "flag_value": not option.switches_off, "help": option.help}
    choices = "" if option.kind == "url" else "|".join(option.choices)
    metavar = option.metavar or choices or _METAVARS.get(option.kind, "TEXT")
    return {"metavar": metavar, "multiple": option.kind == "list", "help": text}


def given(ctx: click.Context) -> dict[str, object]:
    """The parameters that were on the command line, by name. `settings.load` finds the others."""
    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def spell_out(args: list[str]) -> list[str]:
    """The arguments with a bare `--shuffle` or `--local` completed to `--shuffle=auto`.

    A label that follows it stays a label.
    """
    bare = {flag: option for option in OPTIONS if option.bare is not None for flag in option.flags}
    end = args.index("--") if "--" in args else len(args)
    head, followers = args[:end], [*args[:end], ""][1:]
    return [
        f"{arg}=auto" if arg in bare and not re.fullmatch(bare[arg].follower, after) else arg
        for arg, after in zip(head, followers, strict=True)
    ] + args[end:]


def refuse_two_spellings(args: Sequence[str]) -> None:
    """Raises click.UsageError where two spellings of an option have different values.

    Of two flags that are spelt the same the last one counts, as everywhere.
    """
    words = list(args[: args.index("--")] if "--" in args else args)
    for option in (
        one for one in OPTIONS if len(one.flags) > 1 and one.kind not in ("bool", "list")
    ):
        given: dict[str, str] = {}
        for word, after in pairwise([*words, ""]):
            flag, equals, value = word.partition("=")
            if flag in option.flags:
                given[flag] = value if equals else after
        if len(set(given.values())) > 1:
            both = " and ".join(f"{flag} {value}" for flag, value in given.items())
            raise click.UsageError(f"{both} mean the same setting and differ; remove one")


class Seconds(click.FloatRange):
    """A number of seconds; NaN, which no comparison refuses, and infinity are none."""

    name = "number of seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


class BareCommand(click.Command):
    """A command with options whose value may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spell_out(args))


class RunCommand(click.Command):
    """A command with `run_options`, whose help comes in sections."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        argv = list(args)
        try:
            refuse_two_spellings(args)
            return super().parse_args(ctx, spell_out(args))
        except click.UsageError as error:
            _report_refusal(argv, error)
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {option.name: option.group for option in OPTIONS}
        for group, title in {**SECTIONS, "": "Other"}.items():
            _write(formatter, title, list(self._records(ctx, group, groups)))
        _write(formatter, "Exit codes", list(EXIT_CODES))

    def _records(
        self, ctx: click.Context, group: str, groups: dict[str, Any]
    ) -> Iterator[tuple[str, str]]:
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record and groups.get(param.name or "", "") == group:
                yield record


def _report_refusal(argv: list[str], error: click.UsageError) -> None:
    """Replaces the reports of an earlier run by ones that say that this command line was refused.

    Their paths are searched for by hand, since the line as a whole could not be parsed.
    """
    from dct_celery.bootstrap.report_files import report_failure
    from dct_celery.errors import UsageError

    flags: dict[str, object] = {}
    for option in (option for option in OPTIONS if option.name in REPORTS):
        for argument, after in zip(argv, [*argv[1:], ""], strict=True):
            flag, equals, value = argument.partition("=")
            own = option.bare is None or re.fullmatch(option.follower, after)
            if flag in option.flags and (equals or (after and own)):
                flags[option.name] = value if equals else after
    report_failure(flags, os.environ, Path.cwd(), UsageError(error.format_message()))


def _write(formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            # Padded, so that all sections share one column.
            formatter.write_dl(
                [(_indent(term).ljust(_COLUMN), text) for term, text in rows], col_max=_COLUMN
            )


def _indent(term: str) -> str:
    """Aligns long flags, whether or not a short one comes first."""
    return "    " + term if term.startswith("--") else term
