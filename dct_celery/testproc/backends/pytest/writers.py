"""Options of plugins whose files are written where tests run: what comes home, what is refused."""

from __future__ import annotations

import os
from typing import Any

import pytest

from dct_celery.core import globs

#: Destination of an option, the option, and the values with which it changes files of the project;
#: empty for any.
_UPDATES: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("update_snapshots", "--snapshot-update", frozenset()),  # syrupy
    ("snapshot_update", "--snapshot-update", frozenset()),  # pytest-snapshot
    ("force_regen", "--force-regen", frozenset()),  # pytest-regressions
    ("regen_all", "--regen-all", frozenset()),
    ("inline_snapshot", "--inline-snapshot", frozenset({"create", "fix", "trim", "update"})),
    (
        "record_mode",  # pytest-recording
        "--record-mode",
        frozenset({"once", "new_episodes", "all", "rewrite", "any"}),
    ),
)
#: Destination of an option that names a folder, the option, and the plugin that it is of; empty for
#: one whose destination no other plugin has.
_FOLDERS = (("allure_report_dir", "--alluredir", ""), ("output", "--output", "playwright"))


def refusal(config: pytest.Config) -> str:
    """Why this session cannot run on slots; empty where it can."""
    for name, option, values in _UPDATES:
        given: Any = config.getoption(name, None)
        changing = set(str(given).split(",")) & values if values else given
        if given and changing:
            return (
                f"{option} changes files of the project, of which slots have copies: run pytest"
                f" with {option} on this machine, without dct"
            )
    return ""


def folders(config: pytest.Config, root: str) -> tuple[list[str], list[str]]:
    """Globs of the folders that plugins write into; and a sentence for each that lies outside the
    tree.
    """
    patterns, notes = [], []
    for name, option, plugin in _FOLDERS:
        if plugin and not config.pluginmanager.hasplugin(plugin):
            continue
        folder: Any = config.getoption(name, None)
        if not folder:
            continue
        path = os.path.relpath(os.path.realpath(str(folder)), os.path.realpath(root))
        if path == "." or path.startswith(".."):
            notes.append(
                f"what {option} writes stays on the workers: {folder} is no folder inside of the"
                " project; name one"
            )
        else:
            patterns.append(f"{globs.escaped(path)}/")
    return patterns, notes
