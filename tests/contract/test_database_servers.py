"""What every database server promises: templates that are sealed, clones that are equal, and hands off what is not ours."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from dct_celery.adapters.databases.sqlite import SqliteFolder
from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.core.names import OURS
from dct_celery.errors import CloneFailed, DatabaseError
from dct_celery.ports import DatabaseServer
from tests.contract.postgres import PostgresHouse


class House(Protocol):
    """One server as a test sees it, by the database's own means."""

    def server(self) -> DatabaseServer: ...
    def name(self) -> str:
        """A name of ours that is unused."""

    def create(self, name: str) -> None:
        """A database with one table `book` of three rows, as a template build makes it: without our mark."""

    def rows(self, name: str) -> list[Any]: ...
    def exists(self, name: str) -> bool: ...
    def session(self, name: str) -> contextlib.AbstractContextManager[Any]: ...


class SqliteHouse:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server().check()

    def server(self) -> SqliteFolder:
        return SqliteFolder(self._folder)

    def name(self) -> str:
        return f"test_{secrets.token_hex(6)}"

    def create(self, name: str) -> None:
        with contextlib.closing(sqlite3.connect(self.server().place(name))) as connection:
            connection.executescript("CREATE TABLE book (id integer); INSERT INTO book VALUES (1), (2), (3)")

    def rows(self, name: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.server().place(name))) as connection:
            return connection.execute("SELECT id FROM book ORDER BY id").fetchall()

    def exists(self, name: str) -> bool:
        return any(self._folder.glob(f"{name}.*"))

    def session(self, name: str) -> contextlib.AbstractContextManager[Any]:
        return contextlib.closing(sqlite3.connect(self.server().place(name)))


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    if request.param == "sqlite":
        yield SqliteHouse(tmp_path / "databases")
        return
    server: EmbeddedPostgres = request.getfixturevalue("postgres_server")
    with PostgresHouse(server) as postgres:
        yield postgres


def sealed(house: House) -> str:
    """A template that is ready."""
    template = house.name()
    house.create(template)
    house.server().seal(template, "fingerprint")
    return template


def test_the_server_can_be_used(house: House) -> None:
    house.server().check()


def test_a_clone_equals_its_template(house: House) -> None:
    # Given
    template, name = sealed(house), house.name()
    # When
    house.server().clone(template, name, "run-one")
    # Then
    assert house.rows(name) == [(1,), (2,), (3,)]


def test_a_clone_is_nobody_elses(house: House) -> None:
    # Given
    template, one, two = sealed(house), house.name(), house.name()
    house.server().clone(template, one, "run-one")
    # When
    with house.session(one) as connection:
        connection.execute("DELETE FROM book")
        connection.commit()
    house.server().clone(template, two, "run-one")
    # Then
    assert house.rows(one) == []
    assert house.rows(two) == [(1,), (2,), (3,)]


def test_a_template_is_ready_when_it_is_sealed_and_not_before(house: House) -> None:
    # Given
    template = house.name()
    assert not house.server().is_ready(template)
    house.create(template)
    assert not house.server().is_ready(template)
    # When
    house.server().seal(template, "fingerprint")
    # Then
    assert house.server().is_ready(template)


def test_what_was_never_built_cannot_be_sealed(house: House) -> None:
    # Given
    template = house.name()
    # When
    with pytest.raises(DatabaseError):
        house.server().seal(template, "fingerprint")
    # Then
    assert not house.server().is_ready(template)


def test_a_clone_is_no_template(house: House) -> None:
    # Given
    name = house.name()
    # When
    house.server().clone(sealed(house), name, "run-one")
    # Then
    assert not house.server().is_ready(name)


def test_a_failed_clone_leaves_nothing_behind(house: House) -> None:
    # Given
    name, absent = house.name(), house.name()
    # When
    with pytest.raises(CloneFailed, match=absent):
        house.server().clone(absent, name, "run-one")
    # Then
    assert not house.exists(name)
    assert not house.exists(absent)


@pytest.mark.parametrize("ending", ["clone", "template"])
def test_what_is_ours_is_dropped_and_may_be_dropped_again(house: House, ending: str) -> None:
    # Given
    name = template = sealed(house)
    if ending == "clone":
        name = house.name()
        house.server().clone(template, name, "run-one")
    # When
    house.server().drop(name)
    house.server().drop(name)
    # Then
    assert not house.exists(name)
    assert not house.server().is_ready(name)


def test_a_drop_does_not_wait_for_open_sessions(house: House) -> None:
    # Given
    name = house.name()
    house.server().clone(sealed(house), name, "run-one")
    with house.session(name) as connection:
        connection.execute("SELECT 1")
        # When
        house.server().drop(name)
    # Then
    assert not house.exists(name)


@pytest.mark.parametrize("name", ["bookshop", "postgres", "test_", "../test_abc", "test_abc; x", "Test_abc", "test_abc\n"])
def test_foreign_names_are_never_dropped(house: House, name: str) -> None:
    for verb in (house.server().drop, house.server().discard):
        with pytest.raises(DatabaseError, match="is not one of our databases; it was not dropped"):
            verb(name)


def test_the_rest_of_a_failed_build_can_be_discarded(house: House) -> None:
    # Given
    template = house.name()
    house.create(template)
    # When
    house.server().discard(template)
    house.server().discard(template)
    # Then
    assert not house.exists(template)


def test_a_database_is_told_by_a_place_that_holds_its_name(house: House) -> None:
    # Given
    name = house.name()
    # Then
    assert OURS.match(name)
    assert name in house.server().place(name)


def test_a_template_has_one_builder_at_a_time(house: House) -> None:
    # Given
    template = house.name()
    order: list[str] = []
    waiting = threading.Event()

    def build() -> None:
        other = house.server()
        waiting.set()
        with other.lock(template):
            order.append("second")
        other.close()

    thread = threading.Thread(target=build)
    server = house.server()
    with server.lock(template):
        # When
        thread.start()
        assert waiting.wait(10)
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    # Then
    assert not thread.is_alive()
    assert order == ["first", "second"]


def test_the_locks_of_two_templates_do_not_meet(house: House) -> None:
    # Given
    server, other = house.server(), house.server()
    # When / Then: this would hang
    with server.lock(house.name()), other.lock(house.name()):
        pass


def test_a_lock_is_free_again_after_its_holder_failed(house: House) -> None:
    # Given
    template = house.name()
    with pytest.raises(ValueError, match="broken build"), house.server().lock(template):
        raise ValueError("broken build")
    # When / Then: this would hang
    with house.server().lock(template):
        pass
