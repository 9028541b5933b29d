"""Claims about `dispatcher.request`: the user's words reach every machine, and nothing of this one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dct_celery.core.model import Outcome, Phase, Verdict
from dct_celery.dispatcher.request import Request, make_request, require_project, settings_of_manage_py, strangers, test_arguments
from dct_celery.errors import ConfigError
from dct_celery.settings import Settings
from tests.support.factories import make_entry

test_arguments.__test__ = False  # type: ignore[attr-defined]  # a function of ours, not a test
MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'


def request_for(root: Path, environ: dict[str, str] | None = None, *, below: str = ".", **given: Any) -> Request:
    """The request of a command started in the folder `below` the root."""
    (root / below).mkdir(exist_ok=True)
    return make_request(Settings(project_dir=str(root / below), **given), root, environ or {}, None, "0")


def test_without_options_only_the_verbosity_is_said() -> None:
    assert test_arguments(Settings(), None) == ["--verbosity=1"]


def test_every_option_is_said_in_djangos_words() -> None:
    # Given
    settings = Settings(
        labels=("shop.tests", "other"),
        pattern="check*.py",
        top_level_directory="src",
        testrunner="a.Runner",
        failfast=True,
        reverse=True,
        buffer=True,
        debug_sql=True,
        timing=True,
        tag=("slow", "x"),
        exclude_tag=("fast",),
        k=("-odd", "two"),
        extra=("--keep=1",),
        verbosity=2,
    )
    # When
    argv = test_arguments(settings, 42)
    # Then
    assert argv == [
        "--verbosity=2", "--pattern=check*.py", "--top-level-directory=src", "--testrunner=a.Runner", "--failfast",
        "--reverse", "--buffer", "--debug-sql", "--timing", "--tag=slow", "--tag=x", "--exclude-tag=fast", "-k", "-odd",
        "-k", "two", "--shuffle=42", "--keep=1", "shop.tests", "other",
    ]  # fmt: skip


def test_a_seed_of_zero_is_a_seed() -> None:
    assert "--shuffle=0" in test_arguments(Settings(), 0)


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


@pytest.mark.parametrize(
    "source", [None, "", "def broken(:", "\0", 'os.environ.setdefault("OTHER", "x")', 'f("DJANGO_SETTINGS_MODULE", name)']
)
def test_a_manage_py_that_says_nothing_says_none(tmp_path: Path, source: str | None) -> None:
    # Given
    path = tmp_path / "manage.py"
    if source is not None:
        path.write_text(source)
    # Then
    assert settings_of_manage_py(path) is None


def test_manage_py_is_read_and_never_run(tmp_path: Path) -> None:
    # Given
    path = tmp_path / "manage.py"
    path.write_text(f"raise SystemExit\n{MANAGE}")
    # Then
    assert settings_of_manage_py(path) == "shop.settings"


def test_pythonpath_inside_the_tree_travels_as_relative_entries(tmp_path: Path) -> None:
    # Given
    for name in ("lib", "extra"):
        (tmp_path / name).mkdir()
    # When
    request = request_for(tmp_path, {"PYTHONPATH": f"{tmp_path / 'lib'}:"}, pythonpath="extra")
    # Then
    assert request.sys_path == ("extra", ".", "lib")


def test_pythonpath_outside_the_tree_is_named_and_left_out(tmp_path: Path) -> None:
    # Given
    root = tmp_path / "tree"
    root.mkdir()
    env = {"PYTHONPATH": f"{tmp_path / 'elsewhere'}:{root}"}
    # Then
    assert strangers(env, root) == [str(tmp_path / "elsewhere")]
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
    travelling = {"CI": "1", "TZ": "UTC", "LC_ALL": "C", "DJANGO_LIVE": "1", "AWS_REGION": "x"}
    staying = {
        "PATH": "/bin", "HOME": "/root", "LD_PRELOAD": "x", "PYTHONPATH": "", "DCT_STORE": "x", "CELERY_X": "x",
        "DJANGO_SETTINGS_MODULE": "x", "SECRET": "x",
    }  # fmt: skip
    # When
    request = request_for(tmp_path, {**travelling, **staying}, env=("AWS_*", "PATH", "LD_*", "DCT_*"))
    # Then
    assert request.environment == travelling


@pytest.mark.parametrize(
    ("manage", "settings", "command"),
    [
        (True, "shop.settings", "python manage.py test a.T.test_0"),
        (False, "shop.settings", "python -m django test --settings=shop.settings a.T.test_0"),
        (False, None, "python -m django test a.T.test_0"),
    ],
)
def test_a_failure_can_be_run_again_alone(tmp_path: Path, manage: bool, settings: str | None, command: str) -> None:
    # Given
    if manage:
        (tmp_path / "manage.py").write_text("")
    # When
    request = request_for(tmp_path, settings=settings)
    # Then
    assert request.rerun(Verdict(make_entry(cls="a.T"), Outcome.FAILED)) == command


def test_a_module_that_does_not_import_is_run_again_by_its_own_name(tmp_path: Path) -> None:
    # Given
    entry = make_entry(phase=Phase.LOAD_FAILED, id="unittest.loader._FailedTest.shop.tests")
    # Then
    assert request_for(tmp_path).rerun(Verdict(entry, Outcome.ERROR)) == "python -m django test shop.tests"


def test_a_folder_without_a_project_is_refused_and_says_where_one_is(tmp_path: Path) -> None:
    # Given
    with pytest.raises(ConfigError, match=r"no Django project: .*run it in the project's folder.*--settings"):
        require_project(Settings(project_dir=str(tmp_path)), {})
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "manage.py").touch()
    # When / Then
    with pytest.raises(ConfigError, match=r"manage\.py is in shop/: run it there"):
        require_project(Settings(project_dir=str(tmp_path)), {})


def test_whatever_names_a_project_today_is_enough(tmp_path: Path) -> None:
    require_project(Settings(project_dir=str(tmp_path), settings="shop.settings"), {})
    require_project(Settings(project_dir=str(tmp_path)), {"DJANGO_SETTINGS_MODULE": "shop.settings"})
    (tmp_path / "manage.py").write_text("that nobody can parse (")
    require_project(Settings(project_dir=str(tmp_path)), {})
