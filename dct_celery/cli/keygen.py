"""`dct keygen`: a fresh signing key."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT
from dct_celery.errors import UsageError

_EPILOG = """The dispatcher and every worker need the same key, in a file
(DCT_SIGNING_KEY_FILE=PATH) or in the variable DCT_SIGNING_KEY. A file may hold several keys,
one per line: the first one signs, all are accepted. To change a key without a pause, add the
new one below the old one everywhere, then swap the two everywhere, then remove the old one
everywhere."""


@click.command("keygen", context_settings=CONTEXT, epilog=_EPILOG)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    help="Write the key to a new file that only you can read, instead of to stdout.",
)
def command(*, out: str | None) -> None:
    """Make a signing key. Whoever has it decides what the pool's workers run."""
    key = secrets.token_urlsafe(32)
    if out is None:
        click.echo(key)
        return
    path = Path(out)
    try:
        # O_EXCL follows no link and overwrites nothing; the mode is there before the key is.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{key}\n")
    except FileExistsError:
        raise UsageError(
            f"{path} exists, and a key that is in use must not be lost; choose another name or"
            " remove it"
        ) from None
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}; choose another place with --out"
        ) from error
    click.echo(
        f"wrote a key to {path}; set DCT_SIGNING_KEY_FILE to it on this machine, and to a copy on"
        " every worker"
    )
