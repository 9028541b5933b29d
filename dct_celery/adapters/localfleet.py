"""`dct run --local N`: a private store and a worker with N slots on this machine, then the same way as always."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dct_celery.adapters.embedded.valkey import EmbeddedValkey
from dct_celery.errors import InfrastructureError
from dct_celery.settings import Settings

#: Seconds for the worker to drop its clones and go.
_LEAVE = 30.0


@contextlib.contextmanager
def local_fleet(settings: Settings) -> Iterator[tuple[Settings, dict[str, str]]]:
    """Settings that lead to a fleet of this machine alone, and where they come from. All of it is gone afterwards."""
    slots = settings.local or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="dct-local-") as folder:
        base = Path(folder)
        with EmbeddedValkey.start(base / "valkey") as valkey:
            private = replace(settings, store=valkey.url, broker=valkey.url, signing_key=secrets.token_hex(16), pool="local")
            worker = _start_worker(private, slots, base)
            try:
                yield private, dict.fromkeys(("store", "broker", "pool", "signing_key"), "--local")
            finally:
                _stop(worker, base / "worker.log")


def _start_worker(settings: Settings, slots: int, base: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DCT_", "CELERY_"))}
    environment |= {
        "DCT_STORE": settings.store,
        "DCT_BROKER": settings.broker,
        "DCT_POOL": settings.pool,
        "DCT_SIGNING_KEY": settings.signing_key or "",
        # Trees and bytecode outlive the run: the next one starts warm.
        "DCT_WORK_DIR": settings.work_dir or str(_work_folder(base)),
        "DCT_LEASE_SECONDS": str(settings.lease_seconds),
    }
    if settings.python:
        environment["DCT_PYTHON"] = settings.python
    with (base / "worker.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "dct_celery", "worker", "-n", "local@%h", "-l", "INFO", "-c", str(slots)],
            env=environment,
            cwd=base,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _work_folder(base: Path) -> Path:
    """A folder per parallel use: the first free of a few in the cache, else one that goes with the run."""
    import fcntl

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dct_celery"
    for number in range(1, 9):
        folder = cache / f"local-{number}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file, contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return folder
    return base / "work"


def _stop(worker: subprocess.Popen[bytes], log: Path) -> None:
    early = worker.poll()
    with contextlib.suppress(ProcessLookupError):
        worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _LEAVE
    while worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    if early is not None:
        tail = log.read_text(errors="backslashreplace")[-4000:]
        raise InfrastructureError(f"the local worker ended by itself (exit {early}); its last words are below", detail=tail)
