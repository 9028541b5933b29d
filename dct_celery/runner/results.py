"""What is known after a run: the JSON report, and some figures of it by their own names."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Outcomes that are failures to Django.
_BAD = ("failed", "error", "xpassed")


class Results:
    """The report of the last run; read when it is asked for."""

    def __init__(self) -> None:
        self._text = b""
        self._report: dict[str, Any] | None = None

    @contextlib.contextmanager
    def kept_in(self, path: Path | None) -> Iterator[list[str]]:
        """Around a run: flags for `dct run`, so that its report is here afterwards.

        `path`: where the user has it written; None for nowhere.
        """
        self._text, self._report = b"", None
        with tempfile.TemporaryDirectory(prefix="dct-report-") as folder:
            file = path or Path(folder, "report.json")
            try:
                yield [] if path else [f"--json={file}"]
            finally:
                with contextlib.suppress(OSError):
                    self._text = file.read_bytes()

    @property
    def report(self) -> dict[str, Any]:
        if self._report is None:
            try:
                self._report = json.loads(self._text or b"{}")
            except ValueError:  # written by something else
                self._report = {}
        return self._report

    @property
    def failures(self) -> int:
        """Tests and fixtures that failed."""
        totals = self.report.get("totals", {})
        return sum(int(totals.get(name, 0)) for name in (*_BAD, "fixtures"))


class Metrics:
    """The last run in a few figures, by the names that django-concurrent-test gave them."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def get_metrics_summary(self) -> dict[str, float]:
        """Durations in seconds; all 0 before a run."""
        report = self._results.report
        ran = [test for test in report.get("tests", ()) if test["outcome"] != "not_run"]
        seconds = sorted(test["seconds"] for test in ran)
        busy = [slot["busy_seconds"] for slot in report.get("slots", ())]
        used = [
            *(test.get("metrics", {}) for test in ran),
            *report.get("fixture_metrics", ()),
        ]

        def total(name: str) -> int:
            return sum(int(one.get(name, 0)) for one in used)

        return {
            "test_duration_avg": sum(seconds) / len(seconds) if seconds else 0.0,
            "test_duration_p95": seconds[(len(seconds) * 95 - 1) // 100] if seconds else 0.0,
            "total_queries": total("queries"),
            "total_writes": total("writes"),
            "connection_errors": total("connection_errors"),
            "worker_duration_avg": sum(busy) / len(busy) if busy else 0.0,
            "worker_retries": sum(test["attempt"] - 1 for test in ran),
        }
