"""Claims about `worker.host.suite_comparison`: both suites are had, or nothing is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dct_celery.core import codec
from dct_celery.core.model import Manifest
from dct_celery.errors import ProcessDied, StoreUnavailable
from dct_celery.protocol.heads import KIND, compress
from dct_celery.wire import messages
from dct_celery.worker.host.suite_comparison import SuiteComparison
from tests.support.factories import OTHER_KEY, group, make_manifest, run_door
from tests.support.fake_clock import FakeClock

THERE = make_manifest(group("app.tests.A", count=2))


class Fork:
    """Writes this suite down; or dies."""

    def __init__(self, rows: list[list[str]] | None) -> None:
        self._rows = rows
        self.finished = False

    def ask(self, order: messages.WriteSuite, kind: type, seconds: float) -> messages.Message:
        if self._rows is None:
            raise ProcessDied("signal 9")
        Path(order.file).write_text(json.dumps(self._rows))
        return messages.SuiteWritten(0.1)

    def finish(self, grace: float) -> None:
        self.finished = True


class Ledger:
    """Has the head after some looks."""

    def __init__(self, head: bytes | None, looks: int = 0, error: Exception | None = None) -> None:
        self._head, self._looks, self._error = head, looks, error
        self.asked = 0

    def head(self) -> bytes | None:
        if self._error:
            raise self._error
        self._looks -= 1
        self.asked += 1
        return self._head if self._looks < 0 else None


def head(manifest: Manifest, *keys: str) -> bytes:
    body = codec.dumps({"entries": codec.encode(manifest.entries), "began": 1.0})
    return compress(run_door("run-one", *keys).seal_text(KIND, body))


def explain(
    tmp_path: Path, ledger: Any, fork: Fork, over: Callable[[], bool] = lambda: False
) -> str:
    make: Any = lambda purpose: fork  # noqa: E731
    file = tmp_path / "suite.json"
    return SuiteComparison(ledger, run_door("run-one"), make, file, FakeClock(), over).explain()


def rows(*names: str) -> list[list[str]]:
    return [[name, "app.tests.A", "isolated"] for name in names]


def test_the_head_is_waited_for_and_compared_with_what_a_fork_writes(tmp_path: Path) -> None:
    # Given
    names = [entry.id for entry in THERE]
    fork = Fork(rows(names[0], "app.tests.A.test_other"))
    # When
    line = explain(tmp_path, Ledger(head(THERE), looks=3), fork)
    # Then
    assert line.startswith(f"test 2 is {names[1]} on the dispatcher and app.tests.A.test_other on")
    assert fork.finished


@pytest.mark.parametrize(
    "ledger",
    [
        Ledger(None),
        Ledger(b"garbage"),
        Ledger(head(THERE, OTHER_KEY)),
        Ledger(None, error=StoreUnavailable("away")),
    ],
    ids=["none", "garbage", "forged", "away"],
)
def test_without_the_dispatchers_suite_nothing_is_said(tmp_path: Path, ledger: Ledger) -> None:
    assert explain(tmp_path, ledger, Fork(rows("a"))) == ""


def test_without_this_workers_suite_nothing_is_said(tmp_path: Path) -> None:
    # Given
    fork = Fork(None)
    # Then
    assert explain(tmp_path, Ledger(head(THERE)), fork) == ""
    assert fork.finished


def test_a_run_that_is_over_is_not_waited_for(tmp_path: Path) -> None:
    # Given
    ledger = Ledger(None)
    # When
    assert explain(tmp_path, ledger, Fork(None), over=lambda: True) == ""
    # Then
    assert ledger.asked == 1
