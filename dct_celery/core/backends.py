"""Backends by name: what a setting may say, where each is found, how a test is re-run.

A backend runs in the project's own environment, so this side never imports it. What it must know of
a test (what the project's own command calls it) is in the manifest.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from dct_celery.core.model import Entry

DJANGO = "django"
PYTEST = "pytest"
#: Name -> module:attribute, in the copy of this package that the user's process loads.
BUILT_IN = {
    DJANGO: "dct_celery.testproc.backends.django_unittest:BACKEND",
    PYTEST: "dct_celery.testproc.backends.pytest:BACKEND",
}
#: Options that only the backend `django` understands.
DJANGOS_OPTIONS = (
    "settings",
    "k",
    "tag",
    "exclude_tag",
    "pattern",
    "top_level_directory",
    "shuffle",
    "reverse",
    "buffer",
    "debug_sql",
    "testrunner",
)
_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
#: A built-in one, or module:attribute of one in the project or its environment.
PATTERN = rf"{'|'.join(BUILT_IN)}|{_DOTTED}:{_DOTTED}"
RULE = f"{', '.join(BUILT_IN)}, or module:attribute of a backend of your own"


def location(name: str) -> tuple[str, str]:
    """(module, attribute) of a name that matches PATTERN."""
    module, _, attribute = BUILT_IN.get(name, name).partition(":")
    return module, attribute


def rerun(command: Iterable[str], entry: Entry) -> str:
    """A shell command: the project's own `command` with this one test."""
    return shlex.join([*command, entry.label or entry.id])


def _label_of_unit(entry: Entry) -> str:
    """What the command calls the class of the test; its module, or the test alone, where pytest's
    tests stay together so.
    """
    label = entry.label or entry.id
    if "::" not in label:
        return label.rpartition(".")[0] or entry.cls
    if any(name.startswith("module:") for name in entry.keep_with):
        return label.partition("::")[0]
    return label if entry.unit == entry.id else label.removesuffix(f"::{entry.name}")


def rerun_after(command: Iterable[str], classes: Sequence[Entry], entry: Entry) -> str:
    """The same with the classes of these tests before it; the command must keep this order."""
    before = dict.fromkeys(map(_label_of_unit, classes))
    words, labels = list(command), [*before, entry.label or entry.id]
    return shlex.join([*words, *(reversed(labels) if "--reverse" in words else labels)])
