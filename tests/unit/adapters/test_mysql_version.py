"""Which servers are old, by what they say of themselves."""

from __future__ import annotations

import pytest

from dct_celery.adapters.databases.mysql.facts import check_version
from dct_celery.errors import DatabaseError


@pytest.mark.parametrize(
    "words",
    ["10.6.0-MariaDB", "5.5.5-10.11.6-MariaDB-log", "11.8.2-MariaDB-ubu2404", "8.0.36", "9.7.4-2"],
)
def test_these_are_new_enough(words: str) -> None:
    check_version(words, "db:3306")


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("10.5.29-MariaDB", "MariaDB 10.6"),
        ("5.5.5-10.5.1-MariaDB", "MariaDB 10.6"),
        ("5.7.44-log", "MySQL 8.0"),
        ("?", "MySQL 8.0"),
    ],
)
def test_an_old_server_is_refused_by_name(words: str, needed: str) -> None:
    with pytest.raises(DatabaseError, match=f"on db:3306 is too old: {needed} or newer is needed"):
        check_version(words, "db:3306")
