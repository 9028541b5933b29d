"""Reads a manage.py without running it."""

from __future__ import annotations

import ast


def default_settings(source: bytes) -> str | None:
    """The module that it sets as default for DJANGO_SETTINGS_MODULE; None if it sets none."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        values = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
        if (
            len(values) == 2
            and values[0] == "DJANGO_SETTINGS_MODULE"
            and isinstance(values[1], str)
        ):
            return values[1]
    return None
