"""Workers that a dispatcher starts itself.

`--local N` starts one with a private store and broker, `--local-fallback N` one in the fleet's
pool. From there on they work like any other worker.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from dct_celery.adapters.embedded import child
from dct_celery.adapters.embedded.valkey import EmbeddedValkey
from dct_celery.machine import room
from dct_celery.security.files import try_lock
from dct_celery.security.folders import state_folder
from dct_celery.settings import OPTIONS, Settings

#: Seconds for the worker to drop its clones and end: longer than `worker.host.host.Host.stop`
#: takes.
_LEAVE = 45.0
#: The pool of a fleet on this machine alone.
POOL = "local"
_KEY = "local.key"
#: For the worker: the pid of its dispatcher, and the folder that is removed with it.
_DISPATCHER = "_DCT_DISPATCHER"
_FOLDER = "_DCT_FOLDER"


@dataclass(frozen=True, slots=True)
class LocalFleet:
    """Settings for a fleet on this machine alone, and their origins."""

    settings: Settings
    origins: dict[str, str]
    _worker: subprocess.Popen[bytes]
    _log: Path

    def failure(self) -> str:
        """Why the worker ended, with the end of its log below; empty while it lives."""
        code = self._worker.poll()
        if code is None:
            return ""
        return (
            f"the local worker ended by itself (exit {code}); the end of its log is"
            f" below\n{child.tail(self._log)}"
        )


@contextlib.contextmanager
def local_fleet(settings: Settings, slots: int, environ: Mapping[str, str]) -> Iterator[LocalFleet]:
    """A running store and worker, removed afterwards, even if this process is killed.

    `environ`: the variables of the user.
    """
    with (
        tempfile.TemporaryDirectory(prefix="dct-local-") as folder,
        _work_folder(settings, Path(folder)) as work,
    ):
        base = Path(folder)
        with EmbeddedValkey.start(base / "valkey") as valkey:
            private = replace(
                settings,
                store=valkey.url,
                broker=valkey.url,
                signing_key=local_key(state_folder(os.environ)),
                pool=POOL,
            )
            worker = _start_worker(private, environ, "local", slots, base, work)
            try:
                origins = dict.fromkeys(("store", "broker", "pool", "signing_key"), "--local")
                yield LocalFleet(private, origins, worker, log_of(settings, base))
            finally:
                child.stop(worker, signal.SIGTERM, _LEAVE)


def log_of(settings: Settings, base: Path) -> Path:
    """Where the log of a worker of ours goes: where it is wanted, else into its own folder."""
    wanted = settings.log_file
    return Path(settings.project_dir, wanted) if wanted else base / "worker.log"


def local_key(state: Path) -> str:
    """The key of this user's local runs: one that lasts, so that their journals can be verified.

    Where it cannot be kept, a new one.
    """
    if kept := kept_local_key(state):
        return kept
    key, draft = secrets.token_hex(16), state / f".{_KEY}.{secrets.token_hex(4)}"
    with contextlib.suppress(OSError):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
                new.write(key)
            os.link(draft, state / _KEY)  # fails if another first run was faster
        finally:
            draft.unlink(missing_ok=True)
    return kept_local_key(state) or key


def kept_local_key(state: Path) -> str:
    """The key, if there is one that only its owner can read; else empty."""
    path = state / _KEY
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o077:
            return path.read_text("ascii").strip()
    return ""


class Standby:
    """A worker on this machine for a pool without workers. A context manager that ends it."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._stack = contextlib.ExitStack()

    def start(self) -> int:
        """Starts it; returns its number of slots."""
        slots = self._settings.capped(
            self._settings.local_fallback or self._settings.room(room().count)
        )
        base = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dct-fallback-")))
        work = self._stack.enter_context(_work_folder(self._settings, base))
        # A unique name: several dispatchers on one machine may need such a worker.
        worker = _start_worker(
            self._settings,
            self._environ,
            f"fallback-{secrets.token_hex(3)}",
            slots,
            base,
            work,
        )
        self._stack.callback(child.stop, worker, signal.SIGTERM, _LEAVE)
        return slots

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _start_worker(
    settings: Settings,
    environ: Mapping[str, str],
    name: str,
    slots: int,
    base: Path,
    work: Path,
) -> subprocess.Popen[bytes]:
    environment = worker_environment(settings, environ, work)
    environment |= {_DISPATCHER: str(os.getpid()), _FOLDER: str(base)}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "dct_celery",
        "worker",
        "-n",
        f"{name}@%h",
        "-l",
        settings.log_level.upper(),
        "-c",
        str(slots),
    ]
    with log_of(settings, base).open("wb") as log:
        return child.launch(command, log=log, env=environment, cwd=base)


def left_alone(environ: Mapping[str, str]) -> bool:
    """This worker is one that a dispatcher started, and the dispatcher was killed."""
    dispatcher = environ.get(_DISPATCHER)
    return dispatcher is not None and dispatcher != str(os.getppid())


def remove_own_folder(environ: Mapping[str, str]) -> None:
    """Removes the temporary folder that the dispatcher would have removed."""
    shutil.rmtree(environ[_FOLDER], ignore_errors=True)


def worker_environment(
    settings: Settings, environ: Mapping[str, str], work: Path
) -> dict[str, str]:
    """The variables of a worker with these settings.

    PYTHONWARNINGS is for the tests, which get it with the run: a warning of Celery's (a worker
    that root has started) must not end the worker.
    """
    environment = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("DCT_", "CELERY_")) and name != "PYTHONWARNINGS"
    }
    environment |= {
        "DCT_STORE": settings.store,
        "DCT_BROKER": settings.broker,
        "DCT_POOL": settings.pool,
        "DCT_SIGNING_KEY": settings.signing_key or "",
        "DCT_WORK_DIR": str(work),
        "DCT_INSECURE": "1" if settings.insecure else "",
    }
    # This command takes the options of workers, too, as it starts one.
    for option in OPTIONS:
        value = getattr(settings, option.name)
        plain = option.kind in ("int", "float", "bool") or option.choices
        if option.group == "worker" and plain and value != option.default:
            environment[option.variable] = str(value)
    if settings.python:
        environment["DCT_PYTHON"] = settings.python
    return environment


@contextlib.contextmanager
def _work_folder(settings: Settings, base: Path) -> Iterator[Path]:
    """The worker's folder: the one in the settings, else one in the cache, else a temporary one.

    A few folders are kept in the cache: their trees and bytecode let the next run start warm.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dct_celery"
    candidates = [cache / f"local-{number}" for number in range(1, 9)]
    with contextlib.ExitStack() as stack:
        if settings.work_dir:
            yield Path(settings.project_dir, settings.work_dir)
            return
        yield next((folder for folder in candidates if _held(folder, stack)), base / "work")


def _held(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Locks the folder for this process.

    False if another run has it, or a worker that outlived its run.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    claim = stack.enter_context((folder / "claim").open("w"))
    with (folder / "lock").open("w") as worker_lock:
        return try_lock(claim) and try_lock(worker_lock)
