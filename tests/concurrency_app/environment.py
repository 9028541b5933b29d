"""A process with Django, as in a run of tests, on a database server of ours."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import django
from django.conf import settings


def sqlite() -> dict[str, Any]:
    """In memory, as most projects test."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }


def server(engine: str, host: str, port: int, user: str, password: str) -> dict[str, Any]:
    """`engine`: postgresql or mysql."""
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": "postgres" if engine == "postgresql" else "",
        "HOST": host,
        "PORT": port,
        "USER": user,
        "PASSWORD": password,
        "TEST": {"NAME": f"test_concurrency_{secrets.token_hex(4)}"},
    }


def configure(database: Mapping[str, Any]) -> None:
    """To be called once, before any model is imported."""
    settings.configure(
        DATABASES={"default": dict(database)},
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "rest_framework",
            "tests.concurrency_app",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF="tests.concurrency_app.urls",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        SECRET_KEY="not a secret",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SHOP={"currency": "EUR"},
    )
    django.setup()


@contextlib.contextmanager
def test_database() -> Iterator[None]:
    """The default database, made for tests, with two accounts."""
    from django.db import connection
    from django.test.utils import setup_test_environment, teardown_test_environment

    from tests.concurrency_app.models import Account

    setup_test_environment()
    name = connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        for number in (1, 2):
            Account.objects.create(pk=number)
        yield
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)
        teardown_test_environment()


#: Variable with the database of a process that another one has started, as JSON.
DATABASE_VARIABLE = "CONCURRENCY_DATABASE"


def inherited(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What DATABASE_VARIABLE says."""
    database: dict[str, Any] = json.loads(environ[DATABASE_VARIABLE])
    return database
