"""Wires `dct gc` and `dct doctor`."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dct_celery.bootstrap.worker import cache_folder
from dct_celery.core.projects import RECOGNISED
from dct_celery.machine import room
from dct_celery.security import masking
from dct_celery.settings import Settings, warnings_of

if TYPE_CHECKING:
    from dct_celery.core.environment import Difference
    from dct_celery.inspect.doctor_databases import Finding
    from dct_celery.ports import BlobStore, DatabaseServer, DatabaseSpec, WorkerInfo
    from dct_celery.protocol.workers import MachineEnvironment
    from dct_celery.wire.messages import Loaded
    from dct_celery.worker.databases.garbage_collector import Swept


def collect_garbage(
    settings: Settings,
    origins: dict[str, str],
    *,
    dry_run: bool,
    wait: Callable[[int, int], object],
) -> list[Swept]:
    """`dct gc`: one entry per database server of the project, and per folder of SQLite files of a
    worker of this machine.

    `wait(databases, seconds)` sleeps. Raises CollectionError when the project cannot be loaded,
    ConfigError for what a guard refuses: then nothing was connected to.
    """
    from dct_celery.bootstrap import guarding
    from dct_celery.errors import DatabaseError
    from dct_celery.worker.databases.garbage_collector import Swept, sweep

    loaded = _load_project(settings)
    _guard(loaded, settings)
    away: list[Swept] = []
    with contextlib.ExitStack() as stack:
        servers = []
        for spec, _, server in _servers(loaded):
            if server.vendor == "sqlite":
                continue
            servers.append(stack.enter_context(contextlib.closing(server)))
            try:
                guarding.refuse_address(spec, server, settings)
            except DatabaseError as error:
                servers.pop()
                away.append(Swept(f"{server.vendor} at {server.where}", (), str(error)))
        servers += [
            stack.enter_context(contextlib.closing(server)) for server in _sqlite_folders(settings)
        ]
        budget = (settings.templates_kept, settings.templates_megabytes)
        return away + sweep(servers, dry_run=dry_run, budget=budget, wait=wait)


def examine(settings: Settings, origins: dict[str, str], *, measure: bool) -> Iterator[Finding]:
    """`dct doctor`: findings as they are made; a check that cannot be made is a finding, too."""
    from dct_celery.inspect import doctor_databases, doctor_services

    infos: list[WorkerInfo] = []
    environments: dict[str, MachineEnvironment] = {}
    there = False
    if settings.local is None:
        for finding in doctor_databases.attempt(
            "store", partial(_examine_store, settings, origins, infos, environments)
        ):
            there = finding.level != "failed"
            yield finding
        if there or settings.broker != settings.store:
            yield from doctor_databases.attempt(
                "broker", partial(_examine_broker, settings, origins, infos)
            )
        yield from doctor_services.signing_key(settings, infos)
        for line in warnings_of(os.environ, Path.cwd()):
            text, _, fix = line.rpartition("; ")
            yield doctor_databases.Finding(
                "warning",
                "signing key" if "KEY" in line.partition(":")[0] else "settings",
                text,
                fix,
            )
    if origins.get("backend", "").startswith(RECOGNISED):
        text = f"{settings.backend}, {origins['backend']}"
        yield doctor_databases.Finding("ok", "backend", text)
    loaded: list[Loaded] = []
    refused = False
    for finding in doctor_databases.attempt(
        "settings", partial(_examine_project, settings, loaded)
    ):
        refused = refused or (finding.what, finding.level) == ("guards", "failed")
        yield finding
    if there:
        compared = (
            (loaded[0].facts, partial(_differences, settings, environments, loaded[0]))
            if loaded
            else ()
        )
        yield from doctor_services.workers(infos, settings.pool, *compared)
    slots = (
        sum(info.slots for info in infos)
        if settings.local is None
        else settings.local or room().count
    )
    if refused:
        yield doctor_databases.Finding(
            "warning", "databases", "not looked at, nothing was connected to: a guard refuses"
        )
    for one in loaded if not refused else ():
        yield from doctor_databases.attempt(
            "databases", partial(_examine_databases, one, settings, slots, len(infos), measure)
        )
    yield from _examine_machine(loaded)


def _differences(
    settings: Settings,
    environments: Mapping[str, MachineEnvironment],
    loaded: Loaded,
    info: WorkerInfo,
) -> list[Difference] | None:
    """What a run would refuse the worker for; None where that is not known."""
    from dct_celery.bootstrap.keys import keyring_of
    from dct_celery.core.environment import Ignored, differences, of_machine
    from dct_celery.dispatcher.request import forwarded
    from dct_celery.protocol.door import Door

    theirs = environments.get(info.about.get("environment", ""))
    if theirs is None:
        return None
    door = Door.of_pool(keyring_of(settings, required=False), settings.pool)
    # Under another key, hashes of variables say nothing.
    same_key = info.key_id == door.keyring.ids[0]
    ignored = Ignored(settings.ignore_package, settings.ignore_env if same_key else ("*",))
    passed_on = forwarded(os.environ, settings.env)
    there = loaded.environment
    here = of_machine(there, theirs.facts, theirs.variables, door.environment_key, passed_on)
    return differences(there, here, ignored)


def _examine_store(
    settings: Settings,
    origins: dict[str, str],
    infos: list[WorkerInfo],
    environments: dict[str, MachineEnvironment],
) -> Iterator[Finding]:
    from dct_celery.adapters.redisstore import client, registry
    from dct_celery.adapters.redisstore.blobs import RedisBlobs
    from dct_celery.bootstrap.keys import keyring_of
    from dct_celery.core.redact import redact
    from dct_celery.inspect import doctor_services
    from dct_celery.protocol.door import Door

    origin = origins.get("store", "store")
    with contextlib.closing(client.connect(settings.store, retries=1)) as store:
        checked = client.check(store, settings.store, origin)
        yield from doctor_services.store(redact(settings.store), checked.info, checked.warnings)
        door = Door.of_pool(keyring_of(settings, required=False), settings.pool)
        asked = registry.RedisRegistry(store, settings.pool, door, tends=False)
        infos += asked.workers()
        environments.update(_environments(RedisBlobs(store), infos))

        def ask_again() -> list[WorkerInfo]:
            time.sleep(doctor_services.BEAT)
            return asked.workers()

        yield doctor_services.clocks(time.time(), client.now(store), infos, ask_again)


def _environments(
    blobs: BlobStore, infos: Iterable[WorkerInfo]
) -> Iterator[tuple[str, MachineEnvironment]]:
    """By digest, those of the workers that the store has."""
    from dct_celery.core.ids import is_digest
    from dct_celery.errors import Untrusted
    from dct_celery.protocol.door import parse
    from dct_celery.protocol.workers import MAX_ENVIRONMENT, MachineEnvironment

    named = {info.about.get("environment", "") for info in infos if not info.foreign}
    sizes = dict.fromkeys(filter(is_digest, named), MAX_ENVIRONMENT)
    for digest, content in blobs.get(sizes).items():
        with contextlib.suppress(Untrusted):
            yield digest, parse(MachineEnvironment, content)


def _examine_broker(
    settings: Settings, origins: dict[str, str], infos: list[WorkerInfo]
) -> Iterator[Finding]:
    from dct_celery.adapters.celeryqueue.app import make_app
    from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue
    from dct_celery.core.redact import redact
    from dct_celery.inspect import doctor_databases, doctor_services

    token = secrets.token_hex(6)
    queue = CeleryChunkQueue(make_app(settings), f"doctor-{token}", origins.get("broker", "broker"))
    try:
        queue.check()
        start = time.monotonic()
        version = queue.round_trip(token, 5.0)
        seconds = time.monotonic() - start
        identity = queue.identity()
    finally:
        queue.purge()
    yield doctor_services.broker(
        redact(settings.broker), version, seconds, same=settings.broker == settings.store
    )
    if warning := queue.warning:
        yield doctor_databases.Finding(
            "warning",
            "broker",
            warning,
            "name its CA with ssl_ca_certs, and leave that parameter out",
        )
    yield from doctor_services.same_broker(identity, infos)


def _examine_machine(loaded: list[Loaded]) -> Iterator[Finding]:
    import resource

    from dct_celery.inspect import doctor_services

    rows = [row for one in loaded for row in one.databases if row["vendor"] == "postgresql"]
    ours = any(
        row.get("host", "") in ("", "localhost", "127.0.0.1", "::1") or row["host"].startswith("/")
        for row in rows
    )
    shared = None
    if ours and os.path.isdir("/dev/shm"):
        stat = os.statvfs("/dev/shm")
        shared = stat.f_frsize * stat.f_blocks
    yield from doctor_services.machine(resource.getrlimit(resource.RLIMIT_NOFILE)[0], shared)


def _examine_project(settings: Settings, loaded: list[Loaded]) -> Iterator[Finding]:
    from dct_celery.adapters.addresses import resolve
    from dct_celery.inspect import doctor_databases

    loaded.append(_load_project(settings))
    yield from doctor_databases.project(loaded[0], settings, resolve)


def _examine_databases(
    loaded: Loaded, settings: Settings, slots: int, workers: int, measure: bool
) -> Iterator[Finding]:
    from dct_celery.bootstrap import guarding
    from dct_celery.errors import DctError
    from dct_celery.inspect import doctor_databases

    for spec, aliases, server in _servers(loaded):
        with contextlib.closing(server):
            try:
                guarding.refuse_address(spec, server, settings)
            except DctError as error:
                yield doctor_databases.blamed(f"database {aliases}", error)
                continue
            findings = partial(
                doctor_databases.database,
                aliases,
                server,
                slots=slots,
                workers=workers,
                measure=measure,
                clock=time.monotonic,
                owner=secrets.token_hex(8),
            )
            yield from doctor_databases.attempt(f"database {aliases}", findings)


def _load_project(settings: Settings) -> Loaded:
    from dct_celery.adapters.process import PipeProcess, user_environment
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.bootstrap.keys import keyring_of
    from dct_celery.dispatcher.request import make_request
    from dct_celery.inspect.load_project import load_project
    from dct_celery.protocol.door import Door

    request = make_request(settings, find_root(Path(settings.project_dir)), os.environ, None, "0")
    own = {"PYTHONHASHSEED": request.hash_seed}
    environment = user_environment(dict(os.environ), request.environment, own)
    door = Door.of_pool(keyring_of(settings, required=False), settings.pool)
    loaded = load_project(
        request,
        settings.python or sys.executable,
        PipeProcess,
        environment,
        door.environment_key,
    )
    masking.PROCESS.learn(masking.secrets_of_databases(loaded.databases))
    return loaded


def _guard(loaded: Loaded, settings: Settings) -> None:
    """Raises GuardRefused, before anything is connected to."""
    from dct_celery.bootstrap import guarding
    from dct_celery.security import guards

    configured = [guards.Configured.from_dict(row) for row in loaded.configured]
    guarding.check(configured, loaded.facts, settings)


def _servers(loaded: Loaded) -> Iterator[tuple[DatabaseSpec, str, DatabaseServer]]:
    """One per server of the project, with how to reach it and the aliases that live there. Raises
    DatabaseError.
    """
    from dct_celery.adapters.databases.select import server_for
    from dct_celery.ports import DatabaseSpec

    specs: dict[tuple[str, ...], list[DatabaseSpec]] = {}
    for spec in map(DatabaseSpec.from_dict, loaded.databases):
        specs.setdefault((spec.vendor, spec.host, spec.port, spec.user), []).append(spec)
    for group in specs.values():
        yield (
            group[0],
            ", ".join(spec.alias for spec in group),
            server_for(group[0], cache_folder()),
        )


def _sqlite_folders(settings: Settings) -> Iterator[DatabaseServer]:
    """The SQLite folders of the workers that have run on this machine; each has its own."""
    from dct_celery.adapters.databases.sqlite.server import SqliteFolder
    from dct_celery.worker.folders.work_folder import WorkFolder

    bases = [Path(settings.work_dir)] if settings.work_dir else sorted(cache_folder().glob("*"))
    for base in bases:
        if (folder := WorkFolder(base).sqlite).is_dir():
            yield SqliteFolder(folder)
