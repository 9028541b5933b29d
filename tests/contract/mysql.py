"""A MariaDB or MySQL as the contract sees it: by SQL of its own, not by ours."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import MySQLdb

from dct_celery.adapters.databases.mysql.server import MysqlServer
from dct_celery.core.databases.marks import Mark
from dct_celery.core.databases.names import REGISTRY
from dct_celery.ports import DatabasePolicy, DatabaseSpec
from tests.support.mariadb import EmbeddedMariaDB


class Session:
    """A connection that is used like sqlite3's and psycopg's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(statement, params)
            return list(cursor.fetchall())

    def cursor(self) -> Any:
        return self._connection.cursor()

    def commit(self) -> None:
        self._connection.commit()

    def close(self) -> None:
        """Also after being thrown out."""
        with contextlib.suppress(MySQLdb.Error):
            self._connection.close()


class MysqlScene:
    """Databases and users made here are gone at its end; so are the servers' connections."""

    def __init__(self, embedded: EmbeddedMariaDB) -> None:
        self.embedded = embedded
        self.folder = Path(os.devnull)
        self.spec = self.spec_of()
        self.token = secrets.token_hex(5)
        self._count = 0
        self._servers: list[MysqlServer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        like = f"test\\_{self.token}%"
        for (name,) in self.ask(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE %s", [like]
        ):
            self.ask(f"DROP DATABASE {name}")
        for (user,) in self.ask("SELECT user FROM mysql.user WHERE user LIKE %s", [like]):
            self.ask(f"DROP USER '{user}'@'%%'", [])
        with contextlib.suppress(MySQLdb.Error):
            self.ask(f"DELETE FROM {REGISTRY}.marks WHERE name LIKE %s", [like])

    def spec_of(self, user: str = "", password: str = "") -> DatabaseSpec:
        server = self.embedded
        given = user or server.user, password or server.password
        return DatabaseSpec("default", "mysql", "bookshop", server.host, str(server.port), *given)

    def server(
        self, user: str = "", password: str = "", policy: DatabasePolicy | None = None
    ) -> MysqlServer:
        self._servers.append(MysqlServer(self.spec_of(user, password), policy or DatabasePolicy()))
        return self._servers[-1]

    def name(self) -> str:
        self._count += 1
        return f"test_{self.token}_{self._count}"

    def create(self, name: str) -> None:
        """As a template build makes it: announced first."""
        self.server().announce(name, Mark("building"))
        self.foreign(name)

    def foreign(self, name: str) -> None:
        self.ask(f"CREATE DATABASE {name}", user=self.embedded.user)
        self.run(
            name,
            "CREATE TABLE book (id BIGINT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(100))",
            "CREATE TABLE loan (id BIGINT AUTO_INCREMENT PRIMARY KEY, book BIGINT, FOREIGN KEY "
            "(book) REFERENCES book (id))",
            "INSERT INTO book (title) VALUES ('one'), ('two'), ('three')",
        )

    def make(self, name: str, *statements: str) -> None:
        """An announced database made by these statements, by the user that runs the tests."""
        self.server().announce(name, Mark("building"))
        self.ask(f"CREATE DATABASE {name}", user=self.embedded.user)
        self.run(name, *statements)

    def run(self, name: str, *statements: str) -> None:
        with self.session(name) as session:
            for statement in statements:
                session.execute(statement)
            session.commit()

    def template(self, *statements: str) -> str:
        """A sealed one."""
        name = self.name()
        self.make(name, *statements)
        self.server().seal(name, Mark("template"))
        return name

    def make_of_server(self) -> str:
        return "MariaDB" if "MariaDB" in str(self.ask("SELECT VERSION()")[0][0]) else "MySQL"

    def rows(self, name: str) -> list[Any]:
        with self.session(name) as session:
            return session.execute("SELECT id FROM book ORDER BY id")

    def exists(self, name: str) -> bool:
        return bool(
            self.ask("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", [name])
        )

    def session(self, name: str) -> contextlib.closing[Session]:
        """The test user's; survives being thrown out by a drop."""
        return contextlib.closing(self.connect(self.embedded.user, name))

    def ask(
        self, statement: str, params: Sequence[Any] | None = None, *, user: str = ""
    ) -> list[tuple[Any, ...]]:
        """Autocommitted, as the administrator if no user is named."""
        with contextlib.closing(
            self.connect(user or self.embedded.admin, "", autocommit=True)
        ) as session:
            return session.execute(statement, params)

    def user(self, *grants: str) -> str:
        """A new user with password "secret"; `grants` as in "ALL ON x.*"."""
        user = self.name()
        self.ask(f"CREATE USER {user} IDENTIFIED BY 'secret'")
        for grant in grants:
            self.ask(f"GRANT {grant} TO {user}")
        return user

    def dump(self, name: str) -> str:
        """The whole database as MariaDB's own dump program writes it, less its name."""
        program = shutil.which("mariadb-dump")
        assert program, "apt-get install mariadb-client"
        server = self.embedded
        options = [
            "--no-defaults",
            "--skip-comments",
            "--routines",
            "--events",
            "--triggers",
            "--order-by-primary",
            "--hex-blob",
        ]
        place = [
            "-h",
            server.host,
            "-P",
            str(server.port),
            "-u",
            server.admin,
            f"-p{server.password}",
        ]
        run = subprocess.run(
            [program, *options, *place, name], capture_output=True, check=True, timeout=60
        )
        return run.stdout.decode().replace(name, "<name>")

    def connect(self, user: str, database: str, *, autocommit: bool = False) -> Session:
        server = self.embedded
        place: dict[str, Any] = {
            "host": server.host,
            "port": server.port,
            "charset": "utf8mb4",
            "autocommit": autocommit,
        }
        return Session(MySQLdb.connect(user=user, passwd=server.password, db=database, **place))
