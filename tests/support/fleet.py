"""A fleet for acceptance tests.

The stock Celery CLI as workers, `dct run` as dispatcher, each a process of its own.

Every process of a fleet carries the fleet's name in its environment, so that what it leaves behind
can be found by it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import redis

from dct_celery.adapters.redisstore.registry import RedisRegistry
from dct_celery.protocol.door import Door
from dct_celery.security.signing import Keyring

#: Variable that marks every process of a fleet.
MARK = "FLEET_OF_TEST"
#: Seconds for a worker to register or to leave, and for one run, on a busy machine.
PATIENCE = 60.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE")


def until(claim: Callable[[], object], seconds: float = PATIENCE, *, what: str = "it") -> float:
    """Waits for `claim()` to be true and returns the seconds that took.

    AssertionError after `seconds`.
    """
    start = time.monotonic()
    while not claim():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"{what} did not come true within {seconds:g} s")
        time.sleep(0.02)
    return time.monotonic() - start


@dataclass(slots=True)
class Finished:
    """A `dct run` that ended."""

    code: int
    out: str
    err: str
    seconds: float
    #: The object of --json; empty when none was written.
    json: dict[str, Any]

    @property
    def error(self) -> str:
        """The one line `dct: error: ...`.

        AssertionError unless there is exactly one, and no traceback of ours.
        """
        lines = [line for line in self.err.splitlines() if line.startswith("dct: ")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("dct: error: "), self.err
        assert not self.inner_traceback, self.err
        return lines[0]

    @property
    def inner_traceback(self) -> bool:
        """A traceback that leads through our own package was shown: the project's own may be."""
        text = self.out + self.err
        return "Traceback" in text and (
            "dct_celery/dispatcher" in text or "dct_celery/worker" in text or "internal" in text
        )

    def outcomes(self) -> dict[str, str]:
        """Test id -> outcome; AssertionError for an id that is there twice."""
        tests = {test["id"]: test["outcome"] for test in self.json["tests"]}
        assert len(tests) == len(self.json["tests"]), "an id is there twice"
        return tests

    def messages(self) -> set[str]:
        """Messages of the tests that did not run."""
        return {test["message"] for test in self.json["tests"] if test["outcome"] == "not_run"}

    def __str__(self) -> str:
        return (
            f"exit {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out}\n---"
            f" stderr\n{self.err}"
        )


