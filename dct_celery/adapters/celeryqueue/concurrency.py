"""`celery -A dct_celery worker --concurrency auto`: as many slots as the machine has room for."""

from __future__ import annotations

import sys
from typing import Any

import click

from dct_celery.errors import MachineUnfit
from dct_celery.machine import room


class Concurrency(click.ParamType):  # type: ignore[type-arg]
    """A number of slots, as Celery takes it, or `auto`."""

    def __init__(self, celerys: Any, most: int | None) -> None:
        self._celerys = celerys
        self._most = most
        self.name = celerys.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).lower() != "auto":
            return self._celerys.convert(value, param, ctx)
        try:
            slots = room()
        except MachineUnfit as error:
            sys.stderr.write(f"dct: error: --concurrency auto: {error}\n")
            raise SystemExit(error.exit_code) from None
        count = min(slots.count, self._most or slots.count)
        cap = f", at most {self._most}" if count < slots.count else ""
        sys.stderr.write(f"dct: {slots.reason}{cap}\n")
        return count


def accept_auto(most: int | None) -> None:
    """Has the worker's command, if this is its process, understand `auto`: `most` slots, if given.

    Celery 5.7 knows the word itself, and counts cores alone. The app is loaded before the options
    of the subcommand are read.
    """
    if command := sys.modules.get("celery.bin.worker"):
        for option in command.worker.params:
            if option.name == "concurrency":
                option.type = Concurrency(option.type, most)
