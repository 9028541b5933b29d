"""Claims about how `dct` ends: exit codes, one line on stderr, and no secret in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest

from dct_celery import __version__
from dct_celery.cli import main as cli
from dct_celery.errors import DctError, InfrastructureError, NothingSelected
from dct_celery.security import masking

Ending = Callable[[BaseException], int]


@pytest.fixture
def end_with(monkeypatch: pytest.MonkeyPatch) -> Ending:
    """Runs a `dct` whose every command raises the given exception; returns the exit code."""

    def run(exc: BaseException) -> int:
        @click.command()
        def failing() -> NoReturn:
            raise exc

        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: failing)
        return cli.invoke(["run"])

    return run


@pytest.mark.parametrize(
    ("exc", "code"), [(InfrastructureError("none in pool a"), 7), (NothingSelected("none"), 5)]
)
def test_one_of_our_errors_is_one_line_and_its_exit_code(
    end_with: Ending, capsys: pytest.CaptureFixture[str], exc: DctError, code: int
) -> None:
    # When
    ended = end_with(exc)

    # Then
    assert ended == code
    assert capsys.readouterr() == ("", f"dct: error: {exc}\n")


def test_the_detail_of_an_error_is_below_it(
    end_with: Ending, capsys: pytest.CaptureFixture[str]
) -> None:
    # When
    end_with(DctError("broken", detail="line 1\nline 2\n"))

    # Then
    assert capsys.readouterr().err == "dct: error: broken\nline 1\nline 2\n"


def test_no_secret_is_printed(end_with: Ending, capsys: pytest.CaptureFixture[str]) -> None:
    # When
    end_with(InfrastructureError("at redis://:hush@h", detail="amqp://u:hush@h"))
    end_with(RuntimeError("redis://:hush@h"))

    # Then
    assert "hush" not in capsys.readouterr().err


def test_an_unexpected_error_is_internal_and_has_its_traceback(
    end_with: Ending, capsys: pytest.CaptureFixture[str]
) -> None:
    # When
    code = end_with(KeyError("x"))

    # Then
    lines = capsys.readouterr().err.splitlines()
    assert code == 3
    assert lines[:2] == ["dct: internal error: KeyError: 'x'", "Traceback (most recent call last):"]


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_is_exit_2(end_with: Ending, exc: BaseException) -> None:
    assert end_with(exc) == 2


def test_a_closed_pipe_never_says_that_tests_failed(
    end_with: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: click replaces the streams before it leaves
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)

    # Then
    assert end_with(BrokenPipeError(32, "Broken pipe")) == 3


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--shufle"], "--shuffle"),
        (["run", "--pool"], "requires an argument"),
        (["confg"], "Did you mean 'config'?"),
        (["zzz"], "No such command 'zzz'"),
    ],
)
def test_wrong_usage_is_exit_4_and_says_what_was_meant(
    capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    # When
    code = cli.invoke(args)

    # Then
    assert code == 4
    assert said in capsys.readouterr().err


def test_a_bad_value_is_exit_4_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given: nothing that could be wrong before it
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DCT_")]:
        monkeypatch.delenv(name)

    # When
    code = cli.invoke(["run", "--test-timeout", "soon"])

    # Then
    assert code == 4
    assert capsys.readouterr().err.startswith(
        "dct: error: --test-timeout: 'soon' is not valid; give a number"
    )


@pytest.mark.parametrize("args", [["--help"], ["run", "-h"], ["config", "--help"], ["--version"]])
def test_help_and_version_are_exit_0(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    # When
    code = cli.invoke(args)

    # Then
    assert code == 0
    out: Any = capsys.readouterr().out
    assert "Usage: dct" in out or out.strip() == f"dct, version {__version__}"


def test_every_command_of_the_list_can_be_loaded_and_says_what_the_list_says() -> None:
    # Given
    ctx = click.Context(cli.dct)

    # Then
    for name in cli.COMMANDS:
        command = cli.dct.get_command(ctx, name)
        assert command is not None
        assert command.name == name


def test_help_loads_neither_celery_nor_redis_nor_django() -> None:
    # Given
    script = (
        "import sys\nfrom dct_celery.cli.main import invoke\n"
        "invoke(['--help']), invoke(['run', '--help'])\n"
        "heavy = {'celery', 'kombu', 'redis', 'django', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(','.join(heavy) or 0)"
    )

    # When
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    # Then
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_can_be_run_as_a_module() -> None:
    # When
    done = subprocess.run(
        [sys.executable, "-m", "dct_celery.cli", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )

    # Then
    assert (done.returncode, done.stdout) == (0, f"dct, version {__version__}\n")


def test_an_error_is_one_line_whatever_a_server_put_into_it(
    end_with: Ending, capsys: pytest.CaptureFixture[str]
) -> None:
    # When
    end_with(
        InfrastructureError("gone\n::error::x\x1b[2J\x07", detail="a\n  ::set-output name=a::b\r")
    )

    # Then
    assert (
        capsys.readouterr().err
        == "dct: error: gone\\n\\x3a:error::x\\x07\na\n  \\x3a:set-output name=a::b\n"
    )


def test_a_secret_of_this_process_is_not_printed_wherever_it_stands(
    end_with: Ending, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    masking.PROCESS.learn(["correct-horse"])

    # When
    end_with(InfrastructureError("no correct-horse", detail="correct-horse"))
    end_with(RuntimeError("correct-horse"))
    end_with(click.UsageError("correct-horse\n::error::"))

    # Then
    err = capsys.readouterr().err
    assert "correct-horse" not in err
    assert "\n::" not in err
