"""The guards with this machine's settings and resolver: see `security.guards`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dct_celery.adapters.addresses import resolve
from dct_celery.ports import DatabaseServer, DatabaseSpec
from dct_celery.security import guards
from dct_celery.settings import Settings


def check(
    configured: Sequence[guards.Configured], facts: Mapping[str, str], settings: Settings
) -> list[str]:
    """Warnings. Raises GuardRefused, before anything is connected to."""
    return guards.check(
        configured,
        facts=facts,
        allow=settings.allow_database,
        deny=settings.deny_database,
        deny_hosts=settings.deny_db_host,
        addresses=resolve(guards.hosts_to_resolve(configured, settings.deny_db_host)),
    )


def refuse_address(spec: DatabaseSpec, server: DatabaseServer, settings: Settings) -> None:
    """Raises GuardRefused for a denied address, before a statement is sent; DatabaseError."""
    if denied := settings.deny_db_host:
        addresses = resolve(guards.hosts_to_resolve((), denied))
        guards.refuse_address(
            spec.alias, spec.vendor, server.addresses(), spec.port, denied, addresses
        )
