"""A PostgreSQL as the contract sees it: by SQL of its own, not by ours."""

from __future__ import annotations

import contextlib
import secrets
from typing import Any, Self

import psycopg

from dct_celery.adapters.databases.postgres import PostgresServer
from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.ports import DatabaseSpec


class PostgresHouse:
    """Databases and roles made here are gone at its end; so are the servers' connections."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self._embedded = embedded
        self._token = secrets.token_hex(5)
        self._count = 0
        self._servers: list[PostgresServer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        with self._connect("postgres") as connection:
            like = f"test\\_{self._token}%"
            names = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [like]).fetchall()
            for (name,) in names:
                connection.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            for (role,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", [like]).fetchall():
                connection.execute(f'DROP ROLE "{role}"')

    def server(self, user: str = "", password: str = "") -> PostgresServer:
        server = self._embedded
        spec = DatabaseSpec(
            "default",
            "postgresql",
            "bookshop",
            server.host,
            str(server.port),
            user or server.user,
            password or server.password,
        )
        self._servers.append(PostgresServer(spec))
        return self._servers[-1]

    def name(self) -> str:
        self._count += 1
        return f"test_{self._token}_{self._count}"

    def create(self, name: str) -> None:
        self.run(f"CREATE DATABASE {name}")
        with self.session(name) as connection:
            connection.execute("CREATE TABLE book AS SELECT generate_series(1, 3) AS id")
            connection.commit()

    def rows(self, name: str) -> list[Any]:
        with self.session(name) as connection:
            return list(connection.execute("SELECT id FROM book ORDER BY id").fetchall())

    def exists(self, name: str) -> bool:
        with self._connect("postgres") as connection:
            return bool(connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchall())

    def session(self, name: str) -> contextlib.AbstractContextManager[psycopg.Connection[Any]]:
        """Survives being thrown out by a drop."""
        return contextlib.closing(self._connect(name, autocommit=False))

    def run(self, statement: str) -> None:
        with contextlib.closing(self._connect("postgres")) as connection:
            connection.execute(statement)

    def settings(self, name: str) -> list[str]:
        """ALTER DATABASE … SET, as the server keeps it."""
        query = "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = %s"
        with self._connect("postgres") as connection:
            return [row[0] for row in connection.execute(query, [name]).fetchall()]

    def role(self, rights: str) -> str:
        """A new role with password "secret"."""
        role = self.name()
        self.run(f"CREATE ROLE {role} LOGIN {rights} PASSWORD 'secret'")
        return role

    def _connect(self, database: str, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        server = self._embedded
        return psycopg.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
            dbname=database,
            autocommit=autocommit,
        )
