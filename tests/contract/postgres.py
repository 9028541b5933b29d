"""A PostgreSQL as the contract sees it: by SQL of its own, not by ours."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any, Self

import psycopg

from dct_celery.adapters.databases.postgres.dump import find_pg_dump
from dct_celery.adapters.databases.postgres.server import PostgresServer
from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.core.databases.names import ownership_limit
from dct_celery.ports import DatabasePolicy, DatabaseSpec
from tests.support.postgres import connect


class PostgresScene:
    """Databases and roles made here are gone at its end; so are the servers' connections."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self._embedded = embedded
        self._token = secrets.token_hex(5)
        self._count = 0
        self._servers: list[PostgresServer] = []
        self.folder = Path(os.devnull)
        self.spec = self._spec(embedded.user, embedded.password)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        with self.connect("postgres") as connection:
            like = f"test\\_{self._token}%"
            names = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", [like]
            ).fetchall()
            for (name,) in names:
                connection.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            for (role,) in connection.execute(
                "SELECT rolname FROM pg_roles WHERE rolname LIKE %s", [like]
            ).fetchall():
                connection.execute(f'DROP ROLE "{role}"')

    def server(
        self,
        user: str = "",
        password: str = "",
        policy: DatabasePolicy | None = None,
        port: int = 0,
    ) -> PostgresServer:
        server = self._embedded
        spec = self._spec(user or server.user, password or server.password, port)
        self._servers.append(PostgresServer(spec, policy or DatabasePolicy()))
        return self._servers[-1]

    def name(self) -> str:
        self._count += 1
        return f"test_{self._token}_{self._count}"

    def create(self, name: str, owner: str = "") -> None:
        self._create(name, f" CONNECTION LIMIT {ownership_limit(name)}", owner)

    def foreign(self, name: str) -> None:
        self._create(name, "")

    def run(self, name: str, *statements: str) -> None:
        with self.session(name) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def rows(self, name: str) -> list[Any]:
        with self.session(name) as connection:
            return list(connection.execute("SELECT id FROM book ORDER BY id").fetchall())

    def dump(self, name: str) -> str:
        with self.connect("postgres") as connection:
            program = find_pg_dump(connection.info.server_version // 10000)
        assert program
        server = self._embedded
        argv = [
            str(program),
            "--inserts",
            "-h",
            server.host,
            "-p",
            str(server.port),
            "-U",
            server.user,
            name,
        ]
        text = subprocess.run(
            argv, env={"PGPASSWORD": server.password}, capture_output=True, text=True, check=True
        ).stdout
        # The word after these two is another one each time.
        return "".join(
            line
            for line in text.splitlines(keepends=True)
            if not line.startswith(("\\restrict", "\\unrestrict"))
        )

    def exists(self, name: str) -> bool:
        with self.connect("postgres") as connection:
            return bool(
                connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [name]
                ).fetchall()
            )

    def session(self, name: str) -> contextlib.AbstractContextManager[psycopg.Connection[Any]]:
        """Survives being thrown out by a drop."""
        return contextlib.closing(self.connect(name, autocommit=False))

    def command(self, *statements: str) -> None:
        """Statements to the server, each for itself."""
        with contextlib.closing(self.connect("postgres")) as connection:
            for statement in statements:
                connection.execute(statement)

    def settings(self, name: str) -> list[str]:
        """ALTER DATABASE … SET, as the server keeps it."""
        query = (
            "SELECT unnest(setconfig) FROM pg_db_role_setting s "
            "JOIN pg_database d ON d.oid = setdatabase WHERE datname = %s"
        )
        return [row[0] for row in self._ask(query, name)]

    def rights(self, name: str) -> str:
        """The access list of the database, as the server keeps it."""
        return str(self._ask("SELECT datacl FROM pg_database WHERE datname = %s", name)[0][0])

    def role(self, rights: str) -> str:
        """A new role with password "secret"."""
        role = self.name()
        self.command(f"CREATE ROLE {role} LOGIN {rights} PASSWORD 'secret'")
        return role

    def connect(self, database: str, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        return connect(self._embedded, database, autocommit=autocommit)

    def _create(self, name: str, options: str, owner: str = "") -> None:
        self.command(f"CREATE DATABASE {name} {f'OWNER {owner}' if owner else ''}{options}")
        self.run(
            name,
            "CREATE TABLE book (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, title "
            "varchar(100))",
            "CREATE TABLE loan (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, book "
            "bigint REFERENCES book (id) DEFERRABLE INITIALLY DEFERRED)",
            "INSERT INTO book (title) VALUES ('one'), ('two'), ('three')",
        )

    def _ask(self, query: str, name: str) -> list[tuple[Any, ...]]:
        with self.connect("postgres") as connection:
            return connection.execute(query, [name]).fetchall()

    def _spec(self, user: str, password: str, port: int = 0) -> DatabaseSpec:
        server = self._embedded
        return DatabaseSpec(
            "default",
            "postgresql",
            "bookshop",
            server.host,
            str(port or server.port),
            user,
            password,
        )
