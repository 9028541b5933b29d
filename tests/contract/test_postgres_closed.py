"""What PostgreSQL promises where its database `postgres` is closed to us.

Another one serves, and we block no other session.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.core.databases.names import REGISTRY
from dct_celery.errors import DatabaseError
from tests.conftest import SERVER_ENVIRONMENT, started
from tests.contract.postgres import PostgresScene
from tests.contract.test_database_servers import CLONE, TEMPLATE, eventually


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Not the shared one: its rules are changed."""
    folder = tmp_path_factory.mktemp("closed")
    with started(lambda: EmbeddedPostgres.start(folder, environ=SERVER_ENVIRONMENT)) as server:
        yield server


@pytest.fixture(params=["rights", "pg_hba.conf", "pg_hba.conf rejects"])
def closed(
    request: pytest.FixtureRequest, own_server: EmbeddedPostgres
) -> Iterator[tuple[PostgresScene, str]]:
    """A scene, and a role that may not connect to `postgres`."""
    with PostgresScene(own_server) as scene:
        role = scene.role("CREATEDB")
        rules = own_server.folder / "data" / "pg_hba.conf"
        before = rules.read_text()
        if request.param == "rights":
            scene.command("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        else:
            _close(own_server, rules, before, role, reject="rejects" in request.param)
        yield scene, role
        rules.write_text(before)
        os.kill(own_server.pid, signal.SIGHUP)
        scene.command("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        scene.command(f"DROP DATABASE IF EXISTS {REGISTRY} WITH (FORCE)", f"DROP OWNED BY {role}")


def _close(server: EmbeddedPostgres, rules: Path, before: str, role: str, *, reject: bool) -> None:
    """By a line that refuses, or by none that allows it."""
    open_ones = (
        f"host all {server.user} all scram-sha-256\nhost template1,{REGISTRY} all all"
        " scram-sha-256\n"
    )
    rules.write_text(f"host postgres {role} all reject\n{before}" if reject else open_ones)
    os.kill(server.pid, signal.SIGHUP)


def test_a_database_of_our_own_serves_where_postgres_is_closed(
    closed: tuple[PostgresScene, str],
) -> None:
    # Given
    scene, role = closed
    eventually(lambda: _refused(scene, role))
    one, two = scene.server(role, "secret"), scene.server(role, "secret")
    # When
    one.check()
    with one.lock("test_abc"):
        # Then: two workers meet in the same place
        assert two.locked("test_abc")
    assert _sessions(scene, role) <= {REGISTRY}


def test_no_session_of_ours_keeps_others_from_creating_databases(
    closed: tuple[PostgresScene, str],
) -> None:
    # Given
    scene, role = closed
    eventually(lambda: _refused(scene, role))
    servers = [scene.server(role, "secret") for _ in range(4)]
    signs = [server.liveness_lock(f"owner-{number}") for number, server in enumerate(servers)]
    for server in servers:
        server.check()
    # When: as Django creates a test database
    template = scene.name()
    scene.create(template, owner=role)
    # Then
    servers[0].remark(template, TEMPLATE)
    servers[1].remark(template, CLONE)
    for sign in signs:
        sign.close()
    assert servers[2].found()


def test_a_role_that_can_neither_connect_nor_create_gets_one_line(
    own_server: EmbeddedPostgres,
) -> None:
    # Given
    with PostgresScene(own_server) as scene:
        scene.command("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        try:
            server = scene.server(scene.role(""), "secret")
            # When
            with pytest.raises(
                DatabaseError,
                match=r"permission denied for database.*GRANT CONNECT ON DATABASE postgres",
            ) as caught:
                server.check()
        finally:
            scene.command("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
    # Then
    assert "\n" not in str(caught.value)
    assert caught.value.fault is None


def _refused(scene: PostgresScene, role: str) -> bool:
    server = scene.spec
    try:
        psycopg.connect(
            host=server.host, port=int(server.port), user=role, password="secret", dbname="postgres"
        ).close()
    except psycopg.OperationalError:
        return True
    return False


def _sessions(scene: PostgresScene, role: str) -> set[str]:
    with scene.connect("postgres") as connection:
        rows = connection.execute(
            "SELECT DISTINCT datname FROM pg_stat_activity WHERE usename = %s", [role]
        ).fetchall()
    return {row[0] for row in rows}
