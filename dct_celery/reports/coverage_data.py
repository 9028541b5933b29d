"""Combines coverage data of slots into one data file, as `coverage combine` does.

Also a program, for the interpreter of the project: it needs coverage.py, and nothing else of ours.

    python coverage_data.py FOLDER ROOT [FILE]

FOLDER has the data, ROOT is the top of the tree here. Without FILE, the data file is the one that
`coverage run` would write in this folder, and what it held is gone. Prints one line where nothing
was measured; ends with status 4 and one line where the data cannot be combined.

Each data file has a line of JSON before what coverage.py has written, compressed: `root` is the top
of the tree where it was measured, `ours` the folder of this package there.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sqlite3
import sys
import tempfile
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

#: Bytes that the data of one file may have when they are unpacked.
_MOST = 1024 * 2**20


def combine(folder: str, root: str, file: str) -> bool:
    """Adds all data to the data file `file`; False if there were none. Raises ValueError with one
    line, OSError.
    """
    import coverage

    try:
        return _combine(coverage, folder, root, file)
    except (coverage.CoverageException, sqlite3.Error, zlib.error) as error:
        raise ValueError(str(error).partition("\n")[0]) from error


def _combine(coverage: Any, folder: str, root: str, file: str) -> bool:
    os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
    target = coverage.CoverageData(file)
    target.read()
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as packed:
            head, _, body = packed.read().partition(b"\n")
        there, ours = _places(head)
        with tempfile.NamedTemporaryFile(prefix="coverage-") as unpacked:
            unpacked.write(_inflated(body))
            unpacked.flush()
            if not ours.startswith(there + os.sep):
                _forget(unpacked.name, ours)
            data = coverage.CoverageData(unpacked.name)
            data.read()
            _add(target, data, there, os.path.realpath(root))
            data.close()
    target.close()
    return bool(target)


def _places(head: bytes) -> tuple[str, str]:
    """Top of the tree, and our package, where data were measured. Raises ValueError."""
    try:
        place = json.loads(head)
        return str(place["root"]), str(place["ours"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"not data of a slot: {head[:60]!r}") from None


def _forget(file: str, folder: str) -> None:
    """Removes from the data what is below this folder: the tests' tool, and not what they test."""
    below = "path >= ? AND path < ?"
    between = (f"{folder}/", f"{folder}0")  # what follows "/"
    with contextlib.closing(sqlite3.connect(file)) as database:
        for table in ("line_bits", "arc", "tracer"):
            sql = f"DELETE FROM {table} WHERE file_id IN (SELECT id FROM file WHERE {below})"  # nosec
            database.execute(sql, between)
        database.execute(f"DELETE FROM file WHERE {below}", between)  # nosec
        database.commit()


def _add(target: Any, data: Any, there: str, here: str) -> None:
    """Adds data of a tree at `there` to those of the tree at `here`."""
    inside = there + os.sep

    def here_of(path: str) -> str:
        return os.path.join(here, path[len(inside) :]) if path.startswith(inside) else path

    if "map_path" in inspect.signature(target.update).parameters:
        target.update(data, map_path=here_of)
    else:
        target.update(data, aliases=SimpleNamespace(map=here_of))


def _inflated(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(body, _MOST)
    if not unpacker.eof:
        raise ValueError(f"coverage data have more than {_MOST >> 20} MB, or end early")
    return content


def main(argv: list[str], say: Callable[[str], object] = print) -> int:
    folder, root, *files = argv
    try:
        import coverage
    except ImportError as error:
        say(f"coverage is not installed for {sys.executable} ({error}); install it there")
        return 4
    try:
        file = files[0] if files else os.path.abspath(_data_file(coverage))
        if not files:
            coverage.CoverageData(file).erase()
        if not combine(folder, root, file):
            say("no data was collected")
    except (
        coverage.CoverageException,
        sqlite3.Error,
        zlib.error,
        ValueError,
        OSError,
    ) as error:
        say(str(error).splitlines()[0])
        return 4
    return 0


def _data_file(coverage: Any) -> str:
    return str(coverage.Coverage().get_option("run:data_file"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
