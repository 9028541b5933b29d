"""The choice of the adapter by vendor."""

from __future__ import annotations

from pathlib import Path

from dct_celery.errors import DatabaseError
from dct_celery.ports import DatabaseServer, DatabaseSpec


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
