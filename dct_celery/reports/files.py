"""Report files on disk: JUnit XML and JSON, whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dct_celery.core.model import RunReport
from dct_celery.errors import UsageError
from dct_celery.reports import benchmark, json_report, masked
from dct_celery.reports.junit import document
from dct_celery.security import masking


def write_junit(
    path: Path,
    report: RunReport,
    family: document.Family = "dct",
    artifacts: document.ArtifactFolder | None = None,
) -> None:
    """Replace `path` by the JUnit document; a reader sees the old file or the new one. Raises
    UsageError.
    """
    clean = masked.report(report, masking.PROCESS)
    _replace(path, document.render(clean, family=family, artifacts=artifacts))


def write_json(path: Path, report: RunReport) -> None:
    """Replace `path` by the JSON object of docs/json.md, in ASCII (escapes carry the rest). Raises
    UsageError.
    """
    text = json_report.render(masked.report(report, masking.PROCESS))
    _replace(path, f"{text}\n".encode("ascii"))


def write_benchmark(path: Path, report: RunReport, clock: Callable[[], float]) -> None:
    """Replace `path` by the JSON object of docs/metrics.md. `clock`: Unix seconds. Raises
    UsageError.
    """
    clean = masked.report(report, masking.PROCESS)
    text = json.dumps(benchmark.to_dict(clean, clock()), allow_nan=False)
    _replace(path, f"{text}\n".encode("ascii"))


def write_object(path: Path, document: Mapping[str, Any]) -> None:
    """Replace `path` by this JSON object, masked and in ASCII. Raises UsageError."""
    text = json.dumps(masking.PROCESS.everything(document), indent=2)
    _replace(path, f"{text}\n".encode("ascii"))


def check_writable(path: Path, origin: str) -> None:
    """Raise UsageError unless a report can be written to `path`, which `origin` (a flag, a
    variable) named.

    Missing folders are made; the file itself is not.
    """
    with _one_line(path, f" (from {origin})"):
        target = _target(path)
        if target is not None:
            temporary = _temporary(target)
            temporary.touch(exist_ok=False)
            temporary.unlink()
        elif not os.access(path, os.W_OK):
            raise PermissionError(None, "it may not be written to")


def _replace(path: Path, data: bytes) -> None:
    with _one_line(path):
        target = _target(path)
        if target is None:
            path.write_bytes(data)
            return
        temporary = _temporary(target)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _target(path: Path) -> Path | None:
    """The file behind `path` and its links, its folder made; None for a device or pipe, which must
    not be replaced.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(None, "it is a folder")
    if not stat.S_ISREG(mode):
        return None
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _temporary(target: Path) -> Path:
    return target.with_name(f".dct-{secrets.token_hex(6)}.tmp")


@contextmanager
def _one_line(path: Path, origin: str = "") -> Iterator[None]:
    """Turn errors of the file system into a UsageError of one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        name = str(path) if str(path).isprintable() else repr(str(path))
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {name}{origin}: {reason}") from error
