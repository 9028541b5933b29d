"""What a slot needs of a database server, and the choice of the adapter by vendor."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dct_celery.errors import DatabaseError


@dataclass(frozen=True, slots=True)
class DatabaseSpec:
    """One test database of the selection, as the loader described it. `repr` hides the password."""

    alias: str
    vendor: str
    name: str
    host: str = ""
    port: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    in_memory: bool = False
    serialize: bool = False
    late_flush: bool = False
    aliases: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatabaseSpec:
        return cls(**{**data, "aliases": tuple(data["aliases"])})


class DatabaseServer(Protocol):
    """Templates and clones of one database server (or of one folder, for SQLite)."""

    #: Clones are visible on this host alone.
    local: bool

    def check(self) -> None:
        """Proves that the server answers and lets us create databases. Raises DatabaseError with the mend."""

    def place(self, name: str) -> str:
        """What the test process is to be told for a database of this name: the name, or a path."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Held by one builder of this template at a time, over all workers."""

    def is_ready(self, template: str) -> bool: ...

    def seal(self, template: str, mark: str) -> None:
        """Declares a template finished. Nothing connects to it any more."""

    def clone(self, template: str, name: str, mark: str) -> None:
        """Copies a sealed template. Raises CloneFailed; then nothing of that name is left."""

    def drop(self, name: str) -> None:
        """Drops a database of ours, sessions and all; absent is fine. Raises DatabaseError for a name that is not ours."""

    def close(self) -> None: ...


def server_for(spec: DatabaseSpec, folder: Path) -> DatabaseServer:
    """The adapter for the spec's vendor. Raises DatabaseError for a vendor that we cannot clone."""
    if spec.vendor == "postgresql":
        from dct_celery.adapters.databases.postgres import PostgresServer

        return PostgresServer(spec)
    if spec.vendor == "sqlite":
        from dct_celery.adapters.databases.sqlite import SqliteFolder

        return SqliteFolder(folder)
    raise DatabaseError(
        f"database {spec.alias!r} is of vendor {spec.vendor!r}, which cannot be cloned yet; PostgreSQL and SQLite can"
    )
