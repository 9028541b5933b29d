"""`celery -A dct_celery worker`: the app, its slots and the host thread."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from billiard.process import current_process
from celery import bootsteps, signals
from celery.exceptions import WorkerShutdown
from celery.worker import state
from kombu.asynchronous import set_event_loop

from dct_celery.adapters.addresses import resolve
from dct_celery.adapters.celeryqueue.app import App, make_app
from dct_celery.adapters.celeryqueue.concurrency import accept_auto
from dct_celery.adapters.celeryqueue.consumer import RUNS, RunQueues, Runs
from dct_celery.adapters.celeryqueue.inbound import TASK
from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue, hand_on
from dct_celery.adapters.celeryqueue.watchdog import StalledConsumer
from dct_celery.adapters.clock import SystemClock
from dct_celery.adapters.databases.select import server_for
from dct_celery.adapters.local_fleet import left_alone, remove_own_folder
from dct_celery.adapters.process import PipeProcess, describe_environment, user_environment
from dct_celery.adapters.redisstore import blobs, client, ledger, registry
from dct_celery.adapters.source.tree import Trees, check_checkout
from dct_celery.bootstrap.keys import keyring_of
from dct_celery.core.address import parse
from dct_celery.core.ids import is_run_id, is_worker_name
from dct_celery.core.redact import redact
from dct_celery.errors import ConfigError, DctError, InfrastructureError
from dct_celery.ports import RUN_SECONDS, DatabasePolicy
from dct_celery.protocol.door import Door
from dct_celery.protocol.runs import RunSpec
from dct_celery.security import masking
from dct_celery.settings import Settings, load, warnings_of
from dct_celery.worker import logs
from dct_celery.worker.folders.work_folder import WorkFolder
from dct_celery.worker.host.host import Host
from dct_celery.worker.repeats import RepeatedWarnings
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.slot.slot import Slot

log = logging.getLogger("dct_celery.worker")
_slots: dict[str, Slot] = {}


def make_worker_app() -> App:
    """The Celery app of a worker, with host thread, run queues and the one task. Raises
    ConfigError.
    """
    # The Django fixup is off; the variable would still reach projects that the worker must not
    # load.
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    settings, origins = load({}, env=os.environ, cwd=Path.cwd())
    masking.mask_logging()
    keyring_of(settings)  # before anything is connected to
    _check_warm(settings, origins)
    app = make_app(settings)
    main = _MainProcess(app, settings)
    vars(app)[RUNS] = main.runs
    _add_steps(app, main, partial(_prove_servers, app, settings, origins))
    _connect_signals(main)
    _add_task(app, settings)
    accept_auto(settings.max_slots)
    return app


class _MainProcess:
    """What the worker's main process has besides Celery: the host thread and the watchdog."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self.settings = settings
        #: Of the worker, once Celery has said it.
        self.name = ""
        #: Celery's worker, once its pool has forked.
        self._worker: Any = None
        self._host: Host | None = None
        self._watchdog: StalledConsumer | None = None
        self._leaving: threading.Thread | None = None
        self._warming: subprocess.Popen[bytes] | None = None
        self.runs = Runs(
            lambda: self._host.ready() if self._host else set(),
            lambda: self._host.active() if self._host else set(),
        )

    def start(self, worker: Any) -> None:
        self._worker = worker
        self._host = _start_host(self.settings, worker, self.runs)
        self._watchdog = _start_watchdog(self._app, self.runs, worker)
        if self.settings.warm is not None:
            self._warming = _start_warming(self.settings)

    def drain(self) -> None:
        """The worker was asked to end: slots finish their chunks and take no more."""
        if self._warming is not None:
            self._warming.terminate()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._host is not None:
            self._host.drain()
        if left_alone(os.environ):
            # Nobody waits for what the slots run, and a private store does not come back.
            self._leaving = threading.Thread(target=self._leave, name="dct-leave", daemon=True)
            self._leaving.start()
        consumer = getattr(self._worker, "consumer", None)
        if consumer is not None and consumer.connection is None:
            # It waits for the broker, perhaps in a call that takes as long as its time-outs. Out of
            # a signal's handler, this ends the call.
            raise WorkerShutdown(0)

    def stop(self) -> None:
        """The slots have ended."""
        if self._leaving is not None:
            self._leaving.join()
        else:
            self._stop_host()

    def _leave(self) -> None:
        """Ends this worker's runs while its slots are in the middle of them, and then all of its
        processes.
        """
        self._stop_host()
        remove_own_folder(os.environ)
        os.killpg(0, signal.SIGKILL)

    def _stop_host(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.stop()


def _add_steps(app: App, main: _MainProcess, prove_servers: Callable[[], None]) -> None:
    """What Celery does as its worker starts, and as its consumer does."""

    class ServersStep(bootsteps.Step):
        """Before anything is started."""

        def __init__(self, parent: Any, **options: Any) -> None:
            super().__init__(parent, **options)
            prove_servers()
            # The pool forks next. What is frozen stays shared: no slot's garbage collector touches
            # it.
            gc.freeze()

    class HostStep(bootsteps.StartStopStep):
        """Starts the threads of the main process once the pool has forked."""

        requires = ("celery.worker.components:Pool",)

        def start(self, parent: Any) -> None:
            main.start(parent)

        def stop(self, parent: Any) -> None:
            """Slots still finish their chunks, and then `worker_shutdown` comes."""
            if app.broker.kind != "amqp":
                # Only RabbitMQ has to be answered meanwhile. With its loop, Celery would wait half
                # a second more for the thread that does so.
                set_event_loop(None)

    app.steps["worker"] |= {ServersStep, HostStep}
    app.steps["consumer"].add(RunQueues)


def _connect_signals(main: _MainProcess) -> None:
    def end_pool_child(exitcode: int, **_: object) -> None:
        for slot in _slots.values():
            slot.close()
        # billiard would send a last message, which nothing needs as the end is seen, and sleep for
        # a second.
        os._exit(exitcode)

    def set_up_log(logger: logging.Logger, **_: object) -> None:
        for handler in logger.handlers:
            handler.addFilter(logs.add_fields)
            handler.addFilter(RepeatedWarnings())
            if main.settings.log_format == "json":
                handler.setFormatter(logs.JsonLines(main.name))

    def note_name(sender: object = None, **_: object) -> None:
        main.name = str(sender)

    signals.celeryd_init.connect(note_name, weak=False)
    signals.after_setup_logger.connect(set_up_log, weak=False)
    signals.worker_shutting_down.connect(lambda **_: main.drain(), weak=False)
    signals.worker_shutdown.connect(lambda **_: main.stop(), weak=False)
    signals.worker_process_shutdown.connect(end_pool_child, weak=False)


def _add_task(app: App, settings: Settings) -> None:
    def run_chunk(task: Any, message: str) -> str:
        return _slot(settings, task).run(message)

    app.task(name=TASK, bind=True)(run_chunk)


def _prove_servers(app: App, settings: Settings, origins: Mapping[str, str]) -> None:
    """Ends the worker for what no retry can fix; a server that is away is waited for, as later."""

    def store() -> None:
        with contextlib.closing(client.connect(settings.store, retries=0)) as asked:
            for warning in client.check(asked, settings.store, origins["store"]).warnings:
                log.warning("%s", warning)
        log.info("connected to the store %s", redact(settings.store))

    def broker() -> None:
        queue = CeleryChunkQueue(app, f"check-{secrets.token_hex(6)}", origins["broker"])
        queue.check(declare=False)
        if queue.warning:
            log.warning("%s", queue.warning)
        log.info("connected to the broker %s", redact(settings.broker))

    if used := sorted(name for name in os.environ if name.startswith("CELERY_BROKER")):
        log.warning(
            "%s and -b are not used: workers have the broker of DCT_BROKER", ", ".join(used)
        )
    for prove in (store, broker):
        try:
            prove()
        except InfrastructureError as error:
            log.warning("%s; waiting for it", error)
        except DctError as error:
            sys.stderr.write(f"dct: error: {error}\n")
            raise SystemExit(error.exit_code) from None


def _check_warm(settings: Settings, origins: Mapping[str, str]) -> None:
    """Raises ConfigError where there is nothing to prepare for."""
    if settings.warm is None:
        return
    if not settings.checkout:
        raise ConfigError(
            f"{origins['warm']}: this worker has no checkout; set DCT_CHECKOUT to one, or warm the"
            " pool from elsewhere, with dct warm"
        )
    if not Path(settings.checkout, settings.warm).is_dir():
        raise ConfigError(
            f"{origins['warm']}: {settings.warm!r} is no folder in the checkout {settings.checkout}"
        )


def _start_warming(settings: Settings) -> subprocess.Popen[bytes]:
    """`dct warm` in a process of its own: it loads the project, which this one never does."""
    command = [sys.executable, "-P", "-m", "dct_celery.cli", "warm", "--code", "checkout"]
    environment = {name: value for name, value in os.environ.items() if name != "DCT_WARM"}
    folder = Path(str(settings.checkout), str(settings.warm))
    log.info("preparing for a run of %s: dct warm --code checkout", folder)
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=2)


