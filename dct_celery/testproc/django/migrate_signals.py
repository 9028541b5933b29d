"""What migrating leaves in the memory of its process: who listens, and what Django itself leaves.

The process of a sequential run creates its databases, so receivers of pre_migrate and post_migrate
have run in it; here templates are built in another process, maybe on another day. A project with
receivers of its own has `migrate` run again in its loader, on clones of the templates, where it
finds everything done (`databases.migrate_again`), and in each flush in the test process itself.
Receivers can be run twice: every deployment runs them.

Django's own receivers only write rows, but for the cache of content types.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Any


def own_receivers() -> list[str]:
    """Names of those that are not Django's, as "module.function"."""
    from django.db.models import signals

    names = {
        _name(receiver)
        for signal in (signals.pre_migrate, signals.post_migrate)
        for receiver in receivers_of(signal)
    }
    return sorted(name for name in names if not name.startswith("django."))


def receivers_of(signal: Any, *, every: bool = True) -> Iterator[Any]:
    """The receivers that still exist; without `every`, those of all senders."""
    from django.dispatch.dispatcher import NONE_ID

    for (_, sender), reference, *_ in signal.receivers:
        receiver = reference() if isinstance(reference, weakref.ReferenceType) else reference
        if receiver is not None and (every or sender == NONE_ID):
            yield receiver


def _name(receiver: Any) -> str:
    while isinstance(receiver, functools.partial):
        receiver = receiver.func
    owner = receiver if hasattr(receiver, "__qualname__") else type(receiver)
    return f"{owner.__module__}.{owner.__qualname__}"


def as_after_flush(aliases: Iterable[str]) -> None:
    """Leaves in memory what a flush of these databases does, where only Django listens.

    At the end of a flush, Django's receivers run for one app after the other, and each empties the
    cache of content types before it fills it: the last one's stay.
    """
    from django.apps import apps
    from django.db.models import signals

    configs = [config for config in apps.get_app_configs() if config.models_module is not None]
    if not configs or not apps.is_installed("django.contrib.contenttypes"):
        return
    for alias in aliases:
        signals.post_migrate.send(
            sender=configs[-1],
            app_config=configs[-1],
            verbosity=0,
            interactive=False,
            using=alias,
        )


def forget_types() -> None:
    """Empties the caches of type OIDs: before this, they may be of the configured database.

    Migrations that create hstore or citext empty them as well.
    """
    known: Any = sys.modules.get("django.contrib.postgres.signals")
    if known is not None:
        known.get_hstore_oids.cache_clear()
        known.get_citext_oids.cache_clear()
