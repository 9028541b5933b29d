"""Claims about `testproc.django.surroundings`: how a test is run again by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.testproc.django.surroundings import rerun_command

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
