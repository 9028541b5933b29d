"""What worker and slots are given by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dct_celery.ports import Clock, DatabaseServer, DatabaseSpec, Ledger, Registry, UserProcess
from dct_celery.protocol.door import Door
from dct_celery.protocol.runs import RunSpec
from dct_celery.settings import Settings
from dct_celery.wire import messages
from dct_celery.worker.folders.work_folder import WorkFolder


@dataclass(frozen=True, slots=True)
class WorkerServices:
    """One per process: its clients must not be used across a fork."""

    settings: Settings
    #: Name of the worker, e.g. build-a@host.
    name: str
    host: str
    folder: WorkFolder
    clock: Clock
    #: The pool's: verifies and signs with its keys.
    door: Door
    registry: Registry
    #: (run, its door) -> ledger
    ledger: Callable[[str, Door], Ledger]
    #: run specification -> root of the tree that it names. Raises InfrastructureError, ConfigError.
    code: Callable[[RunSpec], Path]
    server_for: Callable[[DatabaseSpec], DatabaseServer]
    #: (interpreter, load, environment, log) -> loader
    start_process: Callable[[str, messages.Load, Mapping[str, str], IO[bytes]], UserProcess]
    #: (forwarded, own) -> environment of the user's process
    user_environment: Callable[[Mapping[str, str], Mapping[str, str]], dict[str, str]]
    #: Host names -> their addresses, as this machine sees them.
    resolve: Callable[[Iterable[str]], Mapping[str, Collection[str]]]
    #: Puts (digest, content) of files into the store, where the dispatcher of this run fetches
    #: them; "" for what is of no run.
    send_files: Callable[[str, Iterable[tuple[str, bytes]]], None]
    #: host:port/db of the store and of the broker.
    own_redis: frozenset[str] = frozenset()
    #: See `WorkerInfo.broker`.
    broker: Callable[[], str] = str
    #: The environment that tests get here, see `worker.host.machine_environment`.
    describe_environment: Callable[[], bytes] = bytes
