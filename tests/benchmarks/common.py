"""Owns the stage of every benchmark.

Servers, workers, `dct run` and the stock runner, and how figures are printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dct_celery.adapters.embedded.postgres import EmbeddedPostgres
from dct_celery.adapters.embedded.valkey import EmbeddedValkey
from tests.benchmarks.hosts import Host, Network, network
from tests.support.mariadb import EmbeddedMariaDB

ORACLE = Path(__file__).parent.parent / "torture" / "oracle.py"
#: Seconds for a worker to register, and for one to leave.
_START, _LEAVE = 60.0, 30.0


@dataclass(frozen=True, slots=True)
class Project:
    """A suite that can be run by the stock runner and by us, with one environment."""

    name: str
    #: The folder both are started in.
    folder: Path
    #: Interpreter of the project; not the one of the worker or dispatcher.
    python: str
    labels: tuple[str, ...] = ()
    settings: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Variables (names or globs) that `dct run` hands on.
    forwarded: tuple[str, ...] = ()
    #: Prefix of its database variables: <prefix>HOST, PORT, USER, PASSWORD, NAME.
    database_variables: str = "SUITE_DB"


@dataclass(frozen=True, slots=True)
class Timed:
    """One command that has ended: wall seconds, exit code, what it printed."""

    seconds: float
    code: int
    log: str


class Stage:
    """Servers that run, and the workers that were started on them. Made by `stage`."""

    def __init__(
        self,
        base: Path,
        valkey: EmbeddedValkey,
        server: EmbeddedPostgres | EmbeddedMariaDB,
        net: Network | None,
    ) -> None:
        self.base = base
        self.store = valkey.url
        self._server = server
        self._network = net
        self._key = secrets.token_hex(16)
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def database(self, project: Project, name: str) -> dict[str, str]:
        """Variables that lead the project to our database server, its databases called `name`."""
        server = self._server
        values = {
            "HOST": server.host,
            "PORT": str(server.port),
            "USER": server.user,
            "PASSWORD": server.password,
            "NAME": name,
        }
        return {project.database_variables + key: value for key, value in values.items()}

    def variables(self) -> dict[str, str]:
        """Settings that dispatcher and workers of this stage share."""
        return {"DCT_STORE": self.store, "DCT_SIGNING_KEY": self._key, "DCT_POOL": "bench"}

    # -- workers -----------------------------------------------------------------------

    def start_workers(
        self, python: str, workers: int, slots: int, hidden: Sequence[Path] = ()
    ) -> None:
        """`workers` workers that share `slots`.

        Each in a host of its own where the stage has a network.
        """
        for number in range(workers):
            self.start_worker(
                f"build-{'abcdefgh'[number]}",
                python,
                slots // workers + (number < slots % workers),
                hidden,
            )
        self.wait_for(workers)

    def start_worker(
        self, name: str, python: str, slots: int, hidden: Sequence[Path] = ()
    ) -> float:
        """Starts one and returns at once: the moment of its start (Unix time)."""
        home = self.base / name
        (home / "tmp").mkdir(parents=True)
        environment = {
            **_plain_environment(),
            **self.variables(),
            "DCT_PYTHON": python,
            "DCT_WORK_DIR": str(home / "work"),
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
        }
        argv = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "dct_celery",
            "worker",
            "-n",
            f"{name}@%h",
            "-c",
            str(slots),
            "-l",
            "INFO",
        ]
        host = self._host(len(self._workers))
        with (home / "worker.log").open("wb") as log:
            self._workers[name] = subprocess.Popen(
                host.command(argv, hidden) if host else argv,
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return time.time()

    def wait_for(self, workers: int) -> float:
        """Returns when so many workers are registered, with the Unix time of that moment."""
        from dct_celery.adapters.redisstore import client, registry
        from dct_celery.protocol.door import Door
        from dct_celery.security.signing import Keyring

        door = Door.of_pool(Keyring((self._key,)), "bench")
        known = registry.RedisRegistry(client.connect(self.store), "bench", door)
        deadline = time.monotonic() + _START
        while len(known.workers()) < workers:
            if time.monotonic() > deadline or any(
                process.poll() is not None for process in self._workers.values()
            ):
                raise SystemExit("a worker did not start:\n" + self._worker_logs())
            time.sleep(0.01)
        return time.time()

    def stop_workers(self) -> None:
        for process in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._workers.clear()

    def _host(self, number: int) -> Host | None:
        return self._network.hosts[number % len(self._network.hosts)] if self._network else None

    def _worker_logs(self) -> str:
        logs = (self.base / name / "worker.log" for name in self._workers)
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in logs)

    # -- runs --------------------------------------------------------------------------

    def dct_run(self, project: Project, name: str, *options: str) -> tuple[Timed, dict[str, Any]]:
        """`dct run` in the project's folder.

        How long the command took, and its JSON report ({} without one).
        """
        report = self.base / "report.json"
        report.unlink(missing_ok=True)
        argv = [
            sys.executable,
            "-P",
            "-m",
            "dct_celery.cli",
            "run",
            "--python",
            project.python,
            "--json",
            str(report),
            *options,
        ]
        argv += [f"--env={glob}" for glob in project.forwarded]
        argv += [f"--settings={project.settings}"] if project.settings else []
        own = {"XDG_STATE_HOME": str(self.base / "state"), **self.variables()}
        timed = self.run([*argv, *project.labels], project, name, own)
        return timed, json.loads(report.read_text()) if report.exists() else {}

    def stock(self, project: Project, name: str, *options: str) -> Timed:
        """The stock test command with the project's interpreter."""
        manage = "manage.py" if (project.folder / "manage.py").exists() else "-mdjango"
        settings = [f"--settings={project.settings}"] if project.settings else []
        argv = [project.python, manage, "test", "--noinput", *options, *settings, *project.labels]
        return self.run(argv, project, name)

    def oracle(self, project: Project, name: str, out: Path) -> Timed:
        """The sequential oracle; writes `out`."""
        settings = [f"--settings={project.settings}"] if project.settings else []
        return self.run(
            [project.python, str(ORACLE), "--out", str(out), "--", *settings, *project.labels],
            project,
            name,
        )

    def run(
        self, argv: Sequence[str], project: Project, name: str, own: Mapping[str, str] | None = None
    ) -> Timed:
        environment = {
            **_plain_environment(),
            **(own or {}),
            **project.environment,
            **self.database(project, name),
        }
        start = time.monotonic()
        done = subprocess.run(
            argv,
            cwd=project.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        return Timed(time.monotonic() - start, done.returncode, done.stdout)


@contextlib.contextmanager
def stage(*, netns: bool = False, mariadb: bool = False) -> Iterator[Stage]:
    """A private store and PostgreSQL (or MariaDB) in a temporary folder, with workers.

    With `netns`, they are on the bridge.
    """
    with contextlib.ExitStack() as stack:
        base = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="dct-bench-", ignore_cleanup_errors=True)
            )
        )
        net = stack.enter_context(network()) if netns else None
        bind = net.address if net else "127.0.0.1"
        valkey = stack.enter_context(EmbeddedValkey.start(base / "valkey", bind=bind))
        server: EmbeddedPostgres | EmbeddedMariaDB
        if mariadb:
            server = stack.enter_context(EmbeddedMariaDB.start(base / "database", bind=bind))
        else:
            server = stack.enter_context(EmbeddedPostgres.start(base / "database", bind=bind))
        made = Stage(base, valkey, server, net)
        stack.callback(made.stop_workers)
        yield made


def alternate(
    times: int, sides: Mapping[str, Callable[[], Timed]], accept: frozenset[int] = frozenset({0})
) -> dict[str, float]:
    """Runs the sides A B A B ...; prints every wall time and returns the medians.

    SystemExit if a side fails.
    """
    walls: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(times):
        for side, command in sides.items():
            timed = command()
            if timed.code not in accept:
                raise SystemExit(f"{side} ended with {timed.code}:\n{timed.log[-5000:]}")
            walls[side].append(timed.seconds)
    for side, seconds in walls.items():
        print(
            f"{side:<28} {' '.join(f'{s:7.2f}' for s in seconds)}   median "
            f"{statistics.median(seconds):7.2f} s",
            flush=True,
        )
    return {side: statistics.median(seconds) for side, seconds in walls.items()}


def phases(report: Mapping[str, Any]) -> str:
    """The parts of a run from its JSON report, in seconds."""
    return "  ".join(f"{part} {seconds:.2f}" for part, seconds in report.get("seconds", {}).items())


def _plain_environment() -> dict[str, str]:
    dropped = ("DCT_", "CELERY_", "DJANGO_", "SUITE_", "TORTURE_", "PYTHON", "PG")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
