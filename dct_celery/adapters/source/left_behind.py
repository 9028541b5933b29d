"""Files that did not go to the workers, and that a failure there is about.

A test that misses a file fails in many ways: the path is in its message, or a module's name, or a
template's; or it shows a text that a compiled catalogue would have translated. What the failure
says is looked for on this machine, where the file is.
"""

from __future__ import annotations

import contextlib
import gettext
import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from dct_celery.adapters.source import listing
from dct_celery.adapters.source.snapshot import Selection, Snapshot
from dct_celery.errors import UsageError

#: Longest text that is searched, in characters, and most names of files that are tried.
_TEXT = 20_000
_NAMES = 300
#: Most failures that are compared with catalogues: each costs a search for every message.
_COMPARED = 200
#: Shortest message of a catalogue that counts when it stands in a failure, in characters.
_MESSAGE = 4
_QUOTED = re.compile(r"""(['"])(?P<name>[^'"\n]{1,300})\1""")
#: The tree of a worker; recorders cut it away where they can.
_TREE = re.compile(r"^.*/trees/[0-9a-f]+\.\w+/tree/")
_MODULE = re.compile(
    r"No module named '([\w.]+)'|cannot import name '(\w+)' from (?:[a-z ]+)?'([\w.]+)'"
)
#: Names of files that are looked for in several folders.
_NAMED = re.compile(
    r"TemplateDoesNotExist: ([^\s,]+)|No fixture named '([^'\n]+)'"
    r"|Missing (staticfiles) manifest entry"
)
_REPOSITORY = re.compile(
    r"not a git repository|NotGitRepository|InvalidGitRepositoryError"
    r"|'git', '(?:rev-parse|rev-list|describe|log|shortlog|show|branch|status|tag|diff|blame"
    r"|archive|cat-file|ls-tree|merge-base|name-rev|for-each-ref|remote|config)'"
    r"|setuptools-scm was unable to detect version"
)
_SUFFIXES = (".py", "/__init__.py", ".so", ".pyd")


class LeftBehind:
    """What is on this machine and not in the snapshot. Asks git at the first failure only."""

    def __init__(self, taken: Snapshot, selection: Selection, folders: Iterable[str] = ()) -> None:
        """`folders`: below the root, where the project's modules and files are looked for."""
        self._root = taken.root
        self._sent = set(taken.index.paths)
        self._selection = selection
        self._folders = list(dict.fromkeys([*folders, "."]))
        self._compared = 0

    def hint(self, text: str) -> str:
        """A sentence about what the failure with this text seems to miss; or ""."""
        text = text[-_TEXT:]
        for names in (self._quoted, self._modules, self._searched, self._translated):
            for name in names(text):
                return self._sentence(name)
        if _REPOSITORY.search(text):
            return (
                "the tree on a worker is no git repository, or has only its commits: give what is"
                " asked of git in a variable (--env), or in a generated file (include)"
            )
        return ""

    # -- ways to name a file ------------------------------------------------------------

    def _quoted(self, text: str) -> Iterator[str]:
        """Paths in quotes, from the root or from the project's folder."""
        for number, match in enumerate(_QUOTED.finditer(text)):
            if number >= _NAMES:
                return
            name = _TREE.sub("", match["name"])
            for folder in self._folders:
                yield from self._missed(os.path.join(folder, name))

    def _modules(self, text: str) -> Iterator[str]:
        for module, name, package in _MODULE.findall(text):
            dotted = module or f"{package}.{name}"
            for folder in self._folders:
                base = os.path.join(folder, dotted.replace(".", "/"))
                for suffix in _SUFFIXES:
                    yield from self._missed(f"{base}{suffix}")

    def _searched(self, text: str) -> Iterator[str]:
        """Templates, fixtures and manifests, which are named without their folder."""
        for match in _NAMED.finditer(text):
            template, fixture, _ = match.groups()
            name = re.escape(template or fixture or "staticfiles.json")
            ending = r"\.\w+" if fixture else ""
            pattern = re.compile(f"(?:^|/){name}{ending}$")
            yield from (path for path in self._ignored if pattern.search(path))

    def _translated(self, text: str) -> Iterator[str]:
        """Compiled catalogues with a message, or its translation, that the failure shows."""
        self._compared += 1
        if self._compared <= _COMPARED:
            for path, messages in self._catalogues.items():
                if any(message in text for message in messages):
                    yield path

    # -- what did not travel ------------------------------------------------------------

    def _missed(self, path: str) -> Iterator[str]:
        """The path below the root, if there is a file there that was not sent."""
        name = os.path.normpath(path)
        if name in self._sent or name.startswith(("..", "/")) or ".git" in name.split("/"):
            return
        with contextlib.suppress(OSError, ValueError):
            if (self._root / name).is_file():
                yield name

    @cached_property
    def _ignored(self) -> list[str]:
        try:
            found = listing.ignored(self._root)
        except UsageError:
            return []
        return [path for path in found if path not in self._sent]

    @cached_property
    def _catalogues(self) -> dict[str, list[str]]:
        found = {}
        for path in self._ignored:
            if path.endswith(".mo"):
                with contextlib.suppress(OSError, ValueError, EOFError):
                    found[path] = _messages(self._root / path)
        return found

    def _sentence(self, path: str) -> str:
        if self._selection.exclude.match(path):
            return f"{path} is left out by exclude and did not travel; does a test need it?"
        glob = f"*{Path(path).suffix}" if path.endswith(".mo") else path
        why = "is ignored by git" if path in self._ignored else "is not part of what is sent"
        return f"{path} {why} and did not travel; include it: --include '{glob}'"


def _messages(path: Path) -> list[str]:
    """Messages of a catalogue and their translations, but for the shortest."""
    with path.open("rb") as file:
        catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    texts = {part for pair in catalogue.items() for part in pair if isinstance(part, str)}
    return [text for text in texts if len(text) >= _MESSAGE and "\n" not in text]
