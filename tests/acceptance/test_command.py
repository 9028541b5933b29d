"""The project's own command: what it does before its tests has been done for every test."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.projects import make_project

#: Extends sys.path, reads a file of variables, and has an option of its own.
MANAGE = """
    import os, sys
    HERE = os.path.dirname(os.path.abspath(__file__))
    if __name__ == "__main__":
        sys.path.append(os.path.join(HERE, "apps"))
        if os.path.exists(".env"):
            for line in open(".env"):
                name, _, value = line.strip().partition("=")
                os.environ.setdefault(name, value)
        if "--site=shop" in sys.argv:
            sys.argv.remove("--site=shop")
            os.environ["SITE"] = "shop"
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
"""
SETTINGS = """
    import sys
    TESTING = len(sys.argv) > 1 and sys.argv[1] == "test"
    INSTALLED_APPS += ["till"] if TESTING else ["no_such_app"]
    PAYMENTS = "fake" if "test" in sys.argv else "live"
    REGION = os.environ["REGION"]
"""
TESTS = """
    import os, sys
    from django.conf import settings
    from django.test import SimpleTestCase, TestCase
    from shelf.models import Book

    class Mode(SimpleTestCase):
        def test_settings(self):
            self.assertEqual((settings.PAYMENTS, settings.REGION), ("fake", "north"))

        def test_words(self):
            self.assertEqual(sys.argv[:2], ["manage.py", "test"])

    class Stored(TestCase):
        def test_path(self):
            import till
            self.assertEqual(Book.objects.count(), till.BOOKS)

    class Site(SimpleTestCase):
        def test_site(self):
            self.assertEqual(os.environ.get("SITE"), "shop")
"""


@pytest.fixture
def project(place: Path) -> Path:
    """A git checkout in which git ignores `.env`."""
    make_project(
        place,
        TESTS,
        settings=SETTINGS,
        files={
            "pyproject.toml": "",
            "manage.py": MANAGE,
            "apps/till/__init__.py": "BOOKS = 0",
            ".gitignore": ".env\n__pycache__/",
            ".env": "REGION=north",
        },
    )
    for words in ("init -q", "add -A", "-c user.name=a -c user.email=a@b.c commit -qm one"):
        subprocess.run(["git", *words.split()], cwd=place, check=True)
    return place


def sequential(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_tests_that_depend_on_the_command_end_as_in_the_sequential_run(
    pair: Fleet, project: Path
) -> None:
    # Given
    stock = sequential(project, "manage.py", "test", "--site=shop")
    assert stock.returncode == 0, stock.stderr
    # When
    finished = pair.run(project, "--include", ".env", "--extra=--site=shop")
    # Then
    assert finished.code == 0, finished
    assert len(finished.outcomes()) == 4
    assert set(finished.outcomes().values()) == {"passed"}
    pair.assert_tidy()


def test_the_command_that_is_shown_for_a_failure_shows_it_again(
    busy_fleet: Fleet, project: Path
) -> None:
    # Given a test that fails unless the script's own option is given
    flags = ("--include", ".env", "--command", "python manage.py test", "-v", "2", "-k", "site")
    # When
    finished = busy_fleet.run(project, *flags)
    # Then
    assert finished.code == 1, finished
    (line,) = [line for line in finished.out.splitlines() if "re-run: " in line]
    _, *words = shlex.split(line.partition("re-run: ")[2])
    assert words == ["manage.py", "test", "test_it.Site.test_site"]
    assert "FAILED (failures=1)" in sequential(project, *words).stderr


def test_a_file_of_variables_that_did_not_travel_is_named_before_anything_runs(
    busy_fleet: Fleet, project: Path
) -> None:
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 4, finished
    assert "reads REGION from .env, which is not sent" in finished.error
    assert "--include .env" in finished.error
    busy_fleet.assert_tidy()


@pytest.mark.parametrize(
    ("manage", "flags", "message"),
    [
        (
            "import sys; sys.exit('set SHOP first')",
            (),
            "python manage.py test ended with exit status 1 before it came to its tests: set SHOP",
        ),
        ("print('hello')", (), "ended before it came to its tests; name the command"),
        (None, ("--extra=--nosuch",), "unrecognized arguments: --nosuch"),
        (None, ("--command", "coverage run manage.py test"), "--command: coverage cannot follow"),
        (None, ("--command", "bin/run.py"), "--command: bin/run.py is no file in"),
    ],
)
def test_a_command_that_comes_to_no_test_is_one_line_and_exit_4(
    busy_fleet: Fleet, project: Path, manage: str | None, flags: tuple[str, ...], message: str
) -> None:
    # Given
    if manage is not None:
        (project / "manage.py").write_text(manage)
    # When
    finished = busy_fleet.run(project, "--include", ".env", *flags)
    # Then
    assert finished.code == 4, finished
    assert message in finished.error
    busy_fleet.assert_tidy()
