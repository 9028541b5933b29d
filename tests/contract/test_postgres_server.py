"""What PostgreSQL promises beyond the contract: marks, rights, settings of the database, one clear line on trouble."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.errors import CloneFailed, DatabaseError
from tests.contract.postgres import PostgresHouse


@pytest.fixture
def postgres(postgres_server: EmbeddedPostgres) -> Iterator[PostgresHouse]:
    with PostgresHouse(postgres_server) as house:
        yield house


def sealed(house: PostgresHouse) -> str:
    """A template that is ready."""
    template = house.name()
    house.create(template)
    house.server().seal(template, "fingerprint")
    return template


def test_a_sealed_template_takes_no_connections(postgres: PostgresHouse) -> None:
    # Given
    template = sealed(postgres)
    # Then
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        postgres.rows(template)


def test_a_database_of_our_name_without_our_mark_is_not_dropped(postgres: PostgresHouse) -> None:
    # Given
    name = postgres.name()
    postgres.create(name)
    # When
    with pytest.raises(DatabaseError, match="does not carry our mark"):
        postgres.server().drop(name)
    # Then
    assert postgres.rows(name) == [(1,), (2,), (3,)]


def test_a_clone_never_takes_the_place_of_another_database(postgres: PostgresHouse) -> None:
    # Given
    template, taken = sealed(postgres), postgres.name()
    postgres.create(taken)
    # When
    with pytest.raises(CloneFailed, match="already exists"):
        postgres.server().clone(template, taken, "run-one")
    # Then
    assert postgres.exists(taken)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timezone", "'Europe/Paris'"),
        ("search_path", '"$user", public, other'),
        ("search_path", '"Mixed Case"'),
        ("search_path", '"one, two", "say ""hi"""'),
        ("search_path", "''"),
        ("datestyle", "'SQL, DMY'"),
        ("application_name", "'a, b'"),
        ("app.tenant", "'x, y'"),
        ("app.tenant", "'it''s'"),
    ],
)
def test_settings_of_the_database_are_carried_to_the_clone(postgres: PostgresHouse, setting: str, value: str) -> None:
    # Given
    template, name = postgres.name(), postgres.name()
    postgres.create(template)
    postgres.run(f"ALTER DATABASE {template} SET {setting} TO {value}")
    expected = postgres.settings(template)
    assert expected
    postgres.server().seal(template, "fingerprint")
    # When
    postgres.server().clone(template, name, "run-one")
    # Then
    assert postgres.settings(name) == expected


def test_a_role_without_the_right_to_create_databases_is_told_the_mend(postgres: PostgresHouse) -> None:
    # Given
    role = postgres.role("NOCREATEDB")
    # When
    with pytest.raises(DatabaseError) as caught:
        postgres.server(role, "secret").check()
    # Then
    message = str(caught.value)
    assert f"role {role!r} may not create databases" in message
    assert f'ALTER ROLE "{role}" CREATEDB' in message
    assert caught.value.exit_code == 7


def test_a_role_that_may_create_databases_is_enough(postgres: PostgresHouse) -> None:
    # Given
    server = postgres.server(postgres.role("CREATEDB"), "secret")
    # Then
    server.check()


def test_a_server_that_cannot_be_reached_is_one_line_without_the_password(postgres: PostgresHouse) -> None:
    # When
    with pytest.raises(DatabaseError, match="cannot be reached from this worker") as caught:
        postgres.server("nobody", "pass-word").check()
    # Then
    assert "\n" not in str(caught.value)
    assert "pass-word" not in str(caught.value)
