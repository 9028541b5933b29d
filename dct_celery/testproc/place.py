"""Where something went wrong, in the project's own code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

#: A frame in a traceback; for an import error unittest puts these into the message.
_SHOWN = re.compile(r'^\s*File "([^"\n]+)", line (\d+)', re.MULTILINE)
#: Folders of installed packages: an environment may lie inside the project.
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def place(error: Any, text: str, root: str) -> tuple[str | None, int | None]:
    """The innermost frame of the project's own code: (file, line).

    The file is relative to `root`, a folder with its separator. (None, None) if none of the
    project's code was running: a path in a package would look like the place to fix. `text` is the
    formatted traceback; it is parsed where the exception has no frames, as that of a module that
    unittest could not import.
    """
    frames = _own(_frames(error), root) or _own(
        ((file, int(line)) for file, line in _SHOWN.findall(text)), root
    )
    return frames[-1] if frames else (None, None)


def _frames(error: Any) -> Iterable[tuple[str, int]]:
    tb = getattr(error, "__traceback__", None)
    while tb is not None:
        if "__unittest" not in tb.tb_frame.f_globals:
            yield tb.tb_frame.f_code.co_filename, tb.tb_lineno
        tb = tb.tb_next


def _own(frames: Iterable[tuple[str, int]], root: str) -> list[tuple[str, int]]:
    below = [(file.removeprefix(root), line) for file, line in frames if file.startswith(root)]
    return [(file, line) for file, line in below if _INSTALLED.isdisjoint(file.split(os.sep))]
