"""The worker's own check of a server before it uses it: a denied server gets no statement."""

from __future__ import annotations

from collections.abc import Sequence

from dct_celery.ports import DatabaseServer, DatabaseSpec
from dct_celery.security import guards
from dct_celery.worker.services import WorkerServices


def refuse_settings(services: WorkerServices, spec: DatabaseSpec) -> None:
    """Checks the settings, without connecting. A run's --allow-database is not known here, so only
    the lists of what is denied count. Raises ConfigError.
    """
    settings = services.settings
    one = guards.Configured(
        alias=spec.alias,
        vendor=spec.vendor,
        name=spec.name,
        test_name="",
        test=False,
        host=spec.host,
        port=spec.port,
        used=True,
    )
    guards.check(
        [one],
        facts={},
        allow=("*",),
        deny=settings.deny_database,
        deny_hosts=settings.deny_db_host,
        addresses=services.resolve(guards.hosts_to_resolve([one], settings.deny_db_host)),
    )


def refuse_address(
    services: WorkerServices, spec: DatabaseSpec, server: DatabaseServer, deny_hosts: Sequence[str]
) -> None:
    """Checks the addresses that the server itself reports. Raises ConfigError, DatabaseError."""
    if deny_hosts:
        addresses = services.resolve(guards.hosts_to_resolve((), deny_hosts))
        guards.refuse_address(
            spec.alias, spec.vendor, server.addresses(), spec.port, deny_hosts, addresses
        )
