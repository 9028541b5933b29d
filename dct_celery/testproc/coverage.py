"""Coverage of the project's code, measured by coverage.py where tests run.

Measurement begins in the loader, before the project's first import, and goes on in its forks: what
the loader has executed is in the first data of each of them. The data of a chunk are written when
it ends, and so far as there are any after each of its classes, should the process die; those that
the dispatcher does not accept are lost with their file. Nothing here imports coverage.py unless it
is wanted.

A data file is what coverage.py itself writes, compressed, behind one line about this machine: see
`reports.coverage_data`.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sys
import zlib
from typing import Any

import dct_celery
from dct_celery.errors import ConfigError
from dct_celery.testproc.clock import now
from dct_celery.wire import messages

#: Bound at import, as tests patch them.
_open, _replace, _makedirs, _glob = open, os.replace, os.makedirs, glob.glob
_unlink, _exists = os.unlink, os.path.exists
#: Where coverage.py writes, also that of subprocesses.
_FILE = "COVERAGE_FILE"
#: Where its option `patch = subprocess` leaves the configuration for subprocesses.
_PROCESS_CONFIG = "COVERAGE_PROCESS_CONFIG"
#: What a single process cannot know, and would say over and over.
_NO_WARNINGS = ("no-data-collected", "module-not-imported", "module-not-measured")
#: Least seconds between two data files that are written in case the process dies.
_PAUSE = 2.0


class Measurement:
    """What is measured in this process."""

    def __init__(self, cov: Any, root: str, folder: str) -> None:
        """`cov`: a Coverage that has been started; `root`: top of the tree; `folder`: the process's
        own.
        """
        self.cov = cov
        self._root = os.path.realpath(root)
        self._folder = folder
        #: What the loader has written so far, if it has: as when contexts begin while it imports.
        self._of_loader = cov.get_data().data_filename()
        #: File for the data of the running chunk; empty where they do not count.
        self._file = ""
        #: That of the last chunk.
        self._last = ""
        self._written_at = 0.0

    def enter(self, order: messages.ForkOrder) -> None:
        """In a fork: its subprocesses write into a folder of its own."""
        self._folder = folder_of(order.log)
        _makedirs(self._folder, exist_ok=True)
        os.environ[_FILE] = os.path.join(self._folder, ".coverage")
        if _PROCESS_CONFIG in os.environ:
            self.cov.config.data_file = os.environ[_FILE]
            os.environ[_PROCESS_CONFIG] = self.cov.config.serialize()

    def begin(self, file: str) -> None:
        """A chunk begins, whose data go to this file; without one they do not count."""
        self._file, self._last, self._written_at = file, file, now()

    def class_over(self) -> None:
        """Writes what there is so far, should the process die before the end of its chunk."""
        if self._file and now() - self._written_at >= _PAUSE:
            with contextlib.suppress(Exception):
                self._write(self._file)
            self._written_at = now()

    def end(self, file: str | None = None) -> None:
        """The chunk has ended; or the process, whose last data then go to `file`."""
        with contextlib.suppress(Exception):  # the file is missed where it is wanted
            self._write(self._file if file is None else file)
            self._forget()
        self._file = ""

    def session_over(self) -> None:
        """The session has been torn down, which belongs to the last chunk as long as its data are
        still there.
        """
        if not self._last or not _exists(self._last):
            return
        with contextlib.suppress(Exception):
            with _open(self._last, "rb") as file:
                file.readline()
                before = zlib.decompress(file.read())
            with _open(os.path.join(self._folder, ".coverage.before"), "wb") as unpacked:
                unpacked.write(before)
            self._write(self._last)
            self._forget()

    def _write(self, file: str) -> None:
        import coverage

        data = self.cov.get_data()
        own = data.data_filename()
        if self._of_loader not in ("", own):
            _add(data, self._of_loader)
        self._of_loader = ""
        for other in _glob(glob.escape(os.path.join(self._folder, ".coverage")) + "*"):
            if other != own and not other.endswith("-journal"):
                with contextlib.suppress(coverage.CoverageException):  # it is being written
                    _add(data, other)
                    _unlink(other)
        if not file:
            return
        data.close()
        with _open(own, "rb") as source:
            content = source.read()
        head = {"root": self._root, "ours": os.path.dirname(dct_celery.__file__)}
        with _open(f"{file}.new", "wb") as target:
            target.write(json.dumps(head).encode() + b"\n" + zlib.compress(content, 6))
        _replace(f"{file}.new", file)

    def _forget(self) -> None:
        """Makes the next data file hold only what is executed from here on."""
        data = self.cov.get_data()
        data.erase()
        # coverage.py writes the kind of data into a new file only as long as it believes that it
        # has none.
        data._has_lines = data._has_arcs = False
        if hasattr(sys, "monitoring"):
            sys.monitoring.restart_events()  # its core is told of each line only once


def _add(data: Any, file: str) -> None:
    import coverage

    if _exists(file):
        other = coverage.CoverageData(file)
        other.read()
        data.update(other)
        other.close()


#: That of this process.
_current: Measurement | None = None


def current() -> Measurement | None:
    return _current


def folder_of(file: str) -> str:
    """The folder for data files beside this file of a process."""
    return os.path.join(os.path.dirname(file), "coverage")


def start(load: messages.Load) -> None:
    """Begins to measure, as `coverage run` does in this folder. A collect process only proves that
    it could. Raises ConfigError.
    """
    coverage = _imported()
    if not load.collect_only:
        set_folder(load)
    try:
        cov = coverage.Coverage(data_suffix=True)
        if load.collect_only:
            return
        cov.start()
    except coverage.CoverageException as error:
        line = f"coverage cannot be measured: {str(error).splitlines()[0]}"
        raise ConfigError(line) from error
    take_over(cov, load)


def set_folder(load: messages.Load) -> None:
    """Data files of this process, and of those that it starts, go to a folder beside its FIFOs."""
    folder = folder_of(load.fork_order or load.fork_fifo)
    _makedirs(folder, exist_ok=True)
    os.environ[_FILE] = os.path.join(folder, ".coverage")


def take_over(cov: Any, load: messages.Load) -> None:
    """From now on the data of this Coverage, which has been started, are those of the process."""
    global _current
    quiet = [*(cov.get_option("run:disable_warnings") or ()), *_NO_WARNINGS]
    cov.set_option("run:disable_warnings", quiet)
    _current = Measurement(cov, load.root, os.path.dirname(os.environ[_FILE]))


def measured_by_others() -> bool:
    """The project itself measures coverage in this process."""
    coverage = sys.modules.get("coverage")
    if coverage is None:
        return False
    running = coverage.Coverage.current()
    return running is not None and (_current is None or running is not _current.cov)


def _imported() -> Any:
    try:
        import coverage
    except Exception as error:
        raise ConfigError(
            f"coverage is not installed in the environment of {sys.executable} ({error}); install"
            " it there, as in: pip install coverage"
        ) from error
    return coverage
