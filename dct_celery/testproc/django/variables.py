"""The environment variables that the project reads while it is imported.

Settings that come from the environment differ silently between two machines. So `os.environ` takes
notes until the suite is built, of names and, for their hashes, of values. Reads that are no
decision of the project's are left out: those of Python and of packages for themselves, of the
machine's own variables, and of all variables at once, as for the environment of a child.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, ItemsView, Iterator, ValuesView
from fnmatch import fnmatchcase
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import dct_celery
from dct_celery.core.environment import ADDRESS, UNSET, VARIABLE, WRITTEN, fingerprint
from dct_celery.testproc.local_paths import LocalPaths

#: Variables that belong to the machine, its terminal or the interpreter, or to us.
_MACHINE = (
    "HOME", "PATH", "PWD", "OLDPWD", "USER", "USERNAME", "LOGNAME", "SHELL", "SHLVL", "_", "TMPDIR",
    "TEMP", "TMP", "HOSTNAME", "TERM", "TERM_*", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR",
    "FORCE_COLOR", "CLICOLOR*", "PY_COLORS", "DJANGO_COLORS", "LS_COLORS", "EDITOR", "PAGER",
    "DISPLAY", "MAIL", "XDG_*", "SSH_*", "GPG_*", "LD_*", "PYTHON*", "VIRTUAL_ENV*", "CONDA_*",
    "PIP_*", "UV_*", "PYENV_*", "DCT_*", "_DCT_*", "CELERY_*", "FORKED_BY_MULTIPROCESSING",
    "DJANGO_SETTINGS_MODULE", "COVERAGE_*", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "all_proxy", "OMP_*", "MKL_*", "OPENBLAS_*", "INVOCATION_ID", "JOURNAL_STREAM",
)  # fmt: skip
#: Words in names of variables that may lead to a database.
_PLACES = (
    "DB", "DATABASE", "SQL", "POSTGRES", "PG", "MARIA", "HOST", "PORT", "USER", "PASS", "URL", "DSN"
)  # fmt: skip
#: Files of Python, frozen or not, whose functions read what they are asked for.
_READERS = (f"{os.sep}os.py", "<frozen os>", "_collections_abc.py", "<frozen _collections_abc>")
#: What reads one variable after the other for `os.environ.items()` and `values()`.
_ITERATIONS = (ItemsView.__iter__.__code__, ValuesView.__iter__.__code__)
#: Folder of the standard library. Not asked of sysconfig, which reads variables itself.
_PYTHON = os.path.join(os.path.dirname(os.__file__), "")
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


class Variables:
    """Notes of one process."""

    def __init__(self) -> None:
        #: Name -> the value that was read last; None where there was none.
        self._read: dict[str, str | None] = {}
        #: Names that the process has set itself, from a file say.
        self._written: set[str] = set()
        #: Where all variables were last read at once: a frame's id, and the instruction in it.
        self._bulk: tuple[int, int] | None = None

    def start(self) -> None:
        if type(os.environ) is os._Environ:
            os.environ.__class__ = _Watched

    def stop(self) -> None:
        """From now on `os.environ` is what it was before."""
        if type(os.environ) is _Watched:
            os.environ.__class__ = os._Environ  # type: ignore[assignment]

    def unset(self) -> tuple[str, ...]:
        """Variables that were read in vain."""
        return tuple(
            sorted(n for n, value in self._read.items() if value is None and not _is_machine(n))
        )

    def written(self) -> list[str]:
        """Variables that the project has set itself."""
        return sorted(self._written)

    def facts(self, key: str, root: str, places: Collection[str]) -> dict[str, str]:
        """Facts of `core.environment` about what was read.

        `key`: for hashes of values, which tell nothing to anybody who lacks it. `root`: top of the
        tree. `places`: hosts, ports, users and passwords of the project's databases.
        """
        paths = LocalPaths(root)
        facts = {}
        for name, value in self._read.items():
            if not _is_machine(name):
                kind = ADDRESS if _leads(name, value or "", places) else VARIABLE
                facts[f"{kind}{name}"] = self._state(name, value, key, paths)
        return facts

    def _state(self, name: str, value: str | None, key: str, paths: LocalPaths) -> str:
        if value is None:
            return UNSET
        if name in self._written:
            return WRITTEN
        return fingerprint(key, name, paths.replaced(value))

    def note_read(self, name: object, value: str | None) -> None:
        caller = sys._getframe(2)
        frame = _asking(caller)
        if not isinstance(name, str) or frame is None or self._bulk == _position(frame):
            return
        if _is_of_project(frame) and caller.f_code not in _ITERATIONS:
            self._read[name] = value

    def note_all(self) -> None:
        frame = _asking(sys._getframe(2))
        self._bulk = None if frame is None else _position(frame)

    def note_written(self, name: object) -> None:
        if isinstance(name, str):
            self._written.add(name)


#: Of this process.
VARIABLES = Variables()


def all_of_process(key: str) -> dict[str, str]:
    """Fingerprint of each variable's name -> of its name and value."""
    paths = LocalPaths("")
    return {
        fingerprint(key, name): fingerprint(key, name, paths.replaced(value))
        for name, value in os.environ.items()
        if not _is_machine(name)
    }


class _Watched(os._Environ):  # type: ignore[type-arg]
    """The class of `os.environ` for a while; the object stays the same."""

    def __getitem__(self, key: Any) -> Any:
        try:
            value = super().__getitem__(key)
        except KeyError:
            VARIABLES.note_read(key, None)
            raise
        VARIABLES.note_read(key, value)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        VARIABLES.note_written(key)

    def __iter__(self) -> Iterator[Any]:
        VARIABLES.note_all()
        yield from super().__iter__()


def _is_machine(name: str) -> bool:
    return any(fnmatchcase(name, one) for one in _MACHINE)


def _leads(name: str, value: str, places: Collection[str]) -> bool:
    """Whether the value is where a database is, or how to get in."""
    if not value or not any(word in name.upper() for word in _PLACES):
        return False
    if value in places:
        return True
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return any(part and part in places for part in (parts.hostname, parts.password))


# -- who reads -------------------------------------------------------------------------


def _asking(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that does not only read what it is asked for."""
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.endswith(_READERS) and code.co_name != "expandvars":
            return frame
        frame = frame.f_back
    return None


def _position(frame: FrameType) -> tuple[int, int]:
    return id(frame), frame.f_lasti


def _is_of_project(frame: FrameType | None) -> bool:
    """Whether project code reads, or has an installed package read for it.

    Not what Python's modules read for themselves, nor what a package reads when it is imported.
    """
    innermost = frame
    while frame is not None:
        kind = _kind(frame.f_code.co_filename)
        if kind == "project":
            return True
        if kind in ("import", "ours") or (kind == "python" and frame is innermost):
            return False
        frame = frame.f_back
    return False


_kinds: dict[str, str] = {}


def _kind(file: str) -> str:
    """project | installed | python | import | ours"""
    if file not in _kinds:
        _kinds[file] = _kind_of(file)
    return _kinds[file]


def _kind_of(file: str) -> str:
    if file.startswith("<frozen importlib"):
        return "import"
    if any(part in file for part in _INSTALLED):
        return "installed"
    if file.startswith(os.path.dirname(str(dct_celery.__file__)) + os.sep):
        return "ours"
    return "python" if file.startswith(("<frozen", _PYTHON)) else "project"