def _slot(settings: Settings, task: Any) -> Slot:
    """The slot of this pool child, made at its first chunk: clients must not cross the fork."""
    name = task.request.hostname
    if name not in _slots:
        index = getattr(current_process(), "index", 0)
        _slots[name] = Slot(_worker_services(settings, name), index, partial(hand_on, task.app))
        _slots[name].start()
    return _slots[name]


def _start_host(settings: Settings, worker: Any, runs: Runs) -> Host:
    pool = worker.pool_cls.__module__
    if not pool.endswith("prefork"):
        raise SystemExit(
            f"dct: error: this worker runs the pool {pool}; slots need processes: leave -P at"
            " prefork"
        )
    try:
        services = replace(_worker_services(settings, worker.hostname), broker=lambda: runs.broker)
    except ConfigError as error:
        raise SystemExit(f"dct: error: {error}") from None
    host = Host(services, worker.concurrency, lambda: len(state.active_requests))
    for line in warnings_of(os.environ, Path.cwd()):
        log.warning(line)
    if os.environ.get("DCT_SIGNING_KEY"):
        log.warning(
            "DCT_SIGNING_KEY is in the environment of this worker, where every test that runs as"
            " the same user can read it; DCT_SIGNING_KEY_FILE keeps it out (docs/security.md)"
        )
    host.start()
    log.info("ready: %d slots for pool %s", worker.concurrency, settings.pool)
    return host


