"""The demo: two workers and a dispatcher on one machine, on servers of their own; nothing of it
stays but junit.xml.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dct_celery.adapters.embedded import EmbeddedPostgres, EmbeddedValkey, child
from dct_celery.errors import DctError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "tests" / "sample_project"
JUNIT = ROOT / "junit.xml"
WORKERS = ("build-a", "build-b")
STOP_SECONDS = 20.0
INFRASTRUCTURE, INTERRUPTED, TESTS_FAILED = 7, 2, 1


@dataclass
class Worker:
    """A worker's process and where it writes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    reported: bool = False


class Signals:
    """Ctrl-C and friends: during the run they are dct's to answer, otherwise they end the demo."""

    def __init__(self) -> None:
        self.run: subprocess.Popen[bytes] | None = None
        self.closing = False
        self.seen = False
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.closing:
            return  # everything is being stopped, within STOP_SECONDS
        self.seen = True
        if self.run is None:
            self.closing = True
            raise KeyboardInterrupt
        self.run.send_signal(signal.SIGINT)


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="deploy/demo", description=__doc__)
    parser.add_argument(
        "--broken", action="store_true", help="break the sample project first, to see failures"
    )
    options = parser.parse_args()
    signals = Signals()
    try:
        with ExitStack() as stack:
            try:
                code = demo(stack, signals, broken=options.broken)
            finally:
                signals.closing = (
                    True  # before the stack unwinds: the clean-up is not to be interrupted
                )
    except DctError as error:
        say(f"error: {error}")
        print(error.detail, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    if signals.seen and not JUNIT.exists():
        return INTERRUPTED  # dct may have been too young to answer a signal with its own exit code
    return conclude(code, broken=options.broken)


def demo(stack: ExitStack, signals: Signals, *, broken: bool) -> int:
    """Start everything, run the suite, return dct's exit code; `stack` stops and removes what was
    started.
    """
    temp = Path(tempfile.mkdtemp(prefix="dct-demo-"))
    stack.callback(shutil.rmtree, temp, ignore_errors=True)
    say("starting Valkey and PostgreSQL")
    valkey = stack.enter_context(EmbeddedValkey.start(temp / "valkey"))
    postgres = stack.enter_context(EmbeddedPostgres.start(temp / "postgres"))
    env = environment(valkey, postgres, broken=broken)
    say(f"starting workers {' and '.join(WORKERS)}")
    workers: list[Worker] = []
    stack.callback(stop_workers, workers)
    workers.extend(start_worker(name, temp, env) for name in WORKERS)
    return dispatch(signals, workers, env)


def environment(
    valkey: EmbeddedValkey, postgres: EmbeddedPostgres, *, broken: bool
) -> dict[str, str]:
    """Ours plus what workers and dispatcher share; nothing that steers dct or the project comes
    from outside.
    """
    foreign = ("DCT_", "DJANGO_", "CELERY_", "BOOKSHOP_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env |= {
        "DCT_STORE": valkey.url,
        "DCT_BROKER": valkey.url,
        "DCT_SIGNING_KEY": secrets.token_hex(32),
        "BOOKSHOP_DB": "pg",
        "BOOKSHOP_DB_HOST": postgres.host,
        "BOOKSHOP_DB_PORT": str(postgres.port),
        "BOOKSHOP_DB_USER": postgres.user,
        "BOOKSHOP_DB_PASSWORD": postgres.password,
    }
    return env | ({"BOOKSHOP_BROKEN": "1"} if broken else {})


def start_worker(name: str, temp: Path, env: dict[str, str]) -> Worker:
    """A worker with its own folder, as if on its own machine, outside the checkout."""
    folder = temp / name
    folder.mkdir()
    log = folder / "worker.log"
    argv = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "dct_celery",
        "worker",
        "--concurrency",
        "1",
        "-n",
        f"{name}@%h",
    ]
    with log.open("wb") as output:
        process = child.launch(
            argv, log=output, env=env | {"DCT_WORK_DIR": str(folder / "work")}, cwd=folder
        )
    return Worker(name, process, log)


def dispatch(signals: Signals, workers: list[Worker], env: dict[str, str]) -> int:
    """`dct run` with its output straight to the terminal. In a session of its own: it hears a
    Ctrl-C once, from us.
    """
    argv = [
        str(Path(sys.executable).parent / "dct"),
        "run",
        "--junit-xml",
        str(JUNIT),
        "--env",
        "BOOKSHOP_*",
    ]
    say(f"dct run --junit-xml junit.xml   (in {PROJECT.relative_to(ROOT)})")
    JUNIT.unlink(missing_ok=True)
    run = subprocess.Popen(argv, cwd=PROJECT, env=env, start_new_session=True)
    signals.run = run
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return run.wait(0.2)
            if not [worker for worker in workers if lives(worker)]:
                return give_up(run)
    finally:
        signals.run = None
        child.kill_session(run)


def lives(worker: Worker) -> bool:
    """Whether the worker lives; the end of a dead one's log is printed, once."""
    if worker.process.poll() is None:
        return True
    if not worker.reported:
        worker.reported = True
        say(f"worker {worker.name} ended with {worker.process.returncode}; the end of its log:")
        print(child.tail(worker.log), file=sys.stderr, flush=True)
    return False


def give_up(run: subprocess.Popen[bytes]) -> int:
    """End a run that has no worker left."""
    say("no worker is left")
    run.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        run.wait(STOP_SECONDS)
    return INFRASTRUCTURE


def stop_workers(workers: list[Worker]) -> None:
    """Drain all at once, then kill what is left of each."""
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        child.kill_session(worker.process)


def conclude(code: int, *, broken: bool) -> int:
    """Say where the report is; a broken project is to fail."""
    say(f"report: {JUNIT}" if JUNIT.exists() else "no report was written")
    if broken and code == TESTS_FAILED:
        say("the tests failed, as --broken is to show: exit 0 instead of 1")
        return 0
    if broken and code == 0:
        say("the project was broken and no test failed")
        return TESTS_FAILED
    return code if code >= 0 else INFRASTRUCTURE


def say(text: str) -> None:
    """A line of the demo's own; flushed, as others write to the same terminal."""
    bold, plain = (
        ("\033[1m", "\033[0m")
        if sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        else ("", "")
    )
    print(f"{bold}== {text}{plain}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
