"""Claims about `testproc.django.surroundings`: what the project says beside its tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dct_celery.errors import ConfigError
from dct_celery.testproc.django.surroundings import rerun_command, timings_file

MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'


@pytest.mark.parametrize(
    ("command", "settings", "words"),
    [
        ("manage.py test", "shop.settings", "python manage.py test"),
        ("manage.py test", "shop.ci", "python manage.py test --settings=shop.ci"),
        ("manage.py test", None, "python manage.py test"),
        ("manage.py test --settings=a", "shop.ci", "python manage.py test --settings=a"),
        ("-m django test", "shop.settings", "python -m django test --settings=shop.settings"),
        ("-m django test", None, "python -m django test"),
        (
            "manage.py test --pythonpath=lib --testrunner=a.R",
            None,
            "python manage.py test --pythonpath=lib --testrunner=a.R",
        ),
    ],
)
def test_a_test_is_run_again_with_the_settings_that_the_project_would_not_choose_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    settings: str | None,
    words: str,
) -> None:
    # Given
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manage.py").write_text(MANAGE)
    # Then
    assert " ".join(rerun_command(command.split(), settings)) == words


@pytest.mark.parametrize(
    ("value", "path"), [(None, ""), ("", ""), ("a.json", "a.json"), (Path("/b.json"), "/b.json")]
)
def test_the_timings_file_of_the_project_is_a_path_or_nothing(
    monkeypatch: pytest.MonkeyPatch, value: object, path: str
) -> None:
    # Given
    monkeypatch.setattr("django.conf.settings", SimpleNamespace(TEST_TIMINGS_FILE=value))
    # Then
    assert timings_file() == path


def test_a_timings_file_that_is_no_path_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr("django.conf.settings", SimpleNamespace(TEST_TIMINGS_FILE=5))
    # Then
    with pytest.raises(ConfigError, match=r"^TEST_TIMINGS_FILE in .* is no path but 5; give"):
        timings_file()
