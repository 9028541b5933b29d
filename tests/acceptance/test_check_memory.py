"""What the system checks have imported is there before the first test, as in the sequential run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.projects import make_project

#: A URLconf and a template library that keep what the settings say while they are imported.
_KEEPING = """
    from django.conf import settings
    KEPT = settings.FLAVOUR
"""
_FILES = {
    "site_urls.py": _KEEPING + "    urlpatterns = []\n",
    "shelf/templatetags/__init__.py": "",
    "shelf/templatetags/kept.py": _KEEPING
    + "    from django import template\n    register = template.Library()\n",
}
_SETTINGS = """
    FLAVOUR = "the project's"
    ROOT_URLCONF = "site_urls"
    TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
"""
_TESTS = """
    import unittest
    from django.template import engines
    from django.test import SimpleTestCase, TestCase, override_settings
    from django.urls import get_resolver

    @override_settings(FLAVOUR="a test's")
    class A(TestCase):
        def test_urls(self):
            self.assertEqual(get_resolver().urlconf_module.KEPT, "the project's")
        def test_templates(self):
            engines.all()
            from shelf.templatetags import kept
            self.assertEqual(kept.KEPT, "the project's")

    @override_settings(FLAVOUR="a test's")
    class B(SimpleTestCase):
        def test_urls(self):
            self.assertEqual(get_resolver().urlconf_module.KEPT, "the project's")
"""
_OWN_RUNNER = """
    from django.test.runner import DiscoverRunner

    class Runner(DiscoverRunner):
        def run_checks(self, databases):
            pass
"""
_WITHOUT_CHECKS = """
    import sys
    from django.test import TestCase

    class A(TestCase):
        def test_nothing_is_imported(self):
            self.assertNotIn("site_urls", sys.modules)
"""


def sequential(project: Path) -> int:
    words = [sys.executable, "-m", "django", "test", "--settings=site_settings"]
    return subprocess.run(words, cwd=project, check=False).returncode


@pytest.mark.parametrize("shared", ["busy_fleet", "wide_fleet"])
def test_urls_and_template_libraries_are_imported_with_the_settings_of_the_project(
    shared: str, place: Path, request: pytest.FixtureRequest
) -> None:
    # Given
    fleet: Fleet = request.getfixturevalue(shared)
    project = make_project(place, _TESTS, settings=_SETTINGS, files=_FILES)
    # When
    finished = fleet.run(project)
    # Then
    assert sequential(project) == 0
    assert (finished.code, len(finished.outcomes())) == (0, 3), finished


def test_a_runner_that_leaves_out_the_checks_leaves_out_what_they_import(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    settings = f'{_SETTINGS}\n    TEST_RUNNER = "own_runner.Runner"\n'
    files = {**_FILES, "own_runner.py": _OWN_RUNNER}
    project = make_project(place, _WITHOUT_CHECKS, settings=settings, files=files)
    # When
    finished = busy_fleet.run(project)
    # Then
    assert sequential(project) == 0
    assert finished.code == 0, finished
