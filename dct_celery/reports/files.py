"""Report files on disk: JUnit XML and JSON, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dct_celery.core.model import RunReport
from dct_celery.reports import benchmark, json_report, masked
from dct_celery.reports.junit import document
from dct_celery.security import masking
from dct_celery.security.outputs import replace


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
    replace(path, document.render(clean, family=family, artifacts=artifacts))


def write_json(path: Path, report: RunReport) -> None:
    """Replace `path` by the JSON object of docs/json.md, in ASCII (escapes carry the rest). Raises
    UsageError.
    """
    text = json_report.render(masked.report(report, masking.PROCESS))
    replace(path, f"{text}\n".encode("ascii"))


def write_benchmark(path: Path, report: RunReport, clock: Callable[[], float]) -> None:
    """Replace `path` by the JSON object of docs/metrics.md. `clock`: Unix seconds. Raises
    UsageError.
    """
    clean = masked.report(report, masking.PROCESS)
    text = json.dumps(benchmark.to_dict(clean, clock()), allow_nan=False)
    replace(path, f"{text}\n".encode("ascii"))


def write_object(path: Path, document: Mapping[str, Any]) -> None:
    """Replace `path` by this JSON object, masked and in ASCII. Raises UsageError."""
    text = json.dumps(masking.PROCESS.everything(document), indent=2)
    replace(path, f"{text}\n".encode("ascii"))
