"""Wires `dct timings`: the timings that a run with the same settings plans with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dct_celery.settings import Settings

if TYPE_CHECKING:
    from dct_celery.core.plan.timings import Sample
    from dct_celery.ports import TimingStore


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a project, and where, for people."""

    samples: dict[str, Sample]
    place: str


def kept(settings: Settings, origins: Mapping[str, str]) -> Kept:
    """All timings of the project. Raises ConfigError without a project, StoreUnavailable."""
    from dct_celery.core.plan import timings

    with _store(settings, origins) as (store, place):
        samples = timings.decode_all(store.load())
    return Kept({key: one for key, one in samples.items() if key[:2] in timings.NAMED}, place)


def add(
    settings: Settings, origins: Mapping[str, str], samples: Mapping[str, Sample], *, replace: bool
) -> tuple[int, str]:
    """Keeps the samples: those of which nothing is kept yet, with `replace` all.

    Returns how many those are, and the place. Raises as `kept`.
    """
    from dct_celery.core.plan import timings

    with _store(settings, origins) as (store, place):
        known = timings.decode_all(store.load())
        wanted = {key for key in samples if replace or key not in known}
        useful = timings.without_stale_hints({**known, **samples})
        new = {key: samples[key] for key in wanted & useful.keys()}
        store.save({key: timings.encode(sample) for key, sample in new.items()})
        return len(new), place


@contextlib.contextmanager
def _store(settings: Settings, origins: Mapping[str, str]) -> Iterator[tuple[TimingStore, str]]:
    from dct_celery.adapters.local_timings import FileTimings
    from dct_celery.adapters.redisstore import client
    from dct_celery.adapters.redisstore.blobs import RedisTimings
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.core.redact import redact
    from dct_celery.dispatcher.lifecycle import project_name
    from dct_celery.dispatcher.request import make_request, require_project
    from dct_celery.security.folders import state_folder

    require_project(settings, os.environ)
    root = find_root(Path(settings.project_dir))
    project = project_name(make_request(settings, root, os.environ, None, "0"))
    if settings.local is not None:
        yield FileTimings(state_folder(os.environ) / "timings", project), "local runs"
        return
    with contextlib.closing(client.connect(settings.store, retries=1)) as store:
        client.check(store, settings.store, origins.get("store", "store"))
        yield RedisTimings(store, project), f"runs with the store {redact(settings.store)}"
