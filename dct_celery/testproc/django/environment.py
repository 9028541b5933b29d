"""What verdicts depend on beside the code and its settings: interpreter and packages, by name."""

from __future__ import annotations

import os
import platform
import sys


def describe() -> dict[str, str]:
    """Name -> value, so that a difference between two machines can be named."""
    facts = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": sys.platform,
        "flags": "".join(
            str(flag) for flag in (sys.flags.optimize, sys.flags.dev_mode, sys.flags.utf8_mode)
        ),
    }
    facts.update({f"package:{name}": version for name, version in _packages().items()})
    return facts


def _packages() -> dict[str, str]:
    """Versions of all installed distributions.

    Read from folder names: opening every METADATA costs 50 ms.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            if entry.endswith((".dist-info", ".egg-info")):
                name, _, version = entry.rsplit(".", 1)[0].partition("-")
                if version:
                    found.setdefault(name.lower().replace("_", "-"), version)
    return found
