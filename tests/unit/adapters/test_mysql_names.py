"""Names and statements for MySQL and MariaDB that are built from text we did not write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.adapters.databases.mysql.connection import identifier, parameters, where
from dct_celery.adapters.databases.mysql.marks import ours
from dct_celery.core.databases.names import OURS, REGISTRY
from dct_celery.errors import DatabaseError
from dct_celery.ports import DatabaseSpec

HOSTILE = st.text(st.sampled_from("`'\"\\;-# \n\x1a\u00e4\u2019abc.%_*/"), max_size=70) | st.text(
    max_size=70
)


def read_quoted(statement: str) -> tuple[str, str]:
    """The first name in `statement` as the server reads it, and the rest."""
    assert statement[0] == "`"
    name, at = "", 1
    while True:
        if statement[at] != "`":
            name, at = name + statement[at], at + 1
        elif statement[at : at + 2] == "``":
            name, at = name + "`", at + 2
        else:
            return name, statement[at + 1 :]


@given(HOSTILE.filter(lambda name: "\0" not in name), HOSTILE)
def test_no_name_gets_out_of_its_quotes(name: str, other: str) -> None:
    # When
    read, rest = read_quoted(f"{identifier(name)} {other}")
    # Then
    assert read == name
    assert rest == f" {other}"


def test_a_name_that_would_end_the_statement_early_is_refused() -> None:
    with pytest.raises(DatabaseError, match="cannot be the name"):
        identifier("a\0b")


@given(st.from_regex(OURS) | HOSTILE | st.from_regex(r"\Atest_[A-Za-z0-9_ .`;]*\Z"))
def test_only_names_of_our_pattern_are_ours(name: str) -> None:
    try:
        accepted = ours(name) == name
    except DatabaseError:
        accepted = False
    assert accepted == (OURS.match(name) is not None and name != REGISTRY)


def test_the_registry_is_not_one_of_our_databases() -> None:
    with pytest.raises(DatabaseError, match="is not one of our databases"):
        ours(REGISTRY)


def spec(**changes: object) -> DatabaseSpec:
    values = {
        "alias": "default",
        "vendor": "mysql",
        "name": "bookshop",
        "user": "app",
        "password": "secret",
        **changes,
    }
    return DatabaseSpec(**values)  # type: ignore[arg-type]  # a dict of keywords


@pytest.mark.parametrize(
    ("given_spec", "expected", "place"),
    [
        (spec(), {}, "localhost:3306"),
        (
            spec(host="db.example", port="3307"),
            {"host": "db.example", "port": 3307},
            "db.example:3307",
        ),
        (
            spec(host="/run/mysqld/x.sock"),
            {"unix_socket": "/run/mysqld/x.sock"},
            "/run/mysqld/x.sock",
        ),
        (spec(options={"unix_socket": "/tmp/y"}), {"unix_socket": "/tmp/y"}, "/tmp/y"),
        (
            spec(
                options={
                    "read_default_file": "/etc/x.cnf",
                    "init_command": "SET x",
                    "charset": "latin1",
                }
            ),
            {"read_default_file": "/etc/x.cnf"},
            "localhost:3306",
        ),
    ],
)
def test_we_connect_where_django_does_but_never_to_the_configured_database(
    given_spec: DatabaseSpec, expected: dict[str, object], place: str
) -> None:
    assert parameters(given_spec) == {"user": "app", "passwd": "secret", **expected}
    assert where(given_spec) == place
