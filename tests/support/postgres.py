"""Sessions on an embedded PostgreSQL, by the driver alone."""

from __future__ import annotations

from typing import Any

import psycopg

from dct_celery.adapters.embedded import EmbeddedPostgres


def connect(
    server: EmbeddedPostgres, database: str = "postgres", **more: Any
) -> psycopg.Connection[Any]:
    """A session of the superuser that commits each statement. `more`: see `psycopg.connect`."""
    options = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "dbname": database,
        "autocommit": True,
    }
    return psycopg.connect(**{**options, **more})
