"""Options of commands that load the project but select no tests.

All other settings come from variables and pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dct_celery.cli.options import attributes
from dct_celery.settings import OPTIONS

F = TypeVar("F", bound=Callable[..., Any])

#: Options that are needed to load the project.
PROJECT = ("settings", "pythonpath", "testrunner", "python")


def project_options(*names: str) -> Callable[[F], F]:
    """Adds these options of `dct run` to a click command. Values stay text: see `options.given`."""

    def add(function: F) -> F:
        for option in reversed(OPTIONS):
            if option.name in names:
                function = click.option(*option.flags, option.name, **attributes(option))(function)
        return function

    return add
