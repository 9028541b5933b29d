"""The scene of all rounds.

Servers, three workers with one slot each (one on a host of its own), and the dispatcher.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

from dct_celery.adapters.databases.select import server_for
from dct_celery.adapters.redisstore import keys
from dct_celery.core.databases.garbage import KEPT
from dct_celery.core.databases.names import queue_name
from dct_celery.errors import Untrusted
from dct_celery.security.signing import body_of
from tests.benchmarks.hosts import Host, network
from tests.chaos import processes, suite
from tests.chaos.rabbit import RabbitServer
from tests.chaos.servers import Database, RedisServer
from tests.support.fleet import MARK, Fleet, command_of, marked

NAMES = ("build-a", "build-b", "build-c")
#: The worker with a network of its own.
REMOTE = 2
VENDORS = ("postgresql", "mysql")
#: Seconds for a worker to register.
PATIENCE = 60.0
#: Seconds for a worker to leave.
_LEAVE = 15.0


@dataclass(slots=True)
class Worker:
    """One worker over all its lives; `process` is the present one."""

    name: str
    folder: Path
    host: Host | None
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"


@dataclass(frozen=True, slots=True)
class Leased:
    """A chunk as the store has it. `state`: queued, leased and so on."""

    chunk: str
    state: str
    worker: str
    indices: frozenset[int]


@dataclass(slots=True)
class Scene:
    """Everything that faults strike. Made by `scene`."""

    base: Path
    lease: float
    store: RedisServer
    broker: RedisServer
    databases: dict[str, Database]
    project: Path
    fleet: Fleet
    workers: list[Worker]
    #: The network of the dispatchers, where they have one of their own.
    dispatcher_host: Host | None = None
    #: Started when a round wants it; the broker of the present round is redis | rabbitmq.
    rabbit: RabbitServer | None = None
    broker_name: str = "redis"
    #: The tests are run by django | pytest.
    backend: str = "django"
    #: The dispatcher of the present round: `dct run`, or the `dct attach` that took its place.
    dispatcher: subprocess.Popen[bytes] | None = None
    #: Another dispatcher will take the place of a killed one.
    attaching: bool = False
    run: str = ""
    vendor: str = "postgresql"
    _options: list[str] = field(default_factory=list)
    #: Queues of runs that RabbitMQ had when it was last asked.
    _queues: set[str] = field(default_factory=set)

    # -- the broker --------------------------------------------------------------------

    def use(self, broker: str) -> None:
        """The broker of all rounds from now on.

        RuntimeError when a worker does not come up with it.
        """
        if broker == self.broker_name:
            return
        self.dismiss()
        self.broker_name = broker
        if broker == "rabbitmq" and self.rabbit is None:
            self.rabbit = RabbitServer.start(self.base / "rabbitmq", bind=self.broker.host)
        self.start_workers()

    @property
    def broker_url(self) -> str:
        return (
            self.rabbit.url if self.rabbit and self.broker_name == "rabbitmq" else self.broker.url
        )

    @property
    def broker_port(self) -> int:
        return (
            self.rabbit.port if self.rabbit and self.broker_name == "rabbitmq" else self.broker.port
        )

    # -- workers -----------------------------------------------------------------------

    def start_worker(self, worker: Worker) -> None:
        """Starts its next life; returns at once."""
        worker.folder.mkdir(exist_ok=True)
        argv = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "dct_celery",
            "worker",
            "-n",
            f"{worker.name}@%h",
            "-c",
            "1",
            "-l",
            "INFO",
        ]
        own = {"DCT_WORK_DIR": str(worker.folder / "work"), "DCT_LEASE_SECONDS": f"{self.lease:g}"}
        worker.lives += 1
        with worker.log.open("ab") as log:
            worker.process = subprocess.Popen(
                worker.host.command(argv) if worker.host else argv,
                env=self.environment(own), cwd=worker.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def start_workers(self) -> None:
        """All at once. RuntimeError when one does not come up."""
        for worker in self.workers:
            self.start_worker(worker)
        if absent := self.await_workers():
            raise RuntimeError(
                f"{absent}\n" + "\n".join(worker.log.read_text()[-2000:] for worker in self.workers)
            )

    def dismiss(self) -> None:
        """Lets the workers leave, and ends by force who does not."""
        processes.send([worker.pid for worker in self.workers if worker.alive], signal.SIGTERM)
        deadline = time.monotonic() + _LEAVE
        while any(worker.alive for worker in self.workers) and time.monotonic() < deadline:
            time.sleep(0.1)
        for worker in self.workers:
            if worker.process is not None and worker.alive:
                power_off(worker.pid)
                worker.process.wait()

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        return self.fleet.environment({"DCT_BROKER": self.broker_url, **more})

    def absent(self) -> list[str]:
        """Workers that do not run or that the pool does not know, and why."""
        with contextlib.suppress(Exception):
            known = {
                info.name.partition("@")[0]: info.backing_off
                for info in self.fleet.registry.workers()
            }
            dead = [f"{worker.name} has ended" for worker in self.workers if not worker.alive]
            lost = [
                f"{worker.name} is not registered"
                for worker in self.workers
                if worker.alive and worker.name not in known
            ]
            return dead + lost + [f"{name}: {reason}" for name, reason in known.items() if reason]
        return ["the store does not answer"]

    def await_workers(self, seconds: float = PATIENCE) -> list[str]:
        """Problems that are left after so many seconds; empty when all are there."""
        deadline = time.monotonic() + seconds
        while (absent := self.absent()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return absent

    def revive(self) -> None:
        """Replaces workers that are not fit, by force."""
        absent = " ".join(self.absent())
        for worker in self.workers:
            if worker.alive and worker.name not in absent:
                continue
            if worker.alive:
                power_off(worker.pid)
                time.sleep(0.5)
            self.start_worker(worker)
        self.await_workers()

    # -- the run -----------------------------------------------------------------------

    def dispatch(self, run: str, vendor: str, labels: Sequence[str], *options: str) -> None:
        """Starts `dct run` in the project's folder; its output goes to files of the round."""
        self.run, self.vendor = run, vendor
        self.folder.mkdir(parents=True)
        self._options = ["--json", str(self.report), "--junit-xml", str(self.junit)]
        self._start(
            [
                "run",
                *self._options,
                "--settle",
                "5",
                "--run-id",
                run,
                "--env",
                "CHAOS_*",
                "--backend",
                self.backend,
                *options,
                *self._selection(labels),
            ]
        )

    def _selection(self, labels: Sequence[str]) -> list[str]:
        if self.backend == "pytest":
            return suite.paths(labels)
        return ["--settings", "site_settings", *labels]

    def attach(self) -> None:
        """Another dispatcher for the present run."""
        self._start(["attach", self.run, *self._options])

    def _start(self, words: list[str]) -> None:
        argv = [sys.executable, "-m", "dct_celery.cli", *words]
        with self.output.open("ab") as out:
            self.dispatcher = subprocess.Popen(
                self.dispatcher_host.command(argv) if self.dispatcher_host else argv,
                env=self.environment(self.database.environment),
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def folder(self) -> Path:
        """Of the present round."""
        return self.base / "rounds" / (self.run or "none")

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    @property
    def junit(self) -> Path:
        return self.folder / "junit.xml"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def journal(self) -> Path:
        return self.fleet.folder / "state" / "dct_celery" / "runs" / f"{self.run}.jsonl"

    @property
    def database(self) -> Database:
        """The server of the present round."""
        return self.databases[self.vendor]

    @property
    def queue_key(self) -> str:
        """The list in which the broker keeps the run's messages."""
        return f"dct:{self.queue}"

    @property
    def queue(self) -> str:
        return queue_name(self.run)

    def chunks(self) -> list[Leased]:
        """The run's chunks as the store has them; empty when it does not say."""
        with (
            contextlib.suppress(redis.RedisError, ValueError, KeyError, Untrusted),
            self.store.client() as client,
        ):
            names = list(client.scan_iter(f"{keys.RunKeys(self.run).chunk_prefix}*", count=1000))
            return [_leased(fields) for fields in map(client.hgetall, names) if fields]
        return []

    def refused(self) -> int:
        """Stale writes of the run that the store has refused."""
        with contextlib.suppress(redis.RedisError), self.store.client() as client:
            return int(client.hget(keys.RunKeys(self.run).run, "refused") or 0)
        return 0

    # -- what is left ------------------------------------------------------------------

    def leftovers(self) -> set[tuple[str, str]]:
        """(kind, name) of whatever belongs to a run that is over."""
        found = {
            ("process", f"{pid} {processes.began(pid)} {command_of(pid)[-100:]}")
            for pid in self._strays()
        }
        found |= {
            ("run folder", str(path))
            for worker in self.workers
            for path in (worker.folder / "work" / "runs").glob("*")
        }
        with contextlib.suppress(redis.RedisError):
            found |= {("key", name) for name in self._lasting_keys()}
        found |= {("queue", name) for name in self._lasting_queues()}
        for vendor, database in self.databases.items():
            with (
                contextlib.suppress(Exception),
                contextlib.closing(server_for(database.spec, self.base)) as server,
            ):
                passing = [
                    one.name
                    for one in server.found()
                    if one.mark is None or one.mark.kind not in KEPT
                ]
                found |= {("database", f"{vendor} {name}") for name in passing}
        return found

    def _strays(self) -> set[int]:
        """Processes of ours that no worker's main process and pool explains."""
        explained = {
            pid for w in self.workers if w.alive for pid in (w.pid, *processes.pool_children(w.pid))
        }
        return set(marked(f"{MARK}={self.fleet.name}")) - explained

    def _lasting_keys(self) -> Iterator[str]:
        """Keys of runs that the servers would keep for longer than two minutes, queues included."""
        for server in (self.store, self.broker):
            with server.client() as client:
                for key in client.scan_iter(f"*{self.fleet.name}-*", count=10_000):
                    if not 0 <= client.ttl(key) <= 120:
                        yield key.decode(errors="replace")

    def _lasting_queues(self) -> set[str]:
        """Queues of runs at RabbitMQ.

        Asked only as long as there may be any: it takes a second or two.
        """
        if self.rabbit is not None and (self._queues or self.broker_name == "rabbitmq"):
            with contextlib.suppress(subprocess.SubprocessError):
                self._queues = {
                    name for name in self.rabbit.queues() if f"{self.fleet.name}-" in name
                }
        return self._queues


def _leased(fields: dict[bytes, bytes]) -> Leased:
    payload = json.loads(body_of(fields[b"payload"].decode()))
    worker = fields.get(b"worker", b"").decode().partition("@")[0]
    return Leased(payload["id"], fields[b"state"].decode(), worker, frozenset(payload["indices"]))


def power_off(main: int) -> None:
    """Ends a process and all that descend from it so that none of them can say goodbye."""
    pids = processes.tree(main)
    processes.send(pids, signal.SIGSTOP)
    processes.send({*pids, *processes.tree(main)}, signal.SIGKILL)  # some were forked meanwhile


@contextlib.contextmanager
def scene(
    *,
    lease: float,
    vendors: Sequence[str] = VENDORS,
    remote: bool = True,
    backend: str = "django",
) -> Iterator[Scene]:
    """Servers and workers, ended with all that they started.

    `remote`: one worker and the dispatchers in network namespaces of their own (needs root);
    `backend`: django | pytest.
    """
    with contextlib.ExitStack() as stack:
        base = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="dct-chaos-", ignore_cleanup_errors=True)
            )
        )
        net = stack.enter_context(network((NAMES[REMOTE], "dispatch"))) if remote else None
        bind = net.address if net else "127.0.0.1"
        store, broker = RedisServer(base / "store", bind), RedisServer(base / "broker", bind)
        stack.callback(store.kill)
        stack.callback(broker.kill)
        databases = {}
        for vendor in vendors:
            databases[vendor] = Database(base / vendor, bind, vendor)
            stack.callback(databases[vendor].stop)
        fleet = Fleet(base / "fleet", store.url)
        fleet.folder.mkdir()
        hosts = {NAMES[REMOTE]: net.hosts[0]} if net else {}
        workers = [Worker(name, base / name, hosts.get(name)) for name in NAMES]
        host = net.hosts[1] if net else None
        made = Scene(
            base,
            lease,
            store,
            broker,
            databases,
            suite.write(base / "project"),
            fleet,
            workers,
            host,
            backend=backend,
        )
        stack.callback(lambda: made.rabbit and made.rabbit.stop())
        stack.callback(_end, made)
        made.start_workers()
        yield made


def _end(made: Scene) -> None:
    """Lets the workers leave, then kills what is left."""
    made.dismiss()
    if made.dispatcher is not None and made.dispatcher.poll() is None:
        power_off(made.dispatcher.pid)
        made.dispatcher.wait()
    while pids := marked(f"{MARK}={made.fleet.name}"):
        processes.send(pids, signal.SIGKILL)
        time.sleep(0.05)


def has_rabbit() -> bool:
    """A RabbitMQ can be started here."""
    return bool(
        shutil.which(
            "rabbitmq-server", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        )
    )


def can_make_hosts() -> bool:
    """Network namespaces and packet filters may be used here."""
    return os.geteuid() == 0 and bool(shutil.which("ip")) and bool(shutil.which("iptables"))
