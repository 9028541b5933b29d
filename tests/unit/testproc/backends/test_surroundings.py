"""Claims about the Django backend's commands.

How one test is run again by hand, and which of its arguments are ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.testproc.backends.django_unittest.project import _settings_of
from dct_celery.testproc.backends.django_unittest.surroundings import rerun_command
from dct_celery.wire import messages

MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'


def load(root: Path, *sys_path: str, directory: str = ".") -> messages.Load:
    return messages.Load(
        "django",
        (),
        str(root),
        directory,
        [str(root / each) for each in sys_path],
        collect_only=True,
    )


@pytest.mark.parametrize(
    ("manage", "settings", "words"),
    [
        (MANAGE, "shop.settings", "python manage.py test"),
        (MANAGE, "shop.ci", "python manage.py test --settings=shop.ci"),
        (MANAGE, None, "python manage.py test"),
        (None, "shop.settings", "python -m django test --settings=shop.settings"),
        (None, None, "python -m django test"),
    ],
)
def test_a_test_is_run_again_with_the_settings_that_the_project_would_not_choose_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manage: str | None,
    settings: str | None,
    words: str,
) -> None:
    # Given
    monkeypatch.chdir(tmp_path)
    if manage is not None:
        (tmp_path / "manage.py").write_text(manage)
    # Then
    assert " ".join(rerun_command(load(tmp_path, "."), settings, None)) == words


def test_a_test_is_run_again_with_the_folder_and_the_runner_that_the_run_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    # When
    words = rerun_command(
        load(tmp_path, "lib", "shop", "more", directory="shop"), None, "shop.Runner"
    )
    # Then
    assert words == (
        "python",
        "-m",
        "django",
        "test",
        "--pythonpath=../lib",
        "--testrunner=shop.Runner",
    )


@pytest.mark.parametrize(
    ("words", "module", "left"),
    [
        (("--settings=a.b", "-k", "x"), "a.b", ["-k", "x"]),
        (("-k", "x"), None, ["-k", "x"]),
        (("--verbosity=1", "--settings=a.b"), None, ["--verbosity=1", "--settings=a.b"]),
        ((), None, []),
    ],
)
def test_the_settings_module_is_the_first_argument_or_none(
    words: tuple[str, ...], module: str | None, left: list[str]
) -> None:
    assert _settings_of(words) == (module, left)
