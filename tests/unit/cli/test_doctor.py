"""Claims about `dct doctor`: one line for each thing, the fix below, and no secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from dct_celery.cli.doctor import command
from dct_celery.inspect.doctor_databases import Finding
from dct_celery.settings import Settings
from tests.unit.cli import roots

GOOD, SO_SO = Finding("ok", "store", "answers"), Finding("warning", "guards", "DEBUG is on")
BAD = Finding("failed", "database default", "cannot be reached", "start it")
WRONG, AWAY = (replace(BAD, exit_code=code) for code in (4, 7))


class Root:
    """A composition root that gives the findings of the test."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.settings: Settings | None = None
        self.measure: bool | None = None

    def examine(
        self, settings: Settings, origins: dict[str, str], *, measure: bool
    ) -> Iterator[Finding]:
        self.settings, self.measure = settings, measure
        yield from self.findings


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Root:
    root = Root()
    roots.replace_root(monkeypatch, tmp_path, examine=root.examine)
    return root


def run(*args: str) -> Result:
    return roots.run(command, *args)


def test_each_finding_is_a_line_with_its_fix_below(root: Root) -> None:
    # Given
    root.findings = [GOOD, SO_SO, BAD]

    # Then
    assert run().stdout.splitlines() == [
        "ok       store: answers",
        "warning  guards: DEBUG is on",
        "failed   database default: cannot be reached",
        "           fix: start it",
        "1 ok, 1 warning, 1 failed",
    ]


@pytest.mark.parametrize(
    ("findings", "code"),
    [([GOOD], 0), ([GOOD, SO_SO], 0), ([WRONG, GOOD], 4), ([AWAY, GOOD], 7), ([AWAY, WRONG], 7)],
)
def test_what_failed_for_good_is_exit_4_and_what_may_come_back_is_exit_7(
    root: Root, findings: list[Finding], code: int
) -> None:
    root.findings = findings
    assert run().exit_code == code


def test_no_secret_is_shown(root: Root) -> None:
    # Given
    root.findings = [
        Finding("failed", "store", "redis://:hush@h: password=hush", "say PASSWORD 'hush'")
    ]

    # Then
    assert "hush" not in run().stdout


def test_it_measures_only_when_it_is_asked_to(root: Root) -> None:
    run()
    assert root.measure is False
    run("--measure")
    assert root.measure is True


@pytest.mark.parametrize(("args", "local"), [((), None), (("--local",), 0), (("--local", "3"), 3)])
def test_local_may_stand_alone(root: Root, args: tuple[str, ...], local: int | None) -> None:
    run(*args)
    assert root.settings is not None
    assert root.settings.local == local


def test_the_guards_take_the_options_of_a_run(root: Root) -> None:
    run(
        "--allow-database",
        "prod_*",
        "--deny-database",
        "a",
        "--deny-db-host",
        "b",
        "--store",
        "redis://h/1",
    )
    assert root.settings is not None
    assert (root.settings.allow_database, root.settings.deny_database) == (("prod_*",), ("a",))
    assert (root.settings.deny_db_host, root.settings.store) == (("b",), "redis://h/1")


def test_the_last_line_counts_in_singular_and_plural(root: Root) -> None:
    # Given
    root.findings = [GOOD, GOOD, SO_SO, SO_SO, SO_SO]

    # Then
    assert run().stdout.splitlines()[-1] == "2 ok, 3 warnings"


def test_what_a_worker_or_a_server_says_stays_in_its_line_and_moves_no_cursor(root: Root) -> None:
    # Given
    nasty = "a\n::error::b\x1b[2J\x07\u202e"
    root.findings = [Finding("failed", f"worker {nasty}", nasty, nasty)]

    # When
    lines = run().stdout.splitlines()

    # Then
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
