"""The `dct` group, and how every command ends: one line on stderr and an exit code (I10)."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import click

from dct_celery import __version__
from dct_celery.bootstrap import slow_down_garbage_collector
from dct_celery.cli import streams
from dct_celery.cli.options import CONTEXT
from dct_celery.errors import DctError, Interrupted, UsageError

#: Command -> (module under cli, what it does). The module is imported when the command runs, not
#: for `dct --help`.
COMMANDS = {
    "try": ("try_", "Compare a distributed run of the project's tests with one in one process"),
    "run": ("run", "Run the project's tests on every worker of the pool"),
    "warm": ("warm", "Have the workers build what the next run of the project needs"),
    "replay": ("replay", "Run what one test process of a run ran again, in the same order"),
    "bisect": ("bisect", "Find out what the verdict of a test in a run depends on"),
    "attach": ("attach", "Go on with a run whose dispatcher died"),
    "workers": ("workers", "Show the workers that are connected to the pool"),
    "timings": ("timings", "Show, export and import what earlier runs took"),
    "status": ("status", "Show the active runs, or the progress of one"),
    "cancel": ("cancel", "Stop a run from anywhere"),
    "keygen": ("keygen", "Make a signing key"),
    "config": ("config", "Show each setting and where its value comes from"),
    "doctor": ("doctor", "Check everything that a run needs, and say how to fix what is wrong"),
    "gc": ("gc", "Drop unused databases of dct from the project's servers"),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"dct_celery.cli.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        close = [] if args[0] in COMMANDS else get_close_matches(args[0], COMMANDS, 1)
        if close:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings=CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="dct")
def dct() -> None:
    """Run a Django test suite on many machines at once, with the verdicts of a sequential run."""


def main() -> None:
    """Entry point of `dct`; always ends in SystemExit."""
    slow_down_garbage_collector()
    streams.take()
    sys.exit(invoke(sys.argv[1:]))


def invoke(args: Sequence[str]) -> int:
    """Runs the command line and returns its exit code; reports errors on stderr."""
    try:
        result = dct.main(args=list(args), prog_name="dct", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as exc:
        _show(exc)
        return UsageError.exit_code
    except DctError as exc:
        _say(f"dct: error: {exc}", exc.detail)
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("dct: interrupted")
        return Interrupted.exit_code
    except SystemExit as exc:
        # click's own ways out: shell completion (0 when it worked), a closed pipe (1, which would
        # say "tests failed").
        return 0 if exc.code in (None, 0) else DctError.exit_code
    except Exception as exc:
        _say(f"dct: internal error: {type(exc).__name__}: {exc}", traceback.format_exc())
        return DctError.exit_code


def _show(exc: click.ClickException) -> None:
    """As click does, but masked and made visible: an argument may be a secret, or hold anything."""
    from dct_celery.core.text import visible
    from dct_celery.security import masking

    clean = click.UsageError(
        visible(masking.PROCESS(exc.format_message())), getattr(exc, "ctx", None)
    )
    clean.show()


def _say(line: str, detail: str = "") -> None:
    from dct_celery.core.text import one_line, visible
    from dct_celery.security import masking

    # Masked as one text: a secret of several lines is one secret.
    first, _, more = masking.PROCESS(f"{line}\0{detail.rstrip()}").partition("\0")
    click.echo(f"{one_line(first)}\n{visible(more)}" if more.strip() else one_line(first), err=True)
