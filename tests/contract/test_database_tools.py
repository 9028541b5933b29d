"""Claims about `dct_celery.databases` and the rights of a role, on each real server."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from dct_celery.adapters.databases.select import server_for
from dct_celery.core.databases.marks import Mark
from dct_celery.databases import (
    get_connection_pool_stats,
    terminate_connections,
    wait_for_database_ready,
)
from dct_celery.errors import (
    ConfigError,
    DatabaseCloneException,
    DatabaseError,
    PermissionException,
    SecurityException,
    UnsupportedDatabase,
)
from dct_celery.security import validate_database_permissions
from tests.contract.mysql import MysqlScene
from tests.contract.postgres import PostgresScene
from tests.support.django_settings import databases, sqlite

Scene = PostgresScene | MysqlScene


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without [tool.dct]."""
    monkeypatch.chdir(tmp_path)


@dataclass
class Server:
    """A server and, on it, a test database."""

    scene: Scene
    test: str

    @property
    def vendor(self) -> str:
        return self.scene.spec.vendor


@pytest.fixture(params=["postgres", "mariadb"])
def quiet(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that Django does not know yet."""
    embedded = request.getfixturevalue(f"{request.param}_server")
    make = PostgresScene if request.param == "postgres" else MysqlScene
    with make(embedded) as scene:
        test = scene.name()
        scene.foreign(test)
        yield Server(scene, test)


@pytest.fixture
def server(quiet: Server) -> Iterator[Server]:
    """The server as alias `default`, outside of tests: NAME is the project's own database."""
    with databases(default=settings_of(quiet.scene, quiet.test)):
        yield quiet


def settings_of(scene: Scene, test: str, **more: Any) -> dict[str, Any]:
    spec = scene.spec
    return {
        "ENGINE": f"django.db.backends.{spec.vendor}",
        "NAME": spec.name,
        "HOST": spec.host,
        "PORT": spec.port,
        "USER": spec.user,
        "PASSWORD": spec.password,
        "TEST": {"NAME": test},
        **more,
    }


def lives(session: Any) -> bool:
    try:
        session.execute("SELECT 1")
    except Exception:
        return False
    return True


class TestTerminate:
    def test_the_sessions_of_the_test_database_end_and_are_counted(self, server: Server) -> None:
        with server.scene.session(server.test) as one, server.scene.session(server.test) as two:
            # When
            ended = terminate_connections(server.test, server.vendor)
            # Then
            assert ended == 2
            assert not lives(one)
            assert not lives(two)
        assert terminate_connections(server.test, server.vendor) == 0

    def test_a_database_of_ours_is_one_of_those(self, server: Server) -> None:
        # Given two databases with our name, one of them with our mark
        foreign, ours = server.scene.name(), server.scene.name()
        server.scene.foreign(foreign)
        server.scene.create(ours)
        with contextlib.closing(server_for(server.scene.spec, Path())) as adapter:
            adapter.remark(ours, Mark("clone"))
        # When / Then
        with server.scene.session(foreign) as session:
            with pytest.raises(SecurityException, match="nor one that we have made"):
                terminate_connections(foreign, server.vendor)
            assert lives(session)
        with server.scene.session(ours):
            assert terminate_connections(ours, server.vendor) == 1

    def test_any_other_database_is_left_alone(self, server: Server) -> None:
        # Given one that looks like production, one like any other, and the project's own
        for name, why in {
            f"{server.test}_prod": "looks like production",
            "postgres": "neither the test database",
            server.scene.spec.name: "neither the test database",
            f"x'; DROP DATABASE {server.test}; --": "neither the test database",
        }.items():
            # When / Then
            with pytest.raises(SecurityException, match=why):
                terminate_connections(name, server.vendor)

    def test_the_own_session_goes_on(self, quiet: Server) -> None:
        # Given a test that uses its database
        given = settings_of(quiet.scene, quiet.test, NAME=quiet.test)
        with (
            databases(test_environment=True, default=given),
            quiet.scene.session(quiet.test) as other,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT 1")
            # When
            ended = terminate_connections(quiet.test, quiet.vendor)
            # Then
            assert ended == 1
            assert not lives(other)
            cursor.execute("SELECT 1")

    def test_in_tests_an_alias_that_none_of_them_uses_leads_to_no_test_database(
        self, quiet: Server
    ) -> None:
        # Given Django has left the project's own NAME
        given = settings_of(quiet.scene, "test_other", NAME="crm")
        # When / Then
        with (
            databases(test_environment=True, default=given),
            pytest.raises(SecurityException, match="neither the test database"),
        ):
            terminate_connections("crm", quiet.vendor)

    def test_a_copy_that_django_made_is_a_test_database(self, server: Server) -> None:
        assert terminate_connections(f"{server.test}_2", server.vendor) == 0
        with pytest.raises(SecurityException, match="neither the test database"):
            terminate_connections(f"{server.test}_archive", server.vendor)

    def test_an_alias_of_another_vendor_is_refused(self, server: Server) -> None:
        with pytest.raises(ConfigError, match=f"is of vendor '{server.vendor}' and not 'sqlite'"):
            terminate_connections(server.test, "sqlite", using="default")

    def test_a_vendor_that_no_alias_has_is_refused(self, server: Server) -> None:
        with pytest.raises(UnsupportedDatabase, match=r"vendor 'oracle'; there is default \("):
            terminate_connections(server.test, "oracle")

    def test_files_have_no_sessions(self, server: Server, tmp_path: Path) -> None:
        connections.settings["file"] = {**connections.settings["default"], **sqlite(tmp_path / "a")}
        assert terminate_connections(str(tmp_path / "test_a"), "sqlite3") == 0


class TestWait:
    def test_a_database_that_is_there_is_ready(self, server: Server) -> None:
        assert wait_for_database_ready(server.test, timeout=0) is True

    def test_one_that_is_not_there_is_named_with_the_servers_reason(self, server: Server) -> None:
        with pytest.raises(DatabaseCloneException) as caught:
            wait_for_database_ready("test_absent", timeout=0)
        assert "'test_absent' on localhost:" in str(caught.value)
        assert "is not ready after 0 s: " in str(caught.value)
        assert "test_absent" in str(caught.value).partition("0 s: ")[2]
        assert "\n" not in str(caught.value)

    def test_it_waits_for_one_that_is_being_made(self, server: Server) -> None:
        # Given
        name = server.scene.name()
        maker = threading.Timer(0.3, server.scene.foreign, [name])
        maker.start()
        # When
        began = time.monotonic()
        assert wait_for_database_ready(name, timeout=20)
        # Then
        assert 0.3 <= time.monotonic() - began < 15
        maker.join()

    def test_production_is_not_connected_to(self, server: Server) -> None:
        with pytest.raises(SecurityException, match="looks like production"):
            wait_for_database_ready("shop_production", timeout=0)

    @pytest.mark.parametrize("timeout", [-1, float("nan")])
    def test_no_time_is_refused(self, server: Server, timeout: float) -> None:
        with pytest.raises(ConfigError, match="give seconds, 0 or more"):
            wait_for_database_ready(server.test, timeout)


class TestFiles:
    def test_a_file_is_ready_when_it_is_a_database(self, tmp_path: Path) -> None:
        # Given
        file, text = tmp_path / "a", tmp_path / "b"
        with contextlib.closing(sqlite3.connect(file)) as made:
            made.execute("CREATE TABLE t (x)")
        text.write_text("no database, but longer than nothing" * 40)
        with databases(default=sqlite(file)):
            # When / Then
            assert wait_for_database_ready(str(file), timeout=0)
            assert wait_for_database_ready(":memory:", timeout=0)
            for path, why in {text: "not a database", tmp_path / "c": "unable to open"}.items():
                with pytest.raises(DatabaseCloneException, match=why):
                    wait_for_database_ready(str(path), timeout=0)
            assert not (tmp_path / "c").exists()


class TestStats:
    def test_what_this_thread_has_open_is_active(self, server: Server) -> None:
        # Given
        nothing = get_connection_pool_stats()
        connection.settings_dict["NAME"] = server.test
        # When
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        # Then
        assert nothing["total_connections"] == nothing["active"] == 0
        assert nothing["connection_keys"] == []
        assert get_connection_pool_stats() == {
            **nothing, "total_connections": 1, "active": 1, "connection_keys": ["default"]
        }  # fmt: skip

    def test_a_pool_is_counted_as_it_counts_itself(self, request: pytest.FixtureRequest) -> None:
        with PostgresScene(request.getfixturevalue("postgres_server")) as scene:
            test = scene.name()
            scene.foreign(test)
            pool = {"min_size": 2, "max_size": 2}
            given = settings_of(scene, test, NAME=test, TEST={}, OPTIONS={"pool": pool})
            with databases(default=given):
                wrapper: Any = connection
                wrapper.pool.open()
                wrapper.pool.wait()
                # When one of two is in use
                with wrapper.cursor() as cursor:
                    cursor.execute("SELECT 1")
                    used = get_connection_pool_stats()
                    wrapper.close()
                idle = get_connection_pool_stats()
                # Nor does it answer for another database
                with pytest.raises(DatabaseCloneException):
                    wait_for_database_ready("test_absent", timeout=0)
                wrapper.close_pool()
            # Then
            assert used["total_connections"] == used["pool_size"] == 2
            assert (used["active"], used["pooled"]) == (1, 1)
            assert (used["hits"], used["misses"]) == (1, 0)
            assert (idle["active"], idle["pooled"]) == (0, 2)


class TestRights:
    def test_a_role_that_may_make_databases_passes(self, server: Server) -> None:
        validate_database_permissions()

    def test_one_that_may_not_is_told_what_to_grant(self, request: pytest.FixtureRequest) -> None:
        # Given
        with PostgresScene(request.getfixturevalue("postgres_server")) as scene:
            role = scene.role("NOCREATEDB")
            given = settings_of(scene, "test_x", USER=role, PASSWORD="secret")
            # When / Then
            with databases(default=given), pytest.raises(PermissionException, match="CREATEDB"):
                validate_database_permissions()

    def test_a_session_of_another_role_is_not_ended_silently(
        self, request: pytest.FixtureRequest
    ) -> None:
        # Given
        with PostgresScene(request.getfixturevalue("postgres_server")) as scene:
            role, test = scene.role("CREATEDB"), scene.name()
            scene.foreign(test)
            given = settings_of(scene, test, USER=role, PASSWORD="secret")
            # When / Then
            with (
                scene.session(test) as session,
                databases(default=given),
            ):
                with pytest.raises(PermissionException, match="cannot be ended: "):
                    terminate_connections(test, "postgresql")
                assert lives(session)

    def test_a_server_that_is_away_is_said(self) -> None:
        away = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": secrets.token_hex(4),
            "HOST": "127.0.0.1",
            "PORT": "1",
        }
        with databases(default=away), pytest.raises(DatabaseError, match="default"):
            terminate_connections(f"test_{away['NAME']}", "postgresql")
