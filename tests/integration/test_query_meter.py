"""Queries are counted as Django itself counts them, on every vendor, and nothing else changes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

import MySQLdb

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.postgres import connect


def counted(databases: dict[str, Any]) -> str:
    """The last line of 500 random tests, each counted twice; fails where one differs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.random_queries", json.dumps(databases), "1", "500"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def test_500_random_tests_are_counted_as_django_captures_them_on_sqlite() -> None:
    # Given two databases, so that a test may use either
    one = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    # Then
    assert counted({"default": one, "other": one}).endswith("0 differ")


def test_500_random_tests_are_counted_as_django_captures_them_on_postgresql(
    postgres_server: EmbeddedPostgres,
) -> None:
    # Given
    server = postgres_server
    with connect(server) as connection:
        connection.execute(b"CREATE DATABASE counted")
    own = {"ENGINE": "django.db.backends.postgresql", "NAME": "counted", "HOST": server.host}
    access = {"PORT": str(server.port), "USER": server.user, "PASSWORD": server.password}
    try:
        # Then
        assert counted({"default": own | access}).endswith("0 differ")
    finally:
        with connect(server) as connection:
            connection.execute(b"DROP DATABASE counted WITH (FORCE)")


def test_500_random_tests_are_counted_as_django_captures_them_on_mariadb(
    mariadb_server: EmbeddedMariaDB,
) -> None:
    # Given
    server = mariadb_server
    own = {"ENGINE": "django.db.backends.mysql", "NAME": "test_counted", "HOST": server.host}
    access = {"PORT": str(server.port), "USER": server.user, "PASSWORD": server.password}
    where = {"host": server.host, "port": server.port, "user": server.user}
    with contextlib.closing(MySQLdb.connect(passwd=server.password, **where)) as connection:
        connection.query("CREATE DATABASE test_counted")
        try:
            # Then
            assert counted({"default": own | access}).endswith("0 differ")
        finally:
            connection.query("DROP DATABASE test_counted")
