"""The choice of the adapter by vendor."""

from __future__ import annotations

from pathlib import Path

from dct_celery.core.databases.vendors import require_supported
from dct_celery.errors import UnsupportedDatabase
from dct_celery.ports import DatabasePolicy, DatabaseServer, DatabaseSpec

_DEFAULT_POLICY = DatabasePolicy()


def server_for(
    spec: DatabaseSpec, folder: Path, policy: DatabasePolicy = _DEFAULT_POLICY
) -> DatabaseServer:
    """The adapter for the spec's vendor; `folder` is where SQLite's files go.

    Raises UnsupportedDatabase for a vendor that cannot be cloned, or whose driver is not installed.
    """
    require_supported(spec.alias, spec.vendor)
    try:
        return _server(spec, folder, policy)
    except ImportError as error:
        raise UnsupportedDatabase(
            f"database {spec.alias!r} is of vendor {spec.vendor!r}, "
            f"whose driver this worker lacks: {error}; "
            "pip install "
            f"'dct_celery[{'postgres' if spec.vendor == 'postgresql' else spec.vendor}]' for the "
            "worker"
        ) from error


def _server(spec: DatabaseSpec, folder: Path, policy: DatabasePolicy) -> DatabaseServer:
    if spec.vendor == "postgresql":
        from dct_celery.adapters.databases.postgres.server import PostgresServer

        return PostgresServer(spec, policy)
    if spec.vendor == "mysql":
        from dct_celery.adapters.databases.mysql.server import MysqlServer

        return MysqlServer(spec, policy)
    from dct_celery.adapters.databases.sqlite.server import SqliteFolder

    return SqliteFolder(folder)
