"""Claims about the Django backend's project.

What is wrong when an order of the slot fails, as Django says it.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management.base import SystemCheckError
from django.db import InterfaceError, OperationalError

from dct_celery.testproc.backends.django_unittest.project import DjangoProject
from dct_celery.testproc.django.connection_guard import WrongDatabase
from dct_celery.testproc.django.surroundings import _redis_targets
from dct_celery.wire import messages

ATTACH, BUILD, CHECK = messages.Attach({}, {}), messages.Build({}), messages.Check({})


def fatal(order: messages.Message, error: BaseException, output: str = "") -> messages.Fatal:
    """Nothing of the project itself matters for it."""
    return object.__new__(DjangoProject).failure(order, error, output)


def test_failed_system_checks_are_the_projects_own_messages_whatever_ran_them() -> None:
    # When
    found = [fatal(order, SystemCheckError("W001: no")) for order in (BUILD, CHECK)]
    # Then
    assert (
        found
        == [messages.Fatal("checks", "SystemCheckError: the system check failed", "W001: no")] * 2
    )


def test_a_connection_that_leads_elsewhere_is_a_reason_of_its_own() -> None:
    assert fatal(ATTACH, WrongDatabase("it is prod"), "words\n") == messages.Fatal(
        "elsewhere", "it is prod", "words"
    )


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "Creating…\nGot an error creating the test database: no room\n",
            "Got an error creating the test database: no room",
        ),
        (" \n", "the database creation code exited"),
    ],
)
def test_creation_code_that_exits_has_printed_its_reason(output: str, message: str) -> None:
    # When
    found = fatal(BUILD, SystemExit(2), output)
    # Then
    assert (found.reason, found.message) == ("template", f"SystemExit: {message}")
    assert "Traceback" in found.detail or "SystemExit" in found.detail


@pytest.mark.parametrize(
    "error", [OperationalError("server is gone"), InterfaceError("server is gone")]
)
def test_a_server_that_is_gone_while_checks_run_is_no_failed_check(error: Exception) -> None:
    # When
    found = [fatal(order, error).reason for order in (CHECK, BUILD, ATTACH)]
    # Then
    assert found == ["database", "template", "database"]
    assert fatal(CHECK, ValueError("no")).reason == "checks"


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ("redis://db:7000/3", ["db:7000/3"]),
        ("rediss://:secret@db", ["db:6379/0"]),
        (["redis://a/1", "redis://b/2"], ["a:6379/1", "b:6379/2"]),
        ([("a", 6380)], ["a:6380/0"]),
        ([{"address": "redis://a/1"}], ["a:6379/1"]),
        ("amqp://broker", []),
        (None, []),
    ],
)
def test_a_redis_that_the_project_uses_is_found_however_it_is_written(
    value: Any, places: list[str]
) -> None:
    assert _redis_targets(value) == places
