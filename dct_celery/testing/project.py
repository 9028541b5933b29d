"""Which code is the project's: neither Python's, nor an installed package's, nor ours."""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

_OURS = str(Path(__file__).parents[1]) + os.sep


@functools.cache
def _installed() -> tuple[str, ...]:
    """Folders of other people's code, each with a separator at its end."""
    import django

    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages(), *django.__path__}
    found = {variant for path in folders for variant in (path, os.path.realpath(path))}
    return (*(path.rstrip(os.sep) + os.sep for path in sorted(found)), _OURS)


@functools.cache
def is_project_file(filename: str) -> bool:
    """Whether code of this file name (`co_filename`) belongs to the project."""
    return not filename.startswith("<") and not filename.startswith(_installed())


def is_project_class(kind: type) -> bool:
    """Whether the class was defined in the project."""
    filename = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return bool(filename) and is_project_file(str(filename))


def is_being_imported(namespace: Mapping[str, Any]) -> bool:
    """Whether a module's own code is still running: what it has is no state yet."""
    return bool(getattr(namespace.get("__spec__"), "_initializing", False))


def project_modules() -> Iterator[ModuleType]:
    """Those that are loaded."""
    for module in list(sys.modules.values()):
        filename = getattr(module, "__file__", None)
        if isinstance(module, ModuleType) and filename and is_project_file(filename):
            yield module
