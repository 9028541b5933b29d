"""The composition root: settings in, wired dispatcher or worker out. The only module that knows every adapter."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dct_celery.errors import ConfigError, UsageError
from dct_celery.settings import Settings, load

if TYPE_CHECKING:
    from celery import Celery

    from dct_celery.adapters.source.snapshot import Snapshot
    from dct_celery.core.model import RunReport
    from dct_celery.dispatcher.doctor import Finding
    from dct_celery.dispatcher.request import Request
    from dct_celery.dispatcher.services import DispatcherServices
    from dct_celery.dispatcher.status import RunStatus, WorkerStatus
    from dct_celery.ports import BlobStore, ChunkQueue, DatabaseServer, Ledger, Registry, WorkerInfo
    from dct_celery.wire.messages import Loaded
    from dct_celery.worker.janitor import Swept
    from dct_celery.worker.services import WorkerServices
    from dct_celery.worker.slot import Slot


# -- dispatcher ------------------------------------------------------------------------


def run_tests(settings: Settings, origins: dict[str, str]) -> int:
    """`dct run`: the exit code by I10. Raises DctError for what stops it before there is a report."""
    interrupts = _Interrupts()
    if settings.local is None:
        return _dispatch(settings, origins, interrupts)
    from dct_celery.adapters.localfleet import local_fleet

    with local_fleet(settings) as fleet:
        return _dispatch(fleet.settings, {**origins, **fleet.origins}, interrupts, fleet.trouble)


def _dispatch(
    settings: Settings, origins: dict[str, str], interrupts: _Interrupts, fleet_trouble: Callable[[], str] = str
) -> int:
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.dispatcher.dispatch import Dispatch
    from dct_celery.dispatcher.request import make_request
    from dct_celery.reports.files import check_writable

    for name in ("junit_xml", "json"):
        if path := getattr(settings, name):
            check_writable(Path(settings.project_dir, path), origins.get(name, ""))
    root = find_root(Path(settings.project_dir))
    seed = random.randint(0, 2**32 - 1) if settings.shuffle == "auto" else settings.shuffle
    hash_seed = os.environ.get("PYTHONHASHSEED") or str(random.randint(1, 2**32 - 1))
    request = make_request(settings, root, os.environ, seed, hash_seed)
    services = _dispatcher_services(settings, origins, request, interrupts)
    dispatch = Dispatch(replace(services, fleet_trouble=fleet_trouble), request)
    return dispatch.execute()


def attach_run(settings: Settings, origins: dict[str, str], run: str, given: frozenset[str]) -> int:
    """`dct attach`: the exit code by I10. `given`: settings that are not to be those of the run. Raises UsageError when there is
    nothing to adopt, StoreUnavailable."""
    from dct_celery.dispatcher.adopt import adopt
    from dct_celery.dispatcher.conduct import Conduct, Stopwatch
    from dct_celery.dispatcher.standing import StandingRun
    from dct_celery.reports.files import check_writable

    settings = replace(settings, run_id=run)
    services = _dispatcher_services(settings, origins, None, _Interrupts())
    adopted = adopt(services)
    request = adopted.head.to_request()
    settings = adopted.head.to_settings(settings, given)
    for name in ("junit_xml", "json"):
        if path := getattr(settings, name):
            check_writable(Path(settings.project_dir, path), origins.get(name, "the run's own setting"))
    services = replace(services, settings=settings, write_reports=partial(_write_reports, settings))
    services.console.explain(request.rerun)
    standing = StandingRun(
        services,
        adopted.head.spec,
        partial(_upload_again, request.root, services.blobs),
        epoch=adopted.epoch,
        incarnation=adopted.incarnation,
    )
    conduct = Conduct(services, standing, adopted.head, adopted.head.to_collected(), Stopwatch(services, services.clock()))
    try:
        return conduct.go_on(adopted.journal, whole=adopted.whole)
    finally:
        services.console.close()
        standing.leave()


def _upload_again(root: Path, store: BlobStore) -> None:
    """The code, for workers that join later; on another machine there is none, and those that have it go on."""
    if root.is_dir():
        _upload(root, store)


def _dispatcher_services(
    settings: Settings, origins: dict[str, str], request: Request | None, interrupts: _Interrupts
) -> DispatcherServices:
    from dct_celery.adapters.process import PipeProcess, user_environment
    from dct_celery.adapters.redisstore import blobs, client, ledger, registry
    from dct_celery.dispatcher.services import DispatcherServices
    from dct_celery.reports.terminal import Terminal

    run = settings.run_id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    key = settings.signing_key or ""
    store = client.connect(settings.store)
    checked = client.check(store, settings.store, origins.get("store", "store"))
    console = Terminal.detect(
        os.environ, out=sys.stdout, err=sys.stderr, verbosity=settings.verbosity, clock=time.monotonic,
        rerun=request.rerun if request is not None else lambda verdict: verdict.entry.id,
    )  # fmt: skip
    for warning in checked.warnings:
        console.warn(warning)
    return DispatcherServices(
        settings=settings,
        run=run,
        owner=secrets.token_hex(8),
        key=key,
        clock=time.monotonic,
        wall=time.time,
        sleep=time.sleep,
        registry=registry.RedisRegistry(store, settings.pool),
        ledger=ledger.RedisLedger(store, run),
        queue=_LateQueue(partial(_chunk_queue, settings, run, key, origins.get("broker", "broker"))),
        blobs=blobs.RedisBlobs(store),
        timings=partial(blobs.RedisTimings, store),
        console=console,
        state_folder=Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "dct_celery",
        environ=dict(os.environ),
        start_process=PipeProcess,
        user_environment=partial(user_environment, dict(os.environ)),
        snapshot=_upload,
        write_reports=partial(_write_reports, settings),
        interrupted=interrupts.seen,
    )


def _chunk_queue(settings: Settings, run: str, key: str, origin: str) -> ChunkQueue:
    from dct_celery.adapters.celeryqueue.app import make_app
    from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue

    return CeleryChunkQueue(make_app(settings), run, key, origin)


class _LateQueue:
    """A queue that is made when it is first used: importing Celery takes longer than announcing the run."""

    def __init__(self, make: Callable[[], ChunkQueue]) -> None:
        self._made = functools.cache(make)

    def check(self) -> None:
        self._made().check()

    def publish(self, message: Mapping[str, Any]) -> None:
        self._made().publish(message)

    def purge(self) -> None:
        self._made().purge()


def _upload(root: Path, store: BlobStore) -> tuple[Snapshot, int, int]:
    from dct_celery.adapters.source import snapshot

    taken = snapshot.take(root)
    by_digest = {file.digest: file for file in taken.files}
    missing = store.missing([*by_digest, taken.digest])
    sent = 0

    def contents() -> Any:
        nonlocal sent
        for digest in missing - {taken.digest}:
            content = snapshot.content(root, by_digest[digest])
            if snapshot.digest_of(content) != digest:
                raise ConfigError(f"{by_digest[digest].path} changed while it was read; run again when nothing writes there")
            sent += len(content)
            yield digest, content
        if taken.digest in missing:
            yield taken.digest, taken.index()

    store.put(contents())
    return taken, len(taken.files), sent


def _write_reports(settings: Settings, report: RunReport) -> None:
    from dct_celery.reports import files

    if settings.junit_xml:
        files.write_junit(Path(settings.project_dir, settings.junit_xml), report, settings.junit_family)
    if settings.json:
        files.write_json(Path(settings.project_dir, settings.json), report)


class _Interrupts:
    """SIGINT and SIGTERM: the first is a flag that the run looks at, the second ends the process at once."""

    def __init__(self) -> None:
        self._count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread: a test, or somebody's embedding
                signal.signal(number, self._handle)

    def seen(self) -> bool:
        return self._count > 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            os._exit(2)


# -- worker ----------------------------------------------------------------------------

_slots: dict[str, Slot] = {}


def make_worker_app() -> Celery:
    """The Celery app of a worker, with host thread, run queues and the one task. Raises ConfigError."""
    from celery import bootsteps, signals

    from dct_celery.adapters.celeryqueue.app import TASK, make_app
    from dct_celery.adapters.celeryqueue.consumer import RUNS, RunQueues, Runs

    # The Django fixup is off; the variable would still reach projects that the worker must not load.
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    settings, _ = load({}, env=os.environ, cwd=Path.cwd())
    app = make_app(settings)
    hosts: list[Any] = []
    runs = Runs(lambda: hosts[0].ready() if hosts else set(), lambda: hosts[0].active() if hosts else set())
    vars(app)[RUNS] = runs
    dogs: list[Any] = []

    class HostStep(bootsteps.StartStopStep):
        """Starts the threads of the main process once the pool has forked."""

        requires = ("celery.worker.components:Pool",)

        def start(self, parent: Any) -> None:
            hosts.append(_start_host(settings, parent))
            dogs.append(_start_watchdog(app, runs, parent))

        def stop(self, parent: Any) -> None:
            """Nothing: slots still finish their chunks. `worker_shutdown` comes when they are done."""

    def shutting_down(**_: Any) -> None:
        for dog in dogs:
            dog.stop()
        if hosts:
            hosts[0].drain()

    def shut_down(**_: Any) -> None:
        if hosts:
            hosts.pop().stop()

    def child_ends(**_: Any) -> None:
        for slot in _slots.values():
            slot.close()

    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
    signals.worker_process_shutdown.connect(child_ends, weak=False)
    app.steps["worker"].add(HostStep)
    app.steps["consumer"].add(RunQueues)

    def run_chunk(task: Any, message: str) -> str:
        return _slot(settings, task).run(message)

    app.task(name=TASK, bind=True)(run_chunk)
    return app


def _slot(settings: Settings, task: Any) -> Slot:
    """The slot of this pool child, made at its first chunk: clients must not cross the fork."""
    from billiard.process import current_process

    from dct_celery.adapters.celeryqueue.queue import hand_on
    from dct_celery.worker.slot import Slot

    name = task.request.hostname
    if name not in _slots:
        index = getattr(current_process(), "index", 0)
        _slots[name] = Slot(_worker_services(settings, name), index, partial(hand_on, task.app))
    return _slots[name]


def _start_host(settings: Settings, worker: Any) -> Any:
    from celery.worker import state

    from dct_celery.worker.host import Host

    pool = worker.pool_cls.__module__
    if not pool.endswith("prefork"):
        raise SystemExit(f"dct: error: this worker runs the pool {pool}; slots need processes: leave -P at prefork")
    host = Host(_worker_services(settings, worker.hostname), worker.concurrency, lambda: len(state.active_requests))
    host.start()
    return host


def _start_watchdog(app: Celery, runs: Any, worker: Any) -> Any:
    from celery import signals
    from celery.worker import state

    from dct_celery.adapters.celeryqueue.watchdog import Watchdog

    watchdog = Watchdog(app, runs, lambda: len(state.reserved_requests) < worker.concurrency)
    signals.task_received.connect(lambda **_: watchdog.heard(), weak=False)
    watchdog.start()
    return watchdog


def _worker_services(settings: Settings, name: str) -> WorkerServices:
    from dct_celery.adapters.databases.base import server_for
    from dct_celery.adapters.process import PipeProcess, user_environment
    from dct_celery.adapters.redisstore import blobs, client, ledger, registry
    from dct_celery.adapters.source.tree import Trees, check_checkout
    from dct_celery.ports import DatabasePolicy
    from dct_celery.worker.layout import WorkFolder
    from dct_celery.worker.services import WorkerServices

    store = client.connect(settings.store)
    policy = DatabasePolicy(
        max_operations=settings.max_operations,
        health_check_seconds=settings.health_check_seconds,
        clones_at_once=settings.clones_at_once,
    )
    base = Path(settings.work_dir) if settings.work_dir else _cache_folder() / name
    trees = Trees(base / "trees", blobs.RedisBlobs(store))

    def code(spec: Mapping[str, Any]) -> Path:
        if spec["code"] == "snapshot":
            return trees.materialise(spec["tree"])
        if not settings.checkout:
            raise ConfigError("the run wants --code checkout, but this worker has none: set DCT_CHECKOUT to its folder")
        return check_checkout(Path(settings.checkout), spec["tree"])

    folder = WorkFolder(base.resolve())
    return WorkerServices(
        settings=settings,
        name=name,
        host=socket.gethostname(),
        folder=folder,
        key=settings.signing_key or "",
        registry=registry.RedisRegistry(store, settings.pool),
        ledger=partial(ledger.RedisLedger, store),
        code=code,
        server_for=partial(server_for, folder=folder.sqlite, policy=policy),
        start_process=PipeProcess,
        user_environment=partial(user_environment, dict(os.environ)),
        own_redis=frozenset(_places(settings)),
    )


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dct_celery"


def _places(settings: Settings) -> list[str]:
    """host:port/db of store and broker, in the words of testproc.environment."""
    places = []
    for url in (settings.store, settings.broker):
        parts = urlsplit(url)
        if parts.scheme in ("redis", "rediss"):
            places.append(f"{parts.hostname or 'localhost'}:{parts.port or 6379}/{parts.path.strip('/') or '0'}")
    return places


# -- by hand ---------------------------------------------------------------------------


def collect_garbage(
    settings: Settings, origins: dict[str, str], *, dry_run: bool, wait: Callable[[int, int], object]
) -> list[Swept]:
    """`dct gc`: one entry per database server of the project, and per folder of SQLite files of a worker of this machine.

    `wait(databases, seconds)` sleeps. Raises CollectionError when the project cannot be loaded.
    """
    from dct_celery.worker.janitor import sweep

    with contextlib.ExitStack() as stack:
        project = [server for _, server in _servers(_load_project(settings)) if server.vendor != "sqlite"]
        servers = [stack.enter_context(contextlib.closing(server)) for server in (*project, *_sqlite_folders(settings))]
        return sweep(servers, dry_run=dry_run, budget=(settings.templates_kept, settings.templates_megabytes), wait=wait)


def examine(settings: Settings, origins: dict[str, str], *, measure: bool) -> Iterator[Finding]:
    """`dct doctor`: findings as they are made; what cannot be found out is a finding itself."""
    from dct_celery.dispatcher import checkup, doctor

    infos: list[WorkerInfo] = []
    there = False
    if settings.local is None:
        for finding in doctor.attempt("store", partial(_examine_store, settings, origins, infos)):
            there = finding.level != "failed"
            yield finding
        if there or settings.broker != settings.store:
            yield from doctor.attempt("broker", partial(_examine_broker, settings, origins))
        yield from checkup.signing_key(settings, infos)
    loaded: list[Loaded] = []
    yield from doctor.attempt("settings", partial(_examine_project, settings, loaded))
    if there:
        yield from checkup.workers(infos, settings.pool, loaded[0].facts if loaded else None)
    slots = sum(info.slots for info in infos) if settings.local is None else settings.local or len(os.sched_getaffinity(0))
    for one in loaded:
        yield from doctor.attempt("databases", partial(_examine_databases, one, slots, len(infos), measure))
    yield from _examine_machine(loaded)


def _examine_store(settings: Settings, origins: dict[str, str], infos: list[WorkerInfo]) -> Iterator[Finding]:
    from dct_celery.adapters.redisstore import client, registry
    from dct_celery.core.redact import redact
    from dct_celery.dispatcher import checkup

    origin = origins.get("store", "store")
    with contextlib.closing(client.connect(settings.store, retries=1)) as store:
        checked = client.check(store, settings.store, origin)
        yield from checkup.store(redact(settings.store), checked.info, checked.warnings)
        asked = registry.RedisRegistry(store, settings.pool, tends=False)
        infos += asked.workers()

        def look_again() -> list[WorkerInfo]:
            time.sleep(checkup.BEAT)
            return asked.workers()

        yield checkup.clocks(time.time(), client.now(store), infos, look_again)


def _examine_broker(settings: Settings, origins: dict[str, str]) -> Iterator[Finding]:
    from dct_celery.adapters.celeryqueue.app import make_app
    from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue
    from dct_celery.core.redact import redact
    from dct_celery.dispatcher import checkup

    token = secrets.token_hex(6)
    queue = CeleryChunkQueue(make_app(settings), f"doctor-{token}", "", origins.get("broker", "broker"))
    try:
        queue.check()
        start = time.monotonic()
        version = queue.round_trip(token, 5.0)
        seconds = time.monotonic() - start
    finally:
        queue.purge()
    yield checkup.broker(redact(settings.broker), version, seconds, same=settings.broker == settings.store)


def _examine_machine(loaded: list[Loaded]) -> Iterator[Finding]:
    import resource

    from dct_celery.dispatcher import checkup

    rows = [row for one in loaded for row in one.databases if row["vendor"] == "postgresql"]
    ours = any(row.get("host", "") in ("", "localhost", "127.0.0.1", "::1") or row["host"].startswith("/") for row in rows)
    shared = None
    if ours and os.path.isdir("/dev/shm"):
        stat = os.statvfs("/dev/shm")
        shared = stat.f_frsize * stat.f_blocks
    yield from checkup.machine(resource.getrlimit(resource.RLIMIT_NOFILE)[0], shared)


def _examine_project(settings: Settings, loaded: list[Loaded]) -> Iterator[Finding]:
    from dct_celery.dispatcher import doctor

    loaded.append(_load_project(settings))
    yield from doctor.project(loaded[0], settings)


def _examine_databases(loaded: Loaded, slots: int, workers: int, measure: bool) -> Iterator[Finding]:
    from dct_celery.dispatcher import doctor

    for aliases, server in _servers(loaded):
        with contextlib.closing(server):
            look = partial(
                doctor.database, aliases, server, slots=slots, workers=workers, measure=measure,
                clock=time.monotonic, owner=secrets.token_hex(8),
            )  # fmt: skip
            yield from doctor.attempt(f"database {aliases}", look)


def _load_project(settings: Settings) -> Loaded:
    from dct_celery.adapters.process import PipeProcess, user_environment
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.dispatcher.project import load_project
    from dct_celery.dispatcher.request import make_request

    request = make_request(settings, find_root(Path(settings.project_dir)), os.environ, None, "0")
    environment = user_environment(dict(os.environ), {}, {"PYTHONHASHSEED": request.hash_seed})
    return load_project(request, settings.python or sys.executable, PipeProcess, environment)


def _servers(loaded: Loaded) -> Iterator[tuple[str, DatabaseServer]]:
    """One per server of the project, with the aliases that live there. Raises DatabaseError."""
    from dct_celery.adapters.databases.base import server_for
    from dct_celery.ports import DatabaseSpec

    specs: dict[tuple[str, ...], list[DatabaseSpec]] = {}
    for spec in map(DatabaseSpec.from_dict, loaded.databases):
        specs.setdefault((spec.vendor, spec.host, spec.port, spec.user), []).append(spec)
    for group in specs.values():
        yield ", ".join(spec.alias for spec in group), server_for(group[0], _cache_folder())


def _sqlite_folders(settings: Settings) -> Iterator[DatabaseServer]:
    """Of the workers that this machine has had: their SQLite databases are theirs alone."""
    from dct_celery.adapters.databases.sqlite import SqliteFolder
    from dct_celery.worker.layout import WorkFolder

    bases = [Path(settings.work_dir)] if settings.work_dir else sorted(_cache_folder().glob("*"))
    for base in bases:
        if (folder := WorkFolder(base).sqlite).is_dir():
            yield SqliteFolder(folder)


# -- looking at the store ----------------------------------------------------------------


def look_at_workers(settings: Settings, origins: dict[str, str]) -> list[WorkerStatus]:
    """`dct workers`: everybody in the pool. Raises StoreUnavailable."""
    from dct_celery.dispatcher import status

    with _asked_store(settings, origins) as asked:
        workers = asked.registry.workers()
        return status.pool_workers(workers, _active(settings, asked, workers), settings.signing_key or "")


def look_at_runs(settings: Settings, origins: dict[str, str], run: str | None) -> list[RunStatus]:
    """`dct status`: that one run, else the active ones. Raises UsageError for an unknown run, StoreUnavailable."""
    with _asked_store(settings, origins) as asked:
        workers = asked.registry.workers()
        return _active(settings, asked, workers) if run is None else [_inspected(settings, asked, workers, run)]


def cancel_run(settings: Settings, origins: dict[str, str], run: str, reason: str) -> None:
    """`dct cancel`. Raises UsageError when there is nothing to cancel, StoreUnavailable."""
    from dct_celery.dispatcher import status

    with _asked_store(settings, origins) as asked:
        status.cancel(run, asked.ledger(run), reason, active=list(asked.registry.active_runs()), pool=settings.pool)


@dataclass(frozen=True, slots=True)
class _Asked:
    registry: Registry
    ledger: Callable[[str], Ledger]


@contextlib.contextmanager
def _asked_store(settings: Settings, origins: dict[str, str]) -> Iterator[_Asked]:
    from dct_celery.adapters.redisstore import client, ledger, registry

    with contextlib.closing(client.connect(settings.store, retries=1)) as store:
        client.check(store, settings.store, origins.get("store", "store"))
        yield _Asked(registry.RedisRegistry(store, settings.pool, tends=False), partial(ledger.RedisLedger, store))


def _active(settings: Settings, asked: _Asked, workers: list[WorkerInfo]) -> list[RunStatus]:
    found = []
    for run in asked.registry.active_runs():
        with contextlib.suppress(UsageError):  # it ended since
            found.append(_inspected(settings, asked, workers, run))
    return found


def _inspected(settings: Settings, asked: _Asked, workers: list[WorkerInfo], run: str) -> RunStatus:
    from dct_celery.dispatcher import status

    active, key = list(asked.registry.active_runs()), settings.signing_key or ""
    return status.inspect(run, asked.ledger(run), workers=workers, active=active, pool=settings.pool, key=key)
