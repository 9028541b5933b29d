"""Which database vendors can be cloned."""

from __future__ import annotations

from dct_celery.errors import UnsupportedDatabase

#: By Django's names; "mysql" is MariaDB as well.
VENDORS = ("postgresql", "mysql", "sqlite")


def require_supported(alias: str, vendor: str) -> None:
    """Raises UnsupportedDatabase."""
    if vendor not in VENDORS:
        raise UnsupportedDatabase(
            f"database {alias!r} is of vendor {vendor!r}, which cannot be cloned (PostgreSQL,"
            " MySQL, MariaDB and SQLite can): run this project in sequence, with --sequential, or"
            " leave that to --fallback sequential"
        )
