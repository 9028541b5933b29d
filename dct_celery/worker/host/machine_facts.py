"""What a worker reports about its machine, for `dct doctor`."""

from __future__ import annotations

import platform
import resource
from importlib import metadata

from dct_celery.settings import Settings


def about(settings: Settings) -> dict[str, str]:
    """python, open_files, and django where the project runs in the worker's own environment.

    Imports nothing of the project.
    """
    facts = {
        "python": platform.python_version(),
        "open_files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    }
    if settings.python:
        return {**facts, "interpreter": settings.python}
    try:
        return {**facts, "django": metadata.version("Django")}
    except metadata.PackageNotFoundError:
        return facts
