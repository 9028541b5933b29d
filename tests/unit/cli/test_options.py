"""Claims about the command line of `dct run`: what reaches the settings, and how the help reads."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dct_celery.cli.main import invoke
from dct_celery.cli.options import refuse_two_spellings, spell_out
from dct_celery.cli.run import command
from dct_celery.core.model import RunReport
from dct_celery.settings import OPTIONS, Settings
from tests.unit.cli.roots import fake_root


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Settings, dict[str, str]]]:
    """A composition root that only notes what it is given, in a folder without settings."""
    seen: list[tuple[Settings, dict[str, str]]] = []

    def run_tests(
        settings: Settings, origins: dict[str, str], *_: object, **__: object
    ) -> RunReport:
        seen.append((settings, origins))
        return RunReport("r", (), (), 5)

    fake_root(monkeypatch, run_tests=run_tests)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DCT_")]:
        monkeypatch.delenv(name)
    return seen


def run(*args: str) -> int:
    result = CliRunner().invoke(command, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code


def test_the_exit_code_is_the_runs(calls: list[tuple[Settings, dict[str, str]]]) -> None:
    assert run() == 5
    assert len(calls) == 1


def test_two_spellings_of_one_option_may_not_differ(
    calls: list[tuple[Settings, dict[str, str]]],
) -> None:
    # When / Then
    with pytest.raises(click.UsageError) as caught:
        refuse_two_spellings(["--junitxml", "a.xml", "--junit-xml=b.xml"])
    assert str(caught.value) == (
        "--junitxml a.xml and --junit-xml b.xml mean the same setting and differ; remove one"
    )
    # And the same value twice is none
    assert run("--junitxml", "a.xml", "--junit-xml=a.xml", "-n", "2", "--parallel=2") == 5
    assert calls[0][0].junit_xml == "a.xml"
    assert calls[0][0].parallel == 2


def test_nothing_given_means_nothing_passed_on(
    calls: list[tuple[Settings, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: variables for a switch, a list and a number
    monkeypatch.setenv("DCT_FAILFAST", "1")
    monkeypatch.setenv("DCT_TAG", "slow")
    monkeypatch.setenv("DCT_VERBOSITY", "2")

    # When
    run()

    # Then
    settings, origins = calls[0]
    assert (settings.failfast, settings.tag, settings.verbosity) == (True, ("slow",), 2)
    assert origins["tag"] == "DCT_TAG"
    assert origins["labels"] == "default"


def test_every_argument_of_djangos_command_is_understood(
    calls: list[tuple[Settings, dict[str, str]]],
) -> None:
    # When
    selection = (
        "--settings a.b -k x -k y --tag s --exclude-tag t -p t*.py -t . --failfast --maxfail 2"
    )
    order = (
        "--shuffle 7 --reverse --buffer --debug-sql --timing --durations 5 -v 2 --testrunner a.R"
    )
    run("app.tests", *selection.split(), *order.split(), "other")

    # Then
    settings, origins = calls[0]
    assert settings.labels == ("app.tests", "other")
    assert (settings.k, settings.tag, settings.exclude_tag) == (("x", "y"), ("s",), ("t",))
    assert (settings.pattern, settings.top_level_directory, settings.testrunner) == (
        "t*.py",
        ".",
        "a.R",
    )
    assert (settings.maxfail, settings.shuffle, settings.durations, settings.verbosity) == (
        2,
        7,
        5,
        2,
    )
    assert all(
        (settings.failfast, settings.reverse, settings.buffer, settings.debug_sql, settings.timing)
    )
    assert origins["shuffle"] == "--shuffle"


def test_every_flag_of_the_table_is_an_option_of_the_command() -> None:
    # Given
    ours = {flag for option in OPTIONS for flag in option.flags}

    # Then
    assert ours <= {flag for param in command.params for flag in param.opts}


def test_a_bare_flag_leaves_the_label_alone(calls: list[tuple[Settings, dict[str, str]]]) -> None:
    # When
    run("--shuffle", "app.tests", "--local")

    # Then
    settings, _ = calls[0]
    assert (settings.labels, settings.shuffle, settings.local) == (("app.tests",), "auto", 0)


def test_an_argument_for_the_runner_may_look_like_a_flag(
    calls: list[tuple[Settings, dict[str, str]]],
) -> None:
    # When
    run("--extra=--keep", "--extra", "--a,b")

    # Then
    assert calls[0][0].extra == ("--keep", "--a,b")


@pytest.mark.parametrize(
    ("args", "spelled"),
    [
        (["--shuffle"], ["--shuffle=auto"]),
        (["--shuffle", "3"], ["--shuffle", "3"]),
        (["--local", "--shuffle", "-2"], ["--local=auto", "--shuffle", "-2"]),
        (["--local", "--", "3"], ["--local=auto", "--", "3"]),
        (["--", "--local"], ["--", "--local"]),
        (["--benchmark", "shop.tests"], ["--benchmark=auto", "shop.tests"]),
        (["--benchmark", "out/bench.json", "shop"], ["--benchmark", "out/bench.json", "shop"]),
        (["--changed-first", "HEAD~7", "shop"], ["--changed-first", "HEAD~7", "shop"]),
        (["--changed-first", "HEADERS"], ["--changed-first=auto", "HEADERS"]),
        ([], []),
    ],
)
def test_only_what_looks_like_it_is_taken_as_the_value_of_a_bare_flag(
    args: list[str], spelled: list[str]
) -> None:
    assert spell_out(args) == spelled


def test_the_help_has_sections_in_one_column() -> None:
    # When
    text = CliRunner().invoke(command, ["-h"]).output

    # Then
    titles = [
        "Selection and order:",
        "Fleet:",
        "Code:",
        "Databases:",
        "Limits:",
        "Reports:",
        "Timings:",
        "Other:",
        "Exit codes:",
    ]
    assert [line for line in text.splitlines() if line in titles] == titles
    # The text of a flag that reaches into the column stands below it.
    lines = re.findall(r"^(?:  -|      --).*(?:\n {36}\S.*)?", text, re.MULTILINE)
    assert (
        len(lines) == sum(1 for option in OPTIONS if option.flags) + 3
    )  # --explain-deviations, --list-files, --help
    assert {line for line in lines if not re.search(r"(^|\n).{34}  \S", line)} == set()
    assert "--queue-timeout SECONDS       Seconds to wait for the first worker [60]" in text


def test_files_are_listed_without_a_run(calls: list[tuple[Settings, dict[str, str]]]) -> None:
    # Given
    fake = sys.modules["dct_celery.bootstrap.dispatcher"]
    fake.list_files = lambda settings: (["12  a.py", "1 file"], [f"exclude is {settings.exclude}"])  # type: ignore[attr-defined]
    # When
    result = CliRunner().invoke(command, ["--list-files", "--exclude", "*.log"])
    # Then
    assert (result.exit_code, result.stdout) == (0, "12  a.py\n1 file\n")
    assert result.stderr == "warning: exclude is ('*.log',)\n"
    assert calls == []


@pytest.mark.parametrize(
    "words", [["--junit-xml", "old.xml", "--no-such"], ["--no-such", "--junit-xml=old.xml"]]
)
def test_a_flag_that_is_not_known_leaves_no_report_of_an_earlier_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    (tmp_path / "old.xml").write_text("<testsuites/>")
    monkeypatch.chdir(tmp_path)
    # When
    code = invoke(["run", *words])
    # Then
    assert code == 4
    assert "No such option" in (tmp_path / "old.xml").read_text()
