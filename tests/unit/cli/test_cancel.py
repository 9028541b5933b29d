"""Claims about `dct cancel`: what it hands on, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.cli import main as cli
from dct_celery.errors import UsageError
from dct_celery.settings import Settings
from tests.unit.cli import roots


class Root:
    """A composition root that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.error: UsageError | None = None

    def cancel_run(
        self, settings: Settings, origins: dict[str, str], run: str, reason: str
    ) -> None:
        self.asked.append((settings.pool, run, reason))
        if self.error:
            raise self.error


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Root:
    root = Root()
    roots.replace_root(monkeypatch, tmp_path, cancel_run=root.cancel_run)
    return root


def test_a_run_is_cancelled_with_a_reason(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    # When
    codes = [
        cli.invoke(["cancel", "one"]),
        cli.invoke(["cancel", "--pool", "ci", "two", "--reason", "a newer push"]),
    ]

    # Then
    assert codes == [0, 0]
    assert root.asked == [
        ("default", "one", "cancelled by dct cancel"),
        ("ci", "two", "cancelled by dct cancel: a newer push"),
    ]
    assert capsys.readouterr().out.startswith("run one is cancelled; ")


def test_what_cannot_be_cancelled_is_one_line_and_exit_4(
    root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    root.error = UsageError("the store knows no run 'one'; active in pool 'ci': two")

    # When
    code = cli.invoke(["cancel", "one"])

    # Then
    assert code == 4
    assert capsys.readouterr() == (
        "",
        "dct: error: the store knows no run 'one'; active in pool 'ci': two\n",
    )


def test_a_run_must_be_named(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["cancel"]) == 4
    assert "RUN" in capsys.readouterr().err
    assert root.asked == []
