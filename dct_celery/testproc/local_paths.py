"""Texts without the folders of this host, so that they are equal on two hosts."""

from __future__ import annotations

import os
import re
import sys
import tempfile

from dct_celery.wire.process import MACHINE_TMPDIR


class LocalPaths:
    """The folders that differ between hosts: tree, environment, temporary folder and home."""

    def __init__(self, root: str) -> None:
        """`root`: top of the tree."""
        self._places = _places(root)
        patterns = []
        for place, name in self._places.items():
            # A name made by tempfile is replaced together with its folder.
            temporary = r"(?:/[^/'\"\s,;:]+)?" if name == "<tmp>" else ""
            patterns.append(rf"{re.escape(place)}{temporary}(?![\w.-])")
        self._pattern = re.compile("|".join(patterns))

    def replaced(self, text: str) -> str:
        """The text, with these folders replaced by names."""
        if os.sep not in text:
            return text
        return self._pattern.sub(self._name, text)

    def _name(self, match: re.Match[str]) -> str:
        found = match[0]
        return next(
            name
            for place, name in self._places.items()
            if found == place or found.startswith(place + os.sep)
        )


def _places(root: str) -> dict[str, str]:
    """Folder of this host -> name for it, longest first."""
    known = {
        os.path.expanduser("~"): "<home>",
        tempfile.gettempdir(): "<tmp>",
        os.environ.get(MACHINE_TMPDIR, tempfile.gettempdir()): "<tmp>",
        sys.prefix: "<prefix>",
        sys.base_prefix: "<prefix>",
        root: "<root>",
    }
    both = {
        place: name
        for given, name in known.items()
        for place in (os.path.realpath(given), given.rstrip(os.sep))
    }
    return {
        place: both[place] for place in sorted(both, key=len, reverse=True) if place.strip(os.sep)
    }
