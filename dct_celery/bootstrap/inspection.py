"""Wires the commands that only query the store: `dct workers`, `dct status`, `dct cancel`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dct_celery.errors import DctError, UsageError
from dct_celery.settings import Settings

if TYPE_CHECKING:
    from dct_celery.inspect.status import RunStatus, RunWatch, WorkerStatus
    from dct_celery.ports import Ledger, Registry, WorkerInfo


def status_of_workers(settings: Settings, origins: dict[str, str]) -> list[WorkerStatus]:
    """`dct workers`: all workers of the pool. Raises StoreUnavailable."""
    from dct_celery.bootstrap.keys import keyring_of
    from dct_celery.inspect import status

    with _asked_store(settings, origins) as asked:
        workers = asked.registry.workers()
        keyring = keyring_of(settings, required=False)
        return status.pool_workers(
            workers, _active(settings, asked, workers, {}), keyring, _broker(settings)
        )


def status_of_runs(settings: Settings, origins: dict[str, str], run: str | None) -> list[RunStatus]:
    """`dct status`: that one run, else the active ones. Raises UsageError for an unknown run,
    StoreUnavailable.
    """
    return next(watch_runs(settings, origins, run))


def watch_runs(
    settings: Settings, origins: dict[str, str], run: str | None
) -> Iterator[list[RunStatus]]:
    """`dct status --watch`: the same with each `next`, for which only what is new is read."""
    with _asked_store(settings, origins) as asked:
        watches: dict[str, RunWatch] = {}
        while True:
            workers = asked.registry.workers()
            if run is None:
                yield _active(settings, asked, workers, watches)
            else:
                yield [_inspected(settings, asked, workers, run, watches)]


def cancel_run(settings: Settings, origins: dict[str, str], run: str, reason: str) -> None:
    """`dct cancel`. Raises UsageError when there is nothing to cancel, StoreUnavailable."""
    from dct_celery.bootstrap.keys import keyring_of
    from dct_celery.inspect import status

    keyring_of(settings)  # an unsigned order to stop would be ignored
    with _asked_store(settings, origins) as asked:
        status.cancel(
            run,
            asked.ledger(run),
            reason,
            active=list(asked.registry.active_runs()),
            pool=settings.pool,
        )


def _broker(settings: Settings) -> str:
    """The broker's identity; empty if it cannot be reached, which must not fail `dct workers`."""
    from dct_celery.adapters.celeryqueue.app import make_app
    from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue

    queue = CeleryChunkQueue(make_app(settings), "", "")
    with contextlib.closing(queue), contextlib.suppress(DctError):
        return queue.identity()
    return ""


@dataclass(frozen=True, slots=True)
class _Asked:
    registry: Registry
    ledger: Callable[[str], Ledger]


@contextlib.contextmanager
def _asked_store(settings: Settings, origins: dict[str, str]) -> Iterator[_Asked]:
    from dct_celery.adapters.redisstore import client, ledger, registry
    from dct_celery.bootstrap.keys import keyring_of
    from dct_celery.protocol.door import Door

    with contextlib.closing(client.connect(settings.store, retries=1)) as store:
        client.check(store, settings.store, origins.get("store", "store"))
        door = Door.of_pool(keyring_of(settings, required=False), settings.pool)

        def ledger_of(run: str) -> Ledger:
            return ledger.RedisLedger(store, run, door.of_run(run, *ledger.stored_run(store, run)))

        yield _Asked(registry.RedisRegistry(store, settings.pool, door, tends=False), ledger_of)


def _active(
    settings: Settings, asked: _Asked, workers: list[WorkerInfo], watches: dict[str, RunWatch]
) -> list[RunStatus]:
    found = []
    for run in asked.registry.active_runs():
        with contextlib.suppress(UsageError):  # it ended since
            found.append(_inspected(settings, asked, workers, run, watches))
    return found


def _inspected(
    settings: Settings,
    asked: _Asked,
    workers: list[WorkerInfo],
    run: str,
    watches: dict[str, RunWatch],
) -> RunStatus:
    """`watches`: those of runs that were polled before; that of this run is added."""
    from dct_celery.inspect.status import RunWatch

    if run not in watches:
        watches[run] = RunWatch(run, asked.ledger(run))
    active = list(asked.registry.active_runs())
    return watches[run].look(workers=workers, active=active, pool=settings.pool)
