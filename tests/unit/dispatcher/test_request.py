"""Claims about `dispatcher.request`: the user's arguments reach every machine, and nothing of this
one does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dct_celery.dispatcher.request import (
    Request,
    django_arguments,
    external_pythonpath,
    make_request,
    require_project,
)
from dct_celery.errors import ConfigError
from dct_celery.settings import Settings
from dct_celery.wire.pytest_reports import Input, split_arguments

MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'


def request_for(
    root: Path, environ: dict[str, str] | None = None, *, below: str = ".", **given: Any
) -> Request:
    """The request of a command started in the folder `below` the root."""
    (root / below).mkdir(exist_ok=True)
    return make_request(
        Settings(project_dir=str(root / below), **given), root, environ or {}, None, "0"
    )


def test_without_options_nothing_is_passed() -> None:
    assert django_arguments(Settings(), None) == []


def test_every_option_is_passed_as_django_spells_it() -> None:
    # Given
    settings = Settings(
        labels=("shop.tests", "other"),
        pattern="check*.py",
        top_level_directory="src",
        failfast=True,
        reverse=True,
        buffer=True,
        debug_sql=True,
        timing=True,
        tag=("slow", "x"),
        exclude_tag=("fast",),
        k=("-odd", "two"),
        verbosity=2,
    )
    # When
    argv = django_arguments(settings, 42)
    # Then
    assert argv == [
        "--verbosity=2", "--pattern=check*.py", "--top-level-directory=src", "--failfast",
        "--reverse", "--buffer", "--debug-sql", "--timing", "--tag=slow", "--tag=x",
        "--exclude-tag=fast", "-k", "-odd",
        "-k", "two", "--shuffle=42", "shop.tests", "other",
    ]  # fmt: skip


def test_a_seed_of_zero_is_a_seed() -> None:
    assert "--shuffle=0" in django_arguments(Settings(), 0)


@pytest.mark.parametrize(("below", "directory"), [(".", "."), ("shop", "shop")])
def test_the_project_is_found_below_the_root(tmp_path: Path, below: str, directory: str) -> None:
    # When
    request = request_for(tmp_path, below=below)
    # Then
    assert request.directory == directory
    assert request.sys_path == (directory,)


def test_a_project_outside_its_tree_is_a_clear_error(tmp_path: Path) -> None:
    # Given
    settings = Settings(project_dir=str(tmp_path))
    # Then
    with pytest.raises(ConfigError, match="is not below"):
        make_request(settings, tmp_path / "tree", {}, None, "0")


def test_settings_come_from_the_flag_before_the_variable_before_manage_py(tmp_path: Path) -> None:
    # Given
    (tmp_path / "manage.py").write_text(MANAGE)
    env = {"DJANGO_SETTINGS_MODULE": "from.env"}
    # Then
    assert request_for(tmp_path, env, settings="from.flag").settings == "from.flag"
    assert request_for(tmp_path, env).settings == "from.env"
    assert request_for(tmp_path).settings == "shop.settings"


def test_the_command_is_that_of_the_project_with_the_options_that_it_always_needs(
    tmp_path: Path,
) -> None:
    # Given
    (tmp_path / "lib").mkdir()
    lasting: dict[str, Any] = {
        "settings": "a.b", "pythonpath": str(tmp_path / "lib"), "testrunner": "a.Runner",
        "extra": ("--keep=1",), "labels": ("shop",), "verbosity": 2,
    }  # fmt: skip
    options = ("--settings=a.b", "--pythonpath=lib", "--testrunner=a.Runner", "--keep=1")
    # When
    without = request_for(tmp_path, **lasting)
    (tmp_path / "manage.py").write_text(MANAGE)
    request = request_for(tmp_path, **lasting)
    # Then
    assert without.command == ("-m", "django", "test", *options)
    assert request.command == ("manage.py", "test", *options)
    assert request.arguments == ("--verbosity=2", "shop")


@pytest.mark.parametrize(
    ("line", "command", "folder", "module"),
    [
        ("python bin/run.py", ("bin/run.py",), "shop/bin", "shop.settings"),
        ("{root}/shop/bin/run.py test", ("bin/run.py", "test"), "shop/bin", "shop.settings"),
        ("python ../manage.py", ("../manage.py", "test"), ".", None),
        ("python -m shop.cli test", ("-m", "shop.cli", "test"), "shop", None),
    ],
)
def test_a_command_that_is_named_starts_in_its_scripts_folder_as_python_does(
    tmp_path: Path, line: str, command: tuple[str, ...], folder: str, module: str | None
) -> None:
    # Given
    (tmp_path / "shop" / "bin").mkdir(parents=True)
    (tmp_path / "shop" / "bin" / "run.py").write_text(MANAGE)
    (tmp_path / "manage.py").touch()
    # When
    request = request_for(tmp_path, below="shop", command=line.format(root=tmp_path))
    # Then
    assert (request.command, request.sys_path) == (command, (folder,))
    assert request.settings == module


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("coverage run manage.py test", "^--command: coverage cannot follow tests"),
        ("python nowhere.py", "^--command: nowhere.py is no file in .*; name a script"),
        ("poetry run python manage.py", "^--command: poetry is no file in"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused_before_anything_is_sent(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        require_project(Settings(project_dir=str(tmp_path), command=line), {})


def test_a_script_outside_the_tree_is_a_clear_error(tmp_path: Path) -> None:
    # Given
    root = tmp_path / "tree"
    root.mkdir()
    (tmp_path / "run.py").touch()
    # Then
    with pytest.raises(ConfigError, match=r"^--command: .* lies outside the project's tree"):
        request_for(root, command="../run.py")


def test_another_backend_gets_labels_and_extra_arguments_as_they_are(tmp_path: Path) -> None:
    # When
    request = request_for(
        tmp_path, backend="plain:BACKEND", extra=("--fast",), labels=("one",), verbosity=2
    )
    # Then
    assert (request.backend, request.command, request.arguments, request.settings) == (
        "plain:BACKEND",
        (),
        ("--fast", "one"),
        None,
    )


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"tag": ("slow",)}, "--tag"),
        ({"k": ("x",)}, "-k"),
        ({"shuffle": 0}, "--shuffle"),
        ({"settings": "a"}, "--settings"),
        ({"command": "run.py"}, "--command"),
    ],
)
def test_an_option_that_another_backend_would_ignore_is_refused(
    tmp_path: Path, given: dict[str, Any], flag: str
) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"^{flag} \(DCT_\w+, or [\w-]+ in \[tool.dct\]\) is for Django's tests; remove"
        " it, and pass arguments to the backend plain:B with --extra",
    ):
        request_for(tmp_path, backend="plain:B", **given)


def test_pythonpath_inside_the_tree_travels_as_relative_entries(tmp_path: Path) -> None:
    # Given
    for name in ("lib", "extra"):
        (tmp_path / name).mkdir()
    # When
    variables = {"PYTHONPATH": f"{tmp_path / 'lib'}:"}
    request = request_for(tmp_path, variables, pythonpath="extra", backend="plain:B")
    # Then
    assert request.sys_path == ("extra", ".", "lib")
    assert request_for(tmp_path, variables, pythonpath="extra").sys_path == (".", "lib")


def test_pythonpath_outside_the_tree_is_named_and_left_out(tmp_path: Path) -> None:
    # Given
    root = tmp_path / "tree"
    root.mkdir()
    env = {"PYTHONPATH": f"{tmp_path / 'elsewhere'}:{root}"}
    # Then
    assert external_pythonpath(env, root) == [str(tmp_path / "elsewhere")]
    assert request_for(root, env).sys_path == (".", ".")


def test_an_option_that_points_outside_the_tree_is_a_clear_error(tmp_path: Path) -> None:
    # Given
    root = tmp_path / "tree"
    root.mkdir()
    # Then
    with pytest.raises(ConfigError, match=r"^--pythonpath: .* lies outside the project's tree"):
        request_for(root, pythonpath="../elsewhere")


def test_the_variables_of_tests_travel_and_those_of_the_machine_do_not(tmp_path: Path) -> None:
    # Given
    travelling = {
        "CI": "1", "TZ": "UTC", "LC_ALL": "C", "DJANGO_LIVE": "1", "AWS_REGION": "x",
        "DJANGO_SETTINGS_MODULE": "shop.settings",
    }  # fmt: skip
    staying = {
        "PATH": "/bin", "HOME": "/root", "LD_PRELOAD": "x", "PYTHONPATH": "", "DCT_STORE": "x",
        "CELERY_X": "x", "SECRET": "x",
    }  # fmt: skip
    # When
    request = request_for(
        tmp_path, {**travelling, **staying}, env=("AWS_*", "PATH", "LD_*", "DCT_*")
    )
    # Then
    assert request.environment == travelling


def test_a_folder_without_a_project_is_refused_and_says_where_one_is(tmp_path: Path) -> None:
    # Given
    with pytest.raises(
        ConfigError, match=r"no Django project: .*run it in the project's folder.*--settings"
    ):
        require_project(Settings(project_dir=str(tmp_path)), {})
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "manage.py").touch()
    # When / Then
    with pytest.raises(ConfigError, match=r"manage\.py is in shop/: run it there"):
        require_project(Settings(project_dir=str(tmp_path)), {})


def test_whatever_names_a_project_today_is_enough(tmp_path: Path) -> None:
    require_project(Settings(project_dir=str(tmp_path), settings="shop.settings"), {})
    require_project(
        Settings(project_dir=str(tmp_path)), {"DJANGO_SETTINGS_MODULE": "shop.settings"}
    )
    require_project(Settings(project_dir=str(tmp_path), backend="plain:BACKEND"), {})
    (tmp_path / "manage.py").write_text("that nobody can parse (")
    require_project(Settings(project_dir=str(tmp_path)), {})


# -- pytest ----------------------------------------------------------------------------------


def test_the_words_of_pytest_travel_behind_what_the_run_shares(tmp_path: Path) -> None:
    # Given
    given = Input("run", 2, seed=7)
    # When
    request = request_for(
        tmp_path, backend="pytest", labels=(given.argument(), "-k", "x", "tests"), extra=("-q",)
    )
    # Then
    assert request.command == ("-m", "pytest")
    assert split_arguments(request.arguments) == (given, ("-q", "-k", "x", "tests"))


@pytest.mark.parametrize(
    ("command", "path"),
    [(None, (".",)), ("python -m pytest", (".",)), ("python3 -m pytest", (".",)), ("pytest", ())],
)
def test_the_program_pytest_has_not_the_folder_on_its_path(
    tmp_path: Path, command: str | None, path: tuple[str, ...]
) -> None:
    assert request_for(tmp_path, backend="pytest", command=command).sys_path == path


def test_variables_of_pytest_travel_and_those_of_another_session_do_not(tmp_path: Path) -> None:
    # Given
    environ = {
        "PYTEST_ADDOPTS": "-q",
        "PYTEST_XDIST_WORKER": "gw1",
        "PYTEST_CURRENT_TEST": "x",
        "PYTEST_VERSION": "9",
        "CI": "true",
    }
    # Then
    assert request_for(tmp_path, environ, backend="pytest").environment == {
        "PYTEST_ADDOPTS": "-q",
        "CI": "true",
    }
    assert request_for(tmp_path, environ).environment == {"CI": "true"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"coverage": True},
            "--coverage (DCT_COVERAGE, or coverage in [tool.dct]) is for Django's tests;"
            " remove it, and measure with pytest's --cov",
        ),
        (
            {"k": ("x",)},
            "-k (DCT_K, or k in [tool.dct]) is for Django's tests; remove it, and give pytest's own"
            " options behind --",
        ),
        ({"command": "python runtests.py"}, "--command: 'python runtests.py' is not pytest"),
        ({"command": "coverage run"}, "--command: coverage cannot follow"),
    ],
)
def test_what_pytest_does_not_take_is_refused(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        request_for(tmp_path, backend="pytest", **given)