class Running:
    """A `dct run` that goes on."""

    def __init__(self, process: subprocess.Popen[str], report: Path, run: str) -> None:
        self.process = process
        self.run = run
        self._report = report
        self._began = time.monotonic()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def finish(self, timeout: float = PATIENCE) -> Finished:
        """Waits for its end."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(
                f"dct run did not end within {timeout:g} s\n{out}\n{err}"
            ) from None
        seconds = time.monotonic() - self._began
        report = json.loads(self._report.read_text()) if self._report.exists() else {}
        return Finished(self.process.returncode, out, err, seconds, report)


@dataclass(slots=True)
class Worker:
    """A worker process."""

    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = PATIENCE) -> int:
        return self.process.wait(timeout)

    def run_folders(self) -> list[Path]:
        """Folders of runs that this worker still keeps."""
        folder = self.folder / "runs"
        return list(folder.iterdir()) if folder.is_dir() else []

    def clones(self) -> list[str]:
        """Names of the clones that this worker has noted and not yet dropped."""
        return [path.name for path in self.folder.glob("runs/*/clones/*/*")]

    def children(self) -> list[int]:
        """Pids of the pool children."""
        return [pid for pid in child_pids(self.process.pid) if "celery" in command_of(pid)]


@dataclass(slots=True)
class Fleet:
    """One pool on a store that others may use, too. A context manager that ends what it started."""

    folder: Path
    store: str
    name: str = field(default_factory=lambda: f"t{secrets.token_hex(6)}")
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    workers: list[Worker] = field(default_factory=list)
    runs: list[Running] = field(default_factory=list)
    #: URL of the broker where it is not the store.
    broker: str = ""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.terminate()
        for worker in self.workers:
            _end(worker.process)
        for running in self.runs:
            running.process.kill()
            _end(running.process)
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Ends everything of this fleet at once, as a power cut does."""
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for worker in self.workers:
                worker.process.poll()
            for running in self.runs:
                running.process.poll()
            time.sleep(0.02)

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.store)

    @property
    def registry(self) -> RedisRegistry:
        return RedisRegistry(
            self.client, self.name, Door.of_pool(Keyring((self.key,)), self.name), tends=False
        )

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        ours = {
            "DCT_STORE": self.store,
            "DCT_POOL": self.name,
            "DCT_SIGNING_KEY": self.key,
            MARK: self.name,
        }
        ours |= {"DCT_BROKER": self.broker} if self.broker else {}
        return {**inherited, **ours, "XDG_STATE_HOME": str(self.folder / "state"), **more}

    # -- workers -----------------------------------------------------------------------

    def worker(
        self,
        name: str = "build-a",
        *,
        slots: int = 1,
        wait: bool = True,
        app: str = "dct_celery",
        host: Callable[[list[str]], list[str]] = list,
        **environment: str,
    ) -> Worker:
        """Starts a worker; with `wait` it is registered when this returns.

        `app`: the module of another Celery app; `host`: the command as it runs on another host."""
        folder = self.folder / name
        folder.mkdir()
        log = folder / "worker.log"
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            app,
            "worker",
            "-n",
            f"{name}@%h",
            "-c",
            str(slots),
        ]
        with log.open("wb") as file:
            process = subprocess.Popen(
                host([*command, "-l", "INFO"]),
                env=self.environment({"DCT_WORK_DIR": str(folder / "work"), **environment}),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = Worker(process, folder / "work", log)
        self.workers.append(worker)
        if wait:
            self.wait_for(name, worker)
        return worker

    def wait_for(self, name: str, worker: Worker) -> None:
        def there() -> bool:
            assert worker.process.poll() is None, worker.log.read_text()
            return any(info.name.startswith(f"{name}@") for info in self.registry.workers())

        until(there, what=f"registration of {name}")

    # -- runs --------------------------------------------------------------------------

    def start(self, project: Path, *flags: str, **environment: str) -> Running:
        """Starts `dct run` in the project's folder, with a run id and a JSON report of its own."""
        run = f"{self.name}-{len(self.runs)}"
        report = self.folder / f"{run}.json"
        own = [] if "--run-id" in flags else ["--run-id", run]
        return self._dispatch(
            ["run", "--json", str(report), *own, *flags],
            project,
            report,
            run,
            # What fails in a test is meant to; it need not be settled whether order is the cause.
            {"DCT_SETTLE": "0", **environment},
        )

    def attach(self, run: str, *flags: str, **environment: str) -> Running:
        """Starts `dct attach` in the fleet's folder, with a JSON report of its own."""
        report = self.folder / f"{run}.attached.json"
        return self._dispatch(
            ["attach", run, "--json", str(report), *flags], self.folder, report, run, environment
        )

    def _dispatch(
        self, command: list[str], cwd: Path, report: Path, run: str, environment: Mapping[str, str]
    ) -> Running:
        process = subprocess.Popen(
            [sys.executable, "-m", "dct_celery.cli", *command],
            env=self.environment(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running = Running(process, report, run)
        self.runs.append(running)
        return running

    def again(self, command: str, project: Path, *arguments: str, **environment: str) -> Finished:
        """Another command that runs tests, such as `dct replay`, from start to end."""
        run = f"{self.name}-{len(self.runs)}"
        report = self.folder / f"{run}.json"
        return self._dispatch(
            [command, *arguments, "--json", str(report)], project, report, run, environment
        ).finish()

    def run(self, project: Path, *flags: str, **environment: str) -> Finished:
        """`dct run` from start to end."""
        return self.start(project, *flags, **environment).finish()

    # -- what is left ------------------------------------------------------------------

    def processes(self) -> list[int]:
        """Pids of all processes of this fleet."""
        return marked(f"{MARK}={self.name}")

    def test_processes(self) -> list[int]:
        """Pids of collect processes, loaders and test processes of this fleet."""
        return sorted(set(self.processes()) & set(marked("DCT_TEST_PROCESS=1")))

    def lasting_keys(self) -> list[str]:
        """Keys of this fleet's runs that the store would keep for longer than two minutes."""
        client: Any = self.client
        # One look for all: a fleet that is shared has many runs.
        runs = {running.run for running in self.runs}
        keys = [
            key.decode()
            for key in client.scan_iter(f"*{self.name}-*", count=10_000)
            if any(run in key.decode() for run in runs)
        ]
        return [key for key in keys if not 0 <= client.ttl(key) <= 120]

    def leftovers(self) -> dict[str, list[Any]]:
        """By kind, whatever a run left behind that is over; empty when it was tidy."""
        dispatchers = [
            running.process.pid for running in self.runs if running.process.poll() is None
        ]
        found: dict[str, list[Any]] = {
            "announced runs": list(self.registry.active_runs()),
            "keys": self.lasting_keys(),
            "run folders": [folder for worker in self.workers for folder in worker.run_folders()],
            "dispatchers": dispatchers,
            "test processes": self.test_processes(),
        }
        return {kind: things for kind, things in found.items() if things}

    def assert_tidy(self, seconds: float = 15.0) -> float:
        """Nothing of any run is left within `seconds`; returns how long that took."""
        try:
            return until(lambda: not self.leftovers(), seconds)
        except AssertionError:
            raise AssertionError(f"left behind: {self.leftovers()}") from None


def _end(process: subprocess.Popen[Any]) -> None:
    """Waits a little for the process, then kills its session."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def marked(mark: str) -> list[int]:
    """Pids of living processes that were started with this text in their environment."""
    return [pid for pid in _pids() if mark.encode() in _read(pid, "environ").split(b"\0")]


def child_pids(parent: int) -> list[int]:
    return [
        pid
        for pid in _pids()
        if _read(pid, "stat").rpartition(b")")[2].split()[1:2] == [str(parent).encode()]
    ]


def command_of(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def unused_port() -> int:
    """A port of this host that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
