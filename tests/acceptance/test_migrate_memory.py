"""Receivers of post_migrate: what they keep in memory is there for every test, wherever it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.support.fleet import Fleet
from tests.support.projects import make_project, postgres_settings

APPS = """
    import uuid
    from django.apps import AppConfig
    from django.db.models.signals import post_migrate

    KEYS = {}

    def fill(sender, using, **options):
        from shelf.models import Book
        for title in ("tea", "salt"):
            Book.objects.using(using).get_or_create(title=title)
        KEYS.clear()
        KEYS.update({book.title: book.pk for book in Book.objects.using(using).all()})

    class ShelfConfig(AppConfig):
        name = "shelf"

        def ready(self):
            post_migrate.connect(fill, sender=self)
"""
TESTS = """
    from django.test import TestCase, TransactionTestCase
    from shelf import apps
    from shelf.models import Book

    class Known:
        def test_1(self):
            self.assertEqual({book.title: book.pk for book in Book.objects.all()}, apps.KEYS)

        def test_2(self):
            self.assertEqual(set(apps.KEYS), {"tea", "salt"})
            self.test_1()

    class A(Known, TestCase): pass
    class B(Known, TestCase): pass
    class C(Known, TransactionTestCase): pass
    class D(Known, TransactionTestCase): pass
"""
INSTALLED = 'INSTALLED_APPS = ["shelf.apps.ShelfConfig"]\n'


def test_what_receivers_remember_is_true_of_every_clone(
    pair: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    name = f"{place.name[:40]}_shelf"
    settings = INSTALLED + postgres_settings(postgres_server).replace("'shelf'", f"{name!r}")
    project = make_project(place, TESTS, settings=settings, files={"shelf/apps.py": APPS})
    stock = subprocess.run(
        [sys.executable, "-m", "django", "test", "--settings=site_settings", "--noinput"],
        cwd=project,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stock.returncode == 0, stock.stderr
    # When it runs on templates that are built, then on those that are there
    for templates in ("built", "reused"):
        finished = pair.run(project)
        # Then
        assert finished.code == 0, finished
        assert f"templates {templates}" in finished.out
        assert list(finished.outcomes().values()) == ["passed"] * 8
    pair.assert_tidy()


def test_receivers_that_cannot_run_twice_are_named(busy_fleet: Fleet, place: Path) -> None:
    # Given
    apps = APPS.replace("get_or_create(title=title)", "create(pk=len(title), title=title)")
    project = make_project(place, TESTS, settings=INSTALLED, files={"shelf/apps.py": apps})
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 4, finished
    (message,) = finished.messages()
    assert "receivers of pre_migrate or post_migrate fail when they run again" in message
    assert "IntegrityError" in message
    busy_fleet.assert_tidy()
