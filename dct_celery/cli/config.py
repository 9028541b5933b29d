"""`dct config`: each setting, its value and where the value comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click

from dct_celery.cli.options import CONTEXT, SECTIONS
from dct_celery.core.option import Option
from dct_celery.core.redact import MASK, redact
from dct_celery.core.text import one_line
from dct_celery.security import masking
from dct_celery.settings import OPTIONS, Settings, load

#: Widest column of values; a longer value pushes only its own origin to the right.
_WIDEST = 48


@click.command("config", context_settings=CONTEXT)
@click.option(
    "--origin/--no-origin", default=True, help="Show where each value comes from [shown]."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(*, origin: bool, as_json: bool) -> None:
    """Show each setting, its value and where the value comes from.

    That is a variable, pyproject.toml or the default.

    Run it in the project's folder. Passwords and keys are not shown.
    """
    settings, origins = load({}, env=os.environ, cwd=Path.cwd())
    lines = (
        [_as_json(settings, origins)]
        if as_json
        else _as_table(settings, origins, show_origin=origin)
    )
    click.echo("\n".join(lines))


def public_value(option: Option, settings: Settings) -> object:
    """The value as it may be shown: passwords in URLs and keys are masked."""
    value = getattr(settings, option.name)
    if not option.secret or value is None:
        return masking.PROCESS.everything(value)
    return redact(value) if option.kind == "url" else MASK


def _as_json(settings: Settings, origins: dict[str, str]) -> str:
    shown = {
        o.name: {"value": public_value(o, settings), "origin": origins[o.name]} for o in OPTIONS
    }
    return json.dumps(
        {"project_dir": settings.project_dir, "settings": shown}, indent=2, ensure_ascii=False
    )


def _as_table(settings: Settings, origins: dict[str, str], *, show_origin: bool) -> Iterator[str]:
    rows = {option: (option.key, _text(public_value(option, settings))) for option in OPTIONS}
    names = max(len(key) for key, _ in rows.values())
    values = min(_WIDEST, max(len(value) for _, value in rows.values()))
    yield f"Project: {one_line(settings.project_dir)}"
    for group, title in SECTIONS.items():
        yield f"\n{title}:"
        for option, (key, value) in rows.items():
            if option.group == group:
                end = (
                    f"  {value:<{values}}  {origins[option.name]}" if show_origin else f"  {value}"
                )
                yield f"  {key:<{names}}{end}"


def _text(value: object) -> str:
    if value in (None, (), []):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return one_line(", ".join(value) if isinstance(value, list | tuple) else str(value))
