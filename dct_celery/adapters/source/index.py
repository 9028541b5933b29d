"""The index of a tree: every file by path, mode, size and hash, every link by its target, and the
folders that are empty.

A tree's digest is the hash of the index's bytes, so a signed digest stands for the whole tree.
`Index.parse` is the only way in on the worker: what it returns can be written below an empty folder
without leaving it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dct_celery.core.ids import digest_of, is_digest
from dct_celery.errors import InfrastructureError

#: Largest file, and largest index, that are sent, in bytes.
MAX_FILE = 200 * 1024 * 1024
MAX_INDEX = 64 * 1024 * 1024
_VERSION = 1
#: Limits of Linux, in bytes.
_LONGEST_NAME = 255
_LONGEST_PATH = 4000


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A regular file.

    POSIX path below the root, permission bits, size in bytes, BLAKE2b of the content.
    """

    path: str
    mode: int
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class TreeLink:
    """A symbolic link; its target may lead anywhere, as on the dispatcher's side."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Index:
    """The contents of a tree."""

    files: tuple[TreeFile, ...]
    links: tuple[TreeLink, ...] = ()
    #: Paths of folders with nothing in them.
    folders: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The bytes of the index, equal for equal trees.

        Names that are no UTF-8 contain lone surrogates.
        """
        rows: dict[str, Any] = {
            "version": _VERSION,
            "files": sorted([f.path, f.mode, f.size, f.digest] for f in self.files),
            "links": sorted([link.path, link.target] for link in self.links),
        }
        if self.folders:
            rows["folders"] = sorted(self.folders)
        return json.dumps(rows, separators=(",", ":")).encode("ascii")

    @property
    def paths(self) -> list[str]:
        return [*(file.path for file in self.files), *(link.path for link in self.links)]

    @property
    def digest(self) -> str:
        return digest_of(self.encode())

    @classmethod
    def parse(cls, content: bytes) -> Index:
        """Parses an index from outside.

        Raises InfrastructureError, with one line, for anything that is no index or could lead out
        of its folder.
        """
        try:
            rows = json.loads(content.decode("ascii"))
            if (
                not isinstance(rows, dict)
                or rows.keys() - {"folders"} != {"version", "files", "links"}
                or rows["version"] != _VERSION
            ):
                raise ValueError("it is malformed")
            files = tuple(_file(row) for row in _rows(rows["files"], 4))
            links = tuple(_link(row) for row in _rows(rows["links"], 2))
            index = cls(files, links, _folders(rows.get("folders", [])))
            _check_paths([*index.paths, *index.folders])
            _check_sizes(files)
        except (ValueError, RecursionError) as error:
            raise InfrastructureError(
                f"the index of the code is refused: {str(error)[:200]}"
            ) from error
        return index


def _rows(value: Any, length: int) -> Iterable[list[Any]]:
    if not isinstance(value, list) or not all(
        isinstance(row, list) and len(row) == length for row in value
    ):
        raise ValueError("it is malformed")
    return value


def _file(row: list[Any]) -> TreeFile:
    path, mode, size, digest = row
    _check_path(path)
    if not _is_number(mode, 0o777):
        raise ValueError(f"the mode of {path!r} is not a set of permission bits")
    if not _is_number(size, MAX_FILE):
        raise ValueError(f"{path!r} has a size that no file may have")
    if not is_digest(digest):
        raise ValueError(f"the hash of {path!r} is malformed")
    return TreeFile(path, mode, size, digest)


def _link(row: list[Any]) -> TreeLink:
    path, target = row
    _check_path(path)
    if not _is_text(target, _LONGEST_PATH):
        raise ValueError(f"the link {path!r} has a target that no link can have")
    return TreeLink(path, target)


def _folders(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("it is malformed")
    for path in value:
        _check_path(path)
    return tuple(value)


def _is_number(value: object, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def _is_text(value: object, longest: int) -> bool:
    """Whether the file system takes this text, and returns it unchanged."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    if value.isascii():
        return len(value) <= longest
    try:
        encoded = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    # Escaped bytes that are UTF-8 together would be a second spelling of one name.
    return len(encoded) <= longest and encoded.decode("utf-8", "surrogateescape") == value


def _check_path(path: object) -> None:
    if not isinstance(path, str) or not _is_text(path, _LONGEST_PATH):
        raise ValueError(f"{path!r} is not a path")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"the path {path!r} leads outside or is not normalised")
    if len(path) > _LONGEST_NAME // 2 and any(
        len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME for part in parts
    ):
        raise ValueError(f"the path {path!r} has a name that is too long")


def _check_paths(paths: list[str]) -> None:
    entries = set(paths)
    if len(entries) < len(paths):
        raise ValueError("a path is there twice")
    for folder in folders_of(paths):
        if folder in entries:
            raise ValueError(f"{folder!r} is a file, a link or empty, and something lies below it")


def _check_sizes(files: Iterable[TreeFile]) -> None:
    sizes: dict[str, int] = {}
    for file in files:
        if sizes.setdefault(file.digest, file.size) != file.size:
            raise ValueError(f"the content of {file.path!r} has two sizes")


def folders_of(paths: Iterable[str]) -> set[str]:
    """Every folder on the way to one of the paths."""
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders
