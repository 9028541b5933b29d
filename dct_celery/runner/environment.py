"""The variables of the process of `dct run`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def environment() -> dict[str, str]:
    """The variables that this process was started with.

    What the project's command has added since, it adds again where the tests are loaded; settings
    of ours count wherever they come from.
    """
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if b"=" in entry)
    ours = {name: value for name, value in os.environ.items() if name.startswith("DCT_")}
    return {name: value for name, _, value in pairs} | ours


def colours(given: Mapping[str, Any]) -> dict[str, str]:
    return {
        variable: "1" for variable in ("NO_COLOR", "FORCE_COLOR") if given.get(variable.lower())
    }
