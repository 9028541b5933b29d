"""Files such as `.env`, which git usually ignores: what the project reads there, workers lack."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from dct_celery.dispatcher.request import Request
from dct_celery.errors import ConfigError

_ASSIGNMENT = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=", re.MULTILINE)
#: Variables that are named in a message.
_NAMED = 5


def refuse_missing(request: Request, variables: Iterable[str], sent: Collection[str]) -> None:
    """Raises ConfigError if the project has read variables here from a file that is not sent.

    `variables`: those that it has set itself while it was loaded; `sent`: paths below the root.
    """
    wanted = set(variables) - set(request.environment)
    root = Path(request.root).resolve()
    for path in _env_files(request, root):
        name = path.relative_to(root).as_posix()
        if name in sent:
            continue
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if read := [each for each in _ASSIGNMENT.findall(text) if each in wanted]:
            more = f" and {len(read) - _NAMED} more" if len(read) > _NAMED else ""
            raise ConfigError(
                f"the project reads {', '.join(read[:_NAMED])}{more} from {name}, which is not sent"
                f" to workers (git ignores it, or exclude names it); send it with --include {name},"
                f" or set the variables and pass them on with --env {read[0]}"
            )


def _env_files(request: Request, root: Path) -> Iterator[Path]:
    """Where loaders of such files look: in the project, its tree, and beside script or settings."""
    project = root / request.directory
    folders = [project, root, *(root / entry for entry in request.sys_path)]
    if request.settings:
        folders.append(project.joinpath(*request.settings.split(".")[:-1]))
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        if folder.is_relative_to(root):
            yield from sorted(path for path in folder.glob(".env*") if path.is_file())