def _start_watchdog(app: App, runs: Runs, worker: Any) -> StalledConsumer:
    watchdog = StalledConsumer(app, runs, lambda: len(state.reserved_requests) < worker.concurrency)
    signals.task_received.connect(lambda **_: watchdog.heard(), weak=False)
    watchdog.start()
    return watchdog


def _worker_services(settings: Settings, name: str) -> WorkerServices:
    store = client.connect(settings.store)
    policy = DatabasePolicy(
        max_operations=settings.max_operations,
        health_check_seconds=settings.health_check_seconds,
        clones_at_once=settings.clones_at_once,
    )
    if not settings.work_dir and not is_worker_name(name):
        raise ConfigError(
            f"the worker's name {name!r} is no name of a folder; give it another with -n, or set"
            " DCT_WORK_DIR"
        )
    folder = WorkFolder(
        (Path(settings.work_dir) if settings.work_dir else cache_folder() / name).resolve()
    )
    trees = Trees(
        folder.trees,
        blobs.RedisBlobs(store),
        lambda run: is_run_id(run) and folder.run(run).path.is_dir(),
    )

    def code(spec: RunSpec) -> Path:
        if spec.code == "snapshot":
            return trees.materialise(spec.tree, spec.run)
        if not settings.checkout:
            raise ConfigError(
                "the run wants --code checkout, but this worker has none: set DCT_CHECKOUT to its"
                " folder"
            )
        return check_checkout(Path(settings.checkout), spec.tree)

    door = Door.of_pool(keyring_of(settings), settings.pool)
    environment = partial(user_environment, dict(os.environ))
    return WorkerServices(
        settings=settings,
        name=name,
        host=socket.gethostname(),
        folder=folder,
        clock=SystemClock(),
        door=door,
        registry=registry.RedisRegistry(store, settings.pool, door),
        ledger=partial(ledger.RedisLedger, store),
        code=code,
        server_for=partial(server_for, folder=folder.sqlite, policy=policy),
        start_process=PipeProcess,
        user_environment=environment,
        resolve=resolve,
        send_files=lambda run, files: blobs.RedisBlobs(store, run).put(files, RUN_SECONDS),
        own_redis=frozenset(_places(settings)),
        describe_environment=lambda: describe_environment(
            settings.worker_python or sys.executable, environment({}, {}), door.environment_key
        ),
    )


def cache_folder() -> Path:
    """Where workers of this user keep their files unless DCT_WORK_DIR is set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dct_celery"


def _places(settings: Settings) -> list[str]:
    """host:port/db of store and broker, as testproc compares them."""
    found = [parse(url) for url in (settings.store, settings.broker)]
    return [
        f"{host}:{one.port}/{one.database}"
        for one in found
        if one.kind == "redis" and one.host
        for host in (
            {"localhost", "127.0.0.1"} if one.host in ("localhost", "127.0.0.1") else {one.host}
        )
    ]
