"""Claims about the options that pytest has of us, and about those of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.errors import ConfigError
from dct_celery.pytest_plugin import pytest_cmdline_main
from dct_celery.pytest_plugin.node import Node
from dct_celery.pytest_plugin.session import DispatcherSession, _told


def run_pytest(project: Path, *words: str, **environment: str) -> str:
    """What it has printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=project,
        env={"PATH": os.environ["PATH"], "HOME": str(project), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_options_of_a_project_that_are_called_like_the_older_spelling_are_its_own(
    tmp_path: Path,
) -> None:
    # Given
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--concurrent', action='store_true')\n"
        "    parser.addoption('--workers', type=int)\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_it(request):\n"
        "    option = request.config.option\n"
        "    assert (option.concurrent, option.workers) == (True, 4)\n"
        "    assert not option.dct_concurrent\n"
    )
    # When / Then
    assert "1 passed" in run_pytest(tmp_path, "--concurrent", "--workers", "4")


def test_a_wrong_number_of_workers_is_one_line_that_names_the_option_as_it_was_spelt(
    tmp_path: Path,
) -> None:
    # Given a conftest where the configured paths are, which is read as always
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = checks\n")
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--own', action='store_true')\n"
    )
    for words, option in (
        (("--concurrent", "--workers", "many"), "--workers"),
        (("--dct", "--dct-local=many"), "--dct-local"),
    ):
        # When
        said = run_pytest(tmp_path, "--own", *words, "-p", "no:randomly")
        # Then
        assert f"ERROR: {option}: 'many' is not valid; give a whole number" in said, said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("given", "variables", "local"),
    [
        ({}, {}, 0),
        ({"dct_local": "3"}, {}, 3),
        ({}, {"DCT_STORE": "redis://store/0"}, None),
        ({"dct_store": "redis://store/0"}, {}, None),
        ({}, {"DCT_LOCAL": "5"}, 5),
        ({"dct_concurrent": False}, {}, None),
    ],
)
def test_the_older_spelling_takes_this_machine_where_no_fleet_is_configured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    variables: dict[str, str],
    local: int | None,
) -> None:
    # Given
    for name in [name for name in os.environ if name.startswith("DCT_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    option = SimpleNamespace(
        dct_concurrent=True, dct_local=None, dct_store=None, dct_broker=None, dct_pool=None,
        dct_run_id=None, dct_json=None,
    )  # fmt: skip
    vars(option).update(given)
    config: Any = SimpleNamespace(
        option=option,
        pluginmanager=pytest.PytestPluginManager(),
        rootpath=tmp_path,
        inipath=None,
        invocation_params=SimpleNamespace(args=("--concurrent",), dir=tmp_path),
        getoption=lambda name, default: default,
    )
    session = DispatcherSession(config, "")
    # When
    node = Node(config, {"workerid": "gw0", "workercount": 1, "testrunuid": "7", "mainargv": []})
    settings, _ = session._settings(node)
    # Then
    assert settings.local == local


@pytest.mark.parametrize(
    ("words", "refused"),
    [(("--dct-local=2",), True), (("--dct-local", "2"), True), (("-k", "cart"), False)],
)
def test_an_option_of_ours_without_dct_is_refused_where_the_user_has_typed_it(
    words: tuple[str, ...], *, refused: bool
) -> None:
    """In the project's options it waits for --dct."""
    # Given
    option = SimpleNamespace(
        dct=False, dct_concurrent=False, dct_local="2", dct_store=None, dct_broker=None,
        dct_pool=None, dct_run_id=None, dct_json=None,
    )  # fmt: skip
    config: Any = SimpleNamespace(option=option, invocation_params=SimpleNamespace(args=words))
    # Then
    if refused:
        with pytest.raises(pytest.UsageError, match=r"^--dct-local has no effect without --dct"):
            pytest_cmdline_main(config)
    else:
        pytest_cmdline_main(config)


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("start it, set --store, or use --local", "start it, set --dct-store, or use --dct-local"),
        ("run it with --local-file, or ----pool", "run it with --local-file, or ----pool"),
    ],
)
def test_advice_names_options_as_they_are_spelt_here(said: str, here: str) -> None:
    assert _told(ConfigError(said)) == here
