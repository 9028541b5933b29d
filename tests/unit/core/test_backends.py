"""Claims about `core.backends`: which backends exist; re-running a test."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dct_celery.core.backends import BUILT_IN, PATTERN, location, rerun
from tests.support.factories import make_entry


@pytest.mark.parametrize(
    "name", ["django", "plain:BACKEND", "tests.support.plain:Backend.own", "_a.b1:c"]
)
def test_a_backend_is_a_built_in_one_or_an_attribute_of_a_module(name: str) -> None:
    assert re.fullmatch(PATTERN, name)


@pytest.mark.parametrize(
    "name",
    ["", "nose", "plain", "plain:", ":BACKEND", "a b:c", "../a:b", "a:b:c", "a:b\n", "django:"],
)
def test_anything_else_is_none(name: str) -> None:
    assert not re.fullmatch(PATTERN, name)


def test_a_built_in_backend_is_found_in_this_package_alone() -> None:
    assert all(location(name)[0].startswith("dct_celery.testproc.backends.") for name in BUILT_IN)
    assert location("shop.plain:Backend.own") == ("shop.plain", "Backend.own")


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({"id": "a.T.test_0"}, "python manage.py test a.T.test_0"),
        ({"id": "unittest.loader._FailedTest.shop", "label": "shop"}, "python manage.py test shop"),
        ({"id": "test_it.py::test[a b; rm]"}, "python manage.py test 'test_it.py::test[a b; rm]'"),
    ],
)
def test_a_failure_can_be_run_again_alone_from_a_shell(
    fields: dict[str, Any], command: str
) -> None:
    assert rerun(("python", "manage.py", "test"), make_entry(**fields)) == command
