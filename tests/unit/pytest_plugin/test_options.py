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
from dct_celery.pytest_plugin import OLDER, VALUES, pytest_cmdline_main
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
    said = run_pytest(tmp_path, "--concurrent", "--export-timings=x.json")
    assert "unrecognized arguments: --export-timings=x.json" in said, "nobody asks for dct"


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


#: Options of a plugin that has taken all of our older names: a value, or none.
_TAKEN = """
def pytest_addoption(parser):
    for name in {names}:
        parser.addoption(name, default=0, {more})
"""


@pytest.mark.parametrize("more", ["", "action='store_true'", "type=int"])
@pytest.mark.parametrize("place", ["conftest.py", "taken.py"])
def test_what_another_plugin_is_called_like_an_older_spelling_is_its_own(
    tmp_path: Path, place: str, more: str
) -> None:
    # Given a plugin or conftest that has them, whatever they are
    names = sorted(OLDER.keys() - {"--concurrent", "--timeout"})
    (tmp_path / place).write_text(_TAKEN.format(names=names, more=more))
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    plugin = ("-p", "taken") if place == "taken.py" else ()
    value = () if "true" in more else ("7",)
    words = [word for name in names for word in (name, *value)]
    # When dct is asked for, and something with which pytest runs no tests
    said = run_pytest(
        tmp_path, *plugin, "--concurrent", "--collect-only", "-q", *words, PYTHONPATH=str(tmp_path)
    )
    # Then
    assert "1 test collected" in said


def test_the_older_spellings_are_settings_of_ours_and_errors_name_them_so(tmp_path: Path) -> None:
    # Given
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    for words, problem in (
        (("--dct", "--test-timeout", "-1"), "ERROR: --test-timeout: '-1' is not valid; give a num"),
        (("--dct", "--timeout=soon", "-p", "no:timeout"), "ERROR: --timeout: 'soon' is not valid"),
        (("--dct", "--worker-timeout=9", "--dct-timeout=0"),
         "dct: --worker-timeout has no effect: a slot takes tests for as long as the run lasts;"),
        (("--export-timings", "x.json"), "unrecognized arguments: --export-timings"),
    ):  # fmt: skip
        # When
        said = run_pytest(tmp_path, *words)
        # Then
        assert problem in said, said
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
    values = {f"dct_{name}": None for name, _, _ in VALUES.values()}
    option = SimpleNamespace(dct_concurrent=True, **values)
    vars(option).update(given)
    config: Any = SimpleNamespace(
        option=option,
        pluginmanager=pytest.PytestPluginManager(),
        rootpath=tmp_path,
        stash=pytest.Stash(),
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
